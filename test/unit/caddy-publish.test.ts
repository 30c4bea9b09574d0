import { copyFile, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { routeActivities } from '../../src/activities/route.ts';
import { previewFragment } from '../../src/domain/caddy.ts';
import type { CaddyPublisher } from '../../src/host/caddy.ts';
import { caddyAdmin } from '../../src/host/caddy-admin.ts';
import { createHostnames } from '../../src/host/hostnames.ts';
import { createProgress } from '../../src/host/progress.ts';
import {
  ask,
  hostOf,
  previewOf,
  simpleRoute,
  type TestApp,
  type TestCaddy,
  testApp,
  testCaddy,
} from '../support/caddy.ts';

const sha1 = '1'.repeat(40);
let caddy: TestCaddy;
let publisher: CaddyPublisher;
let app: TestApp;
let routes: ReturnType<typeof routeActivities>;
const opened = new Set<string>();

beforeAll(async () => {
  caddy = await testCaddy();
  await caddy.start();
  app = await testApp((_, response) => response.end('app'));
  publisher = caddy.publisher();
  await publisher.sync();
  routes = routesOf(publisher);
});
afterAll(async () => {
  await caddy.close();
  await app.close();
});
afterEach(async () => {
  await Promise.all([...opened].map((slug) => routes.removeRoute({ preview: previewOf(slug) })));
  opened.clear();
});

function routesOf(one: CaddyPublisher) {
  const { layout, settings, publicUrl } = caddy;
  return routeActivities({
    caddy: one,
    settings,
    hostnames: createHostnames(layout),
    progress: createProgress(layout),
    publicUrl,
  });
}

function open(slug: string, sha = sha1, through = routes) {
  opened.add(slug);
  return through.writeRoute({ preview: previewOf(slug), route: simpleRoute(slug, sha, app.address) });
}

const status = async (slug: string) => (await ask(caddy.port, `${slug}.preview.localhost`)).status;
const file = (name: string) => join(caddy.layout.caddyPreviews, name);
const reloads = () => caddy.said.filter((text) => text.startsWith('Caddy reloaded')).length;
const fragmentOf = (slug: string, hosts = [hostOf(slug)]) =>
  previewFragment(caddy.settings, { slug, hosts, meta: simpleRoute(slug, sha1, app.address).meta });

describe('publishing', () => {
  test('a new shape reloads, a new address does not, a removed preview is a 404', async () => {
    expect(await open('shape-1')).toEqual({ reloaded: true });
    const before = reloads();
    expect(await open('shape-1', '2'.repeat(40))).toEqual({ reloaded: false });
    expect(reloads()).toBe(before);
    const answer = await ask(caddy.port, 'shape-1.preview.localhost');
    expect([answer.status, answer.headers['x-tekton-sha'], answer.body]).toEqual([200, '2'.repeat(40), 'app']);
    await routes.removeRoute({ preview: previewOf('shape-1') });
    expect(await status('shape-1')).toBe(404);
    await expect(stat(join(caddy.layout.live, 'shape-1'))).rejects.toThrow('ENOENT');
  });

  test('removing what was never published does not reload', async () => {
    const before = reloads();
    await routes.removeRoute({ preview: previewOf('never-1') });
    await routes.removeRoute({ preview: previewOf('never-1') });
    expect(reloads()).toBe(before);
  });

  test('a push during the open of another preview does not reload', async () => {
    await open('steady-1');
    const opening = open('other-1');
    expect(await open('steady-1', '3'.repeat(40))).toEqual({ reloaded: false });
    await opening;
  });

  test('the first goes at once; those that come within the interval share one reload', async () => {
    const slow = caddy.publisher({ minIntervalMs: 600 });
    await slow.sync();
    await sleep(600);
    const through = routesOf(slow);
    const before = reloads();
    const began = performance.now();
    const first = open('burst-0', sha1, through).then(() => performance.now() - began);
    await sleep(100);
    await Promise.all(Array.from({ length: 30 }, (_, i) => open(`burst-${i + 1}`, sha1, through)));
    expect(await first).toBeLessThan(500);
    expect(reloads() - before).toBe(2);
    for (let i = 0; i <= 30; i++) expect(await status(`burst-${i}`)).toBe(200);
  });

  test('when publish returns, the preview answers: 60 staggered opens and closes, none lost', async () => {
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        await sleep(i * 15);
        await open(`stagger-${i}`);
        expect(await status(`stagger-${i}`)).toBe(200);
        if (i % 2 === 0) await routes.removeRoute({ preview: previewOf(`stagger-${i}`) });
        if (i % 2 === 0) expect(await status(`stagger-${i}`)).toBe(404);
      }),
    );
    for (let i = 1; i < 60; i += 2) expect(await status(`stagger-${i}`)).toBe(200);
  });
});

