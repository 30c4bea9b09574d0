/**
 * Bench (c): publishing with 1,000 previews present. What a push and an open cost, and what visitors and WebSockets of other
 * previews notice of 200 changes. Alone: `npx tsx test/bench/routes.ts [--json FILE]`.
 */
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import WebSocket, { WebSocketServer } from 'ws';
import { routeActivities } from '../../src/activities/route.ts';
import { addressFile, importLine, mainCaddyfile, previewFragment, shapeKey } from '../../src/domain/caddy.ts';
import { caddyAdmin } from '../../src/host/caddy-admin.ts';
import { createHostnames } from '../../src/host/hostnames.ts';
import { createProgress } from '../../src/host/progress.ts';
import {
  askOnce,
  hostOf,
  previewOf,
  simpleRoute,
  type TestApp,
  type TestCaddy,
  testApp,
  testCaddy,
} from '../support/caddy.ts';
import { type BenchRow, benchTable, median } from './row.ts';

const many = 1000;
const few = 10;
const clients = 20;
const changes = 200;
const sha = (n: number) => n.toString(16).padStart(40, '0');
const slugOf = (n: number) => `app-${n}`;

/** Runs the whole of part (c). About a minute on two cores. */
export async function benchRoutes(): Promise<BenchRow[]> {
  const app = await testApp((_, response) => response.end('ok'));
  const sockets = new WebSocketServer({ server: app.server });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const small = await testCaddy();
  const large = await testCaddy();
  try {
    await present(small, app, few);
    await present(large, app, many);
    await Promise.all([small.start(), large.start()]);
    const pushes = await measurePushes(small, large, app);
    const opens = await measureOpens(large, app);
    const changed = await measureChanges(large, app);
    return [...pushes, ...opens, ...changed];
  } finally {
    await Promise.all([small.close(), large.close()]);
    sockets.close();
    await app.close();
  }
}

/** Puts `count` previews on disk as the worker would have. */
async function present(caddy: TestCaddy, app: TestApp, count: number): Promise<void> {
  const { layout, settings } = caddy;
  for (const folder of [layout.caddyPreviews, layout.live]) await mkdir(folder, { recursive: true });
  for (let n = 0; n < count; n++) {
    const route = simpleRoute(slugOf(n), sha(1), app.address);
    const shape = { slug: slugOf(n), hosts: route.hosts, meta: route.meta };
    const [upstream] = route.upstreams;
    if (!upstream) throw new Error('no upstream');
    await writeFile(join(layout.caddyPreviews, `${slugOf(n)}.caddy`), previewFragment(settings, shape));
    const line = { ...upstream, sha: sha(1), shape: shapeKey(settings, shape) };
    await writeFile(join(layout.live, slugOf(n)), addressFile([line]));
  }
}

/** The activities as the worker has them, reloads a second apart at least. */
async function worker(caddy: TestCaddy, minIntervalMs = 1000) {
  const publisher = caddy.publisher({ minIntervalMs });
  await publisher.sync();
  const { layout, settings, publicUrl } = caddy;
  const deps = { hostnames: createHostnames(layout), progress: createProgress(layout), publicUrl };
  return routeActivities({ caddy: publisher, settings, ...deps });
}

type Routes = Awaited<ReturnType<typeof worker>>;
const publish = (routes: Routes, slug: string, commit: string, app: TestApp) =>
  routes.writeRoute({ preview: previewOf(slug), route: simpleRoute(slug, commit, app.address) });

