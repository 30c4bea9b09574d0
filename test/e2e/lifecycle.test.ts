import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keepVisiting } from '../../src/cli/demo/visitor.ts';
import { textApp } from '../support/git-house.ts';
import { type RealStack, startRealStack } from '../support/real-stack.ts';

let rig: RealStack;
beforeAll(async () => {
  rig = await startRealStack();
});
afterAll(() => rig?.close());

describe('a pull request, from open to close', () => {
  const pr = { owner: 'Acme', repo: 'shop', number: 1 };

  it('is live, follows a push without one failed request, and vanishes without a trace', async () => {
    const first = await rig.git.push('Acme/shop', textApp('first'), { branch: 'change', pull: 1 });
    const opened = await rig.deliver(pr, 'opened', first);
    expect(opened).toEqual({
      status: 202,
      body: { status: 'accepted', workflowId: 'preview/acme/shop/1', slug: 'shop-1' },
    });

    const live = await rig.live(pr, first);
    expect(live.url).toBe(rig.url('shop-1', '').replace(/\/$/, ''));
    const answer = await rig.visit('shop-1');
    expect(answer).toMatchObject({ status: 200, body: 'first /\n', headers: { 'x-tekton-sha': first } });

    const crowd = keepVisiting(rig.url('shop-1'), 4);
    const second = await rig.git.push('Acme/shop', textApp('second'), { branch: 'change', pull: 1 });
    await rig.deliver(pr, 'synchronize', second);
    await rig.live(pr, second);
    await rig.until(pr, 'drained', (s) => s.deployments.length === 1);
    const visits = await crowd.stop();
    expect(visits.failed).toEqual([]);
    expect(visits.bySha.get(first)).toBeGreaterThan(0);
    expect(visits.bySha.get(second)).toBeGreaterThan(0);
    expect(await rig.visit('shop-1')).toMatchObject({ body: 'second /\n', headers: { 'x-tekton-sha': second } });

    await rig.deliver(pr, 'closed', second);
    await rig.gone(pr);
    expect((await rig.visit('shop-1')).status).toBe(404);
    expect(await rig.left()).toEqual([]);
  });
});