describe('a fragment that Caddy refuses', () => {
  test('alone is never written', async () => {
    await expect(
      publisher.publish('broken-1', 'http://broken-1.preview.localhost {\n\tnonsense\n}\n'),
    ).rejects.toMatchObject({
      type: 'CaddyRefused',
      nonRetryable: true,
      message: expect.stringContaining('nonsense'),
    });
    await expect(stat(file('broken-1.caddy'))).rejects.toThrow('ENOENT');
  });

  test('only when it is provisioned is put back, and the others of its batch are published', async () => {
    await open('good-1');
    opened.add('bad-1');
    const old = `${fragmentOf('bad-1').slice(0, -2)}\t@x vars_regexp tekton_record (?m)^\n\trespond @x 418\n}\n`;
    await publisher.publish('bad-1', old);
    // A regular expression that doesn't compile passes adapt, which compiles none.
    const bad = old.replace('(?m)^', '(?m)^(');
    expect(await caddyAdmin(caddy.adminUrl).adapt(bad.replace('invoke', '# invoke'))).toEqual({});
    const [refused, good, other] = await Promise.allSettled([
      publisher.publish('bad-1', bad),
      open('good-2'),
      open('good-3'),
    ]);
    expect(refused).toMatchObject({ status: 'rejected', reason: { type: 'CaddyRefused' } });
    expect(refused).toMatchObject({ reason: { message: expect.stringContaining('bad-1') } });
    expect([good.status, other.status]).toEqual(['fulfilled', 'fulfilled']);
    expect(await readFile(file('bad-1.caddy'), 'utf8')).toBe(old);
    for (const slug of ['good-1', 'good-2', 'good-3']) expect(await status(slug)).toBe(200);
  });

  test('for a hostname that another preview has is refused, and the other keeps it', async () => {
    await open('mine-1');
    const thief = fragmentOf('thief-1', [{ ...hostOf('mine-1') }]);
    await expect(publisher.publish('thief-1', thief)).rejects.toMatchObject({ type: 'CaddyRefused' });
    await expect(stat(file('thief-1.caddy'))).rejects.toThrow('ENOENT');
    expect(await status('mine-1')).toBe(200);
    expect(await open('after-1')).toEqual({ reloaded: true });
  });

  test('writeRoute leaves the old address in place when the new shape is refused', async () => {
    await open('kept-1');
    const route = simpleRoute('kept-1', '4'.repeat(40), app.address);
    route.hosts.push({ prefix: 'api', label: 'mine-9', hostname: 'mine-9.preview.localhost' });
    route.meta.extraHosts = [{ prefix: 'api', routes: [{ path: '/', port: 3000, stripPrefix: false }] }];
    await open('mine-9');
    await expect(routes.writeRoute({ preview: previewOf('kept-1'), route })).rejects.toMatchObject({
      type: 'CaddyRefused',
    });
    const answer = await ask(caddy.port, 'kept-1.preview.localhost');
    expect([answer.status, answer.headers['x-tekton-sha']]).toEqual([200, sha1]);
    expect((await publisher.readAddress('kept-1')).map(({ sha }) => sha)).toEqual([sha1]);
  });
});