/** A push: the time until the next request is served from the new commit. With 10 and with 1,000 previews, in turns. */
async function measurePushes(small: TestCaddy, large: TestCaddy, app: TestApp): Promise<BenchRow[]> {
  const [few, many] = [await worker(small), await worker(large)];
  const times: Record<'few' | 'many' | 'fewSeen' | 'manySeen', number[]> = {
    few: [],
    many: [],
    fewSeen: [],
    manySeen: [],
  };
  const push = async (caddy: TestCaddy, routes: Routes, round: number, key: 'few' | 'many') => {
    const slug = slugOf(round % 10);
    const began = performance.now();
    const { reloaded } = await publish(routes, slug, sha(100 + round), app);
    const written = performance.now();
    const { headers } = await askOnce(caddy.port, hostOf(slug).hostname);
    if (reloaded || headers['x-tekton-sha'] !== sha(100 + round)) throw new Error('a push reloaded, or was not served');
    times[key].push(written - began);
    times[`${key}Seen`].push(performance.now() - began);
  };
  for (let round = 0; round < 120; round++) {
    await push(small, few, round, 'few');
    await push(large, many, round, 'many');
  }
  const warm = (values: number[]) => median(values.slice(20));
  const ratio = warm(times.many) / warm(times.few);
  return [
    { name: 'push, 10 previews', value: warm(times.few), unit: 'ms', aim: '', ok: true },
    { name: 'push, 1,000 previews', value: warm(times.many), unit: 'ms', aim: '≤ 5 ms', ok: warm(times.many) <= 5 },
    { name: 'push, 1,000 against 10', value: ratio, unit: '×', aim: '≤ 1.5 ×', ok: ratio <= 1.5 },
    { name: 'push until a visitor sees it, 1,000', value: warm(times.manySeen), unit: 'ms', aim: '', ok: true },
  ];
}

/**
 * An open against one well-built reload, in turns: the same 1,001 sites written by hand, one file each, the certificate (here:
 * none) on the wildcard site alone, with the address in the file, and the same promises (commit header, streams that live on).
 */
async function measureOpens(caddy: TestCaddy, app: TestApp): Promise<BenchRow[]> {
  const { layout, settings, adminUrl, port } = caddy;
  const admin = caddyAdmin(adminUrl);
  const folder = join(layout.root, 'by-hand');
  await mkdir(folder);
  const byHand = (n: number) =>
    writeFile(
      join(folder, `${slugOf(n)}.caddy`),
      `http://${hostOf(slugOf(n)).hostname}:${port} {\n\treverse_proxy ${app.address} {\n\t\tstream_close_delay 10m\n\t\theader_down X-Tekton-Sha ${sha(1)}\n\t}\n}\n`,
    );
  for (let n = 0; n < many; n++) await byHand(n);
  const adminAddress = new URL(adminUrl).host;
  const main = mainCaddyfile({ ...settings, adminAddress, webhookPort: 9, bind: ['127.0.0.1'] });
  const byHandMain = main.replace(importLine(layout), importLine({ caddyPreviews: folder }));
  // No waiting for others here: what one open costs by itself.
  const routes = await worker(caddy, 0);
  const times: Record<'open' | 'reload', number[]> = { open: [], reload: [] };
  for (let round = 0; round < 11; round++) {
    await byHand(many + round);
    const reloadBegan = performance.now();
    const { refused } = await admin.load(byHandMain);
    if (refused) throw new Error(refused);
    times.reload.push(performance.now() - reloadBegan);

    const slug = slugOf(many + round);
    const openBegan = performance.now();
    await publish(routes, slug, sha(1), app);
    times.open.push(performance.now() - openBegan);
    if ((await askOnce(port, hostOf(slug).hostname).catch(() => askOnce(port, hostOf(slug).hostname))).status !== 200) {
      throw new Error(`${slug} was opened but does not answer`);
    }
  }
  for (let round = 0; round < 11; round++) await routes.removeRoute({ preview: previewOf(slugOf(many + round)) });
  const [open, reload] = [median(times.open.slice(1)), median(times.reload.slice(1))];
  return [
    { name: 'well-built reload, 1,000 previews', value: reload, unit: 'ms', aim: '', ok: true },
    { name: 'open, 1,000 previews', value: open, unit: 'ms', aim: '', ok: true },
    {
      name: 'open against a well-built reload',
      value: open / reload,
      unit: '×',
      aim: '≤ 1.2 ×',
      ok: open / reload <= 1.2,
    },
  ];
}

