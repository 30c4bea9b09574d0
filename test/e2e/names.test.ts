import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { textApp } from '../support/git-house.ts';
import { type RealStack, startRealStack } from '../support/real-stack.ts';

let rig: RealStack;
beforeAll(async () => {
  rig = await startRealStack();
});
afterAll(() => rig?.close());

describe('names', () => {
  it("two owners' same-named repositories each get an address of their own", async () => {
    const [one, two] = [
      { owner: 'acme', repo: 'shop', number: 7 },
      { owner: 'globex', repo: 'shop', number: 7 },
    ];
    const [first, second] = [
      await rig.git.push('acme/shop', textApp('acme'), { pull: 7 }),
      await rig.git.push('globex/shop', textApp('globex'), { pull: 7 }),
    ];
    await rig.deliver(one, 'opened', first);
    await rig.live(one, first);
    await rig.deliver(two, 'opened', second);
    const { slug } = await rig.live(two, second);
    expect(slug).toMatch(/^shop-7-[a-z0-9]{6}$/);
    expect((await rig.visit('shop-7')).body).toBe('acme /\n');
    expect((await rig.visit(slug)).body).toBe('globex /\n');
    await rig.deliver(one, 'closed', first);
    await rig.gone(one);
    expect((await rig.visit('shop-7')).status).toBe(404);
    expect((await rig.visit(slug)).body).toBe('globex /\n');
    await rig.deliver(two, 'closed', second);
    await rig.gone(two);
  });

  it('api-foo#42 stands beside foo#42 with the prefix "api"', async () => {
    const [foo, apiFoo] = [
      { owner: 'acme', repo: 'foo', number: 42 },
      { owner: 'acme', repo: 'api-foo', number: 42 },
    ];
    const meta = {
      appServices: ['web'],
      database: 'container',
      routes: [{ path: '/', port: 3000 }],
      hostSecrets: [],
      extraHosts: [{ prefix: 'api', routes: [{ path: '/', port: 3000 }] }],
    };
    const fooSha = await rig.git.push(
      'acme/foo',
      { ...textApp('foo'), 'preview-meta.json': JSON.stringify(meta) },
      { pull: 42 },
    );
    const apiSha = await rig.git.push('acme/api-foo', textApp('api-foo'), { pull: 42 });
    await rig.deliver(apiFoo, 'opened', apiSha);
    await rig.live(apiFoo, apiSha);
    await rig.deliver(foo, 'opened', fooSha);
    await rig.live(foo, fooSha);
    expect((await rig.visit('api-foo-42')).body).toBe('api-foo /\n');
    expect((await rig.visit('foo-42')).body).toBe('foo /\n');
    const { stdout } = await import('execa').then(({ execa }) => execa('ls', [rig.layout.hostnames]));
    const extra = stdout.split('\n').find((name) => /^api-foo-42-[a-z0-9]{6}\.json$/.test(name));
    expect(extra).toBeDefined();
    expect((await rig.visit((extra as string).replace('.json', ''))).body).toBe('foo /\n');
    for (const [pr, sha] of [
      [foo, fooSha],
      [apiFoo, apiSha],
    ] as const) {
      await rig.deliver(pr, 'closed', sha);
      await rig.gone(pr);
    }
    expect(await rig.left()).toEqual([]);
  });
});