describe('a file that is none of ours', () => {
  test.each([
    ['nonsense', 'stray.caddy', '}\nfoo {\n'],
    ['empty', 'empty.caddy', ''],
    ['a copy of a site', 'copy.caddy', ''],
    ['a strange name', 'a [b] {c}.caddy', 'nonsense {'],
  ])('%s: is named and left out, ours are published', async (what, name, text) => {
    await open('own-1');
    await writeFile(file(name), what === 'a copy of a site' ? fragmentOf('own-1') : text);
    try {
      expect(await open('own-2')).toEqual({ reloaded: true });
      expect(await status('own-1')).toBe(200);
      expect(await status('own-2')).toBe(200);
      if (what !== 'empty' || publisher.refusedFiles().size > 0) {
        expect([...publisher.refusedFiles().keys()]).toEqual([name]);
        expect(caddy.said.some((said) => said.includes(file(name)) && said.includes('refuses'))).toBe(true);
      }
      // Left as the operator wrote it, and not in the way of the next reload either.
      await stat(file(name));
      expect(await open('own-3')).toEqual({ reloaded: true });
    } finally {
      await rm(file(name));
    }
    expect(await open('own-4')).toEqual({ reloaded: true });
    expect(publisher.refusedFiles().size).toBe(0);
  });

  test('found at worker start: everything else is published', async () => {
    await open('start-1');
    await writeFile(file('bad.caddy'), 'nonsense {');
    const fresh = caddy.publisher();
    await fresh.sync();
    expect([...fresh.refusedFiles().keys()]).toEqual(['bad.caddy']);
    expect(await status('start-1')).toBe(200);
    await rm(file('bad.caddy'));
    await fresh.sync();
    expect(fresh.refusedFiles().size).toBe(0);
  });

  test('mended, it is imported', async () => {
    await writeFile(file('hand.caddy'), 'nonsense {');
    await publisher.sync();
    expect(await status('hand-1')).toBe(404);
    await writeFile(file('hand.caddy'), `http://hand-1.preview.localhost:${caddy.port} {\n\trespond ok\n}\n`);
    await publisher.sync();
    expect(await status('hand-1')).toBe(200);
    await rm(file('hand.caddy'));
    await publisher.sync();
  });
});

describe('a worker or a Caddy that dies', () => {
  test('a file written but not loaded is loaded by the next publish of the same text', async () => {
    opened.add('crash-1');
    await writeFile(file('crash-1.caddy'), fragmentOf('crash-1'));
    expect(await open('crash-1')).toEqual({ reloaded: true });
    expect(await status('crash-1')).toBe(200);
  });

  test('with another port than before: the previews on disk are served there, unchanged', async () => {
    const other = await testCaddy();
    try {
      await open('moved-1');
      await mkdir(other.layout.caddyPreviews, { recursive: true });
      await mkdir(other.layout.live, { recursive: true });
      const text = await readFile(file('moved-1.caddy'), 'utf8');
      await writeFile(
        join(other.layout.caddyPreviews, 'moved-1.caddy'),
        text.replaceAll(caddy.layout.root, other.layout.root),
      );
      await copyFile(join(caddy.layout.live, 'moved-1'), join(other.layout.live, 'moved-1'));
      await other.start();
      const answer = await ask(other.port, 'moved-1.preview.localhost');
      expect([answer.status, answer.headers['x-tekton-sha']]).toEqual([200, sha1]);
    } finally {
      await other.close();
    }
  });

  test('a file deleted but still loaded is withdrawn by a new worker', async () => {
    await open('crash-2');
    await rm(file('crash-2.caddy'));
    const fresh = caddy.publisher();
    await routesOf(fresh).removeRoute({ preview: previewOf('crash-2') });
    expect(await status('crash-2')).toBe(404);
    await publisher.sync();
  });

  test('without Caddy: CaddyUnavailable, to be tried again; a Caddy started anew has every preview', async () => {
    await open('down-1');
    await caddy.kill();
    await expect(open('down-2')).rejects.toMatchObject({ type: 'CaddyUnavailable', nonRetryable: false });
    // A push needs no Caddy.
    expect(await open('down-1', '5'.repeat(40))).toEqual({ reloaded: false });
    await caddy.start();
    expect((await ask(caddy.port, 'down-1.preview.localhost')).headers['x-tekton-sha']).toBe('5'.repeat(40));
    expect(await status('down-2')).toBe(404);
    expect(await open('down-2')).toEqual({ reloaded: true });
    expect(await status('down-2')).toBe(200);
  });
});
