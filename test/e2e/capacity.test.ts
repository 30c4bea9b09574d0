import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { textApp } from '../support/git-house.ts';
import { type RealStack, startRealStack } from '../support/real-stack.ts';

describe('a full ring', () => {
  let rig: RealStack;
  beforeAll(async () => {
    // 127.213.0.0/28 has six pairs beside network and broadcast; some of them are kept for updates.
    rig = await startRealStack({ subnet: '127.213.0.0/28' });
  });
  afterAll(() => rig?.close());

  it('queues what does not fit, says which place, and lets updates through', async () => {
    const prs = Array.from({ length: 8 }, (_, i) => ({ owner: 'acme', repo: 'ring', number: i + 1 }));
    const shas = new Map<number, string>();
    for (const pr of prs) {
      shas.set(
        pr.number,
        await rig.git.push('acme/ring', textApp(`ring ${pr.number}`), { branch: `b${pr.number}`, pull: pr.number }),
      );
      await rig.deliver(pr, 'opened', shas.get(pr.number) as string);
    }
    const settled = await expect
      .poll(
        async () => {
          const states = await Promise.all(prs.map((pr) => rig.status(pr).catch(() => undefined)));
          const done = states.every((s) => s?.phase === 'live' || (s?.phase === 'queued' && (s.place ?? 0) > 0));
          return done ? states : undefined;
        },
        { timeout: 60_000, interval: 200 },
      )
      .toBeDefined()
      .then(() => Promise.all(prs.map((pr) => rig.status(pr))));
    const live = settled.filter((s) => s.phase === 'live');
    const queued = settled.filter((s) => s.phase === 'queued');
    expect(live.length).toBeGreaterThanOrEqual(3);
    expect(queued.map((s) => s.place).sort()).toEqual(queued.map((_, i) => i + 1));

    const first = { owner: 'acme', repo: 'ring', number: live[0]?.source.number as number };
    const pushed = await rig.git.push('acme/ring', textApp('pushed'), {
      branch: `b${first.number}`,
      pull: first.number,
    });
    await rig.deliver(first, 'synchronize', pushed);
    await rig.live(first, pushed);
    await rig.until(first, 'drained', (s) => s.deployments.length === 1);

    await rig.deliver(first, 'closed', pushed);
    await rig.gone(first);
    const next = queued.find((s) => s.place === 1)?.source.number as number;
    await rig.live({ ...first, number: next }, shas.get(next) as string);

    for (const pr of prs)
      await rig.deliver(pr, 'closed', shas.get(pr.number) as string, { updatedAt: new Date(Date.now() + 60_000) });
    for (const pr of prs) await rig.gone(pr);
    expect(await rig.left()).toEqual([]);
  });
});

describe('twenty pull requests at once', () => {
  let rig: RealStack;
  beforeAll(async () => {
    rig = await startRealStack();
  });
  afterAll(() => rig?.close());

  it('are all live with their own commit, then all gone', async () => {
    const prs = Array.from({ length: 20 }, (_, i) => ({ owner: 'acme', repo: 'crowd', number: i + 1 }));
    const shas: string[] = [];
    for (const pr of prs)
      shas.push(
        await rig.git.push('acme/crowd', textApp(`app ${pr.number}`), { branch: `b${pr.number}`, pull: pr.number }),
      );
    await Promise.all(prs.map((pr, i) => rig.deliver(pr, 'opened', shas[i] as string)));
    await Promise.all(prs.map((pr, i) => rig.live(pr, shas[i] as string)));
    for (const [i, pr] of prs.entries()) {
      expect(await rig.visit(`crowd-${pr.number}`)).toMatchObject({
        body: `app ${pr.number} /\n`,
        headers: { 'x-tekton-sha': shas[i] },
      });
    }
    await Promise.all(prs.map((pr, i) => rig.deliver(pr, 'closed', shas[i] as string)));
    await Promise.all(prs.map((pr) => rig.gone(pr)));
    expect(await rig.left()).toEqual([]);
  });
});