/** 20 clients and 20 WebSockets on previews that don't change, through 100 pushes, 50 opens and 50 closes of others. */
async function measureChanges(caddy: TestCaddy, app: TestApp): Promise<BenchRow[]> {
  const routes = await worker(caddy);
  const seen = { requests: 0, again: 0, failed: 0, dropped: 0, silent: 0 };
  const agent = new Agent({ keepAlive: true });
  let going = true;

  const socketsOpen = await Promise.all(
    Array.from({ length: clients }, async (_, n) => {
      const socket = new WebSocket(`ws://127.0.0.1:${caddy.port}/`, {
        headers: { host: hostOf(slugOf(200 + n)).hostname },
      });
      await once(socket, 'open');
      socket.on('close', () => going && seen.dropped++);
      return socket;
    }),
  );
  const visit = async (slug: string) => {
    // A reused connection that ends before any byte of an answer says nothing of the request: every client sends an
    // idempotent one again (RFC 9112 §9.3.1). Only then; a fresh connection that ends is a failure.
    for (let tries = 0; ; tries++) {
      try {
        const { status, headers } = await askOnce(caddy.port, hostOf(slug).hostname, '/', { agent });
        if (status !== 200 || headers['x-tekton-sha'] !== sha(1)) seen.failed++;
        return;
      } catch (error) {
        if (!(error as { reused?: boolean }).reused) {
          seen.failed++;
          return;
        }
        if (tries === 0) seen.again++;
      }
    }
  };
  const visitors = Array.from({ length: clients }, async (_, n) => {
    while (going) {
      await visit(slugOf(300 + n * 20 + (seen.requests++ % 20)));
    }
  });

  const before = caddy.said.filter((text) => text.startsWith('Caddy reloaded')).length;
  const began = performance.now();
  // Waves of 20: ten pushes, and five opens and five closes of what the wave before opened.
  for (let wave = 0; wave < changes / 20; wave++) {
    const names = Array.from({ length: 5 }, (_, i) => `wave-${wave}-${i}`);
    const last = Array.from({ length: 5 }, (_, i) => `wave-${wave - 1}-${i}`);
    const closing = wave === 0 ? Array.from({ length: 5 }, (_, i) => slugOf(900 + i)) : last;
    await Promise.all([
      ...Array.from({ length: 10 }, (_, i) => publish(routes, slugOf(i), sha(1000 + wave), app)),
      ...names.map((slug) => publish(routes, slug, sha(1), app)),
      ...closing.map(async (slug, i) => {
        await sleep(i * 150);
        await routes.removeRoute({ preview: previewOf(slug) });
      }),
    ]);
  }
  const took = performance.now() - began;
  for (const socket of socketsOpen) {
    socket.send('still here');
    const answered = await Promise.race([once(socket, 'message').then(() => true), sleep(2000, false)]);
    if (!answered) seen.silent++;
  }
  going = false;
  await Promise.all(visitors);
  agent.destroy();
  for (const socket of socketsOpen) socket.terminate();
  const reloads = caddy.said.filter((text) => text.startsWith('Caddy reloaded')).length - before;
  const lost = seen.dropped + seen.silent;
  return [
    { name: '200 changes under load: requests by 20 clients', value: seen.requests, unit: '', aim: '', ok: true },
    { name: '200 changes: reloads they shared', value: reloads, unit: '', aim: '', ok: true },
    { name: '200 changes: time', value: took / 1000, unit: 's', aim: '', ok: true },
    { name: '200 changes: requests failed', value: seen.failed, unit: '', aim: '0', ok: seen.failed === 0 },
    { name: '200 changes: sent again, idle connection closed', value: seen.again, unit: '', aim: '', ok: true },
    { name: '200 changes: WebSockets dropped, of 20', value: lost, unit: '', aim: '0', ok: lost === 0 },
  ];
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const rows = await benchRoutes();
  console.log(benchTable(rows));
  const at = process.argv.indexOf('--json');
  const file = at > 0 ? process.argv[at + 1] : undefined;
  if (file) await writeFile(file, `${JSON.stringify(rows, null, 2)}\n`);
}
