import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { request as requestHttps } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { healthActivities } from '../../src/activities/health.ts';
import { routeActivities } from '../../src/activities/route.ts';
import type { RouteRecord } from '../../src/domain/preview.ts';
import type { CaddyPublisher } from '../../src/host/caddy.ts';
import { createHostnames } from '../../src/host/hostnames.ts';
import { createProgress } from '../../src/host/progress.ts';
import {
  ask,
  askOnce,
  hostOf,
  previewOf,
  simpleRoute,
  type TestApp,
  type TestCaddy,
  testApp,
  testCaddy,
} from '../support/caddy.ts';

const [sha1, sha2] = ['1'.repeat(40), '2'.repeat(40)];
let caddy: TestCaddy;
let publisher: CaddyPublisher;
const apps: TestApp[] = [];

beforeAll(async () => {
  caddy = await testCaddy();
  await caddy.start();
  publisher = caddy.publisher();
  await publisher.sync();
});
afterAll(async () => {
  await caddy.close();
  await Promise.all(apps.map((app) => app.close()));
});

function activities() {
  const { layout, settings, publicUrl } = caddy;
  const [hostnames, progress] = [createHostnames(layout), createProgress(layout)];
  return routeActivities({ caddy: publisher, settings, hostnames, progress, publicUrl });
}

async function app(...listener: Parameters<typeof testApp>): Promise<TestApp> {
  const started = await testApp(...listener);
  apps.push(started);
  return started;
}

/** Says which app it is and what it was asked. */
function named(name: string): Promise<TestApp> {
  return app((incoming, response) => {
    response.setHeader('x-tekton-sha', 'spoofed');
    response.end(JSON.stringify({ name, url: incoming.url, headers: incoming.headers }));
  });
}

const publish = (slug: string, route: RouteRecord) => activities().writeRoute({ preview: previewOf(slug), route });
const get = (host: string, path?: string, options?: Parameters<typeof ask>[3]) =>
  ask(caddy.port, `${host}.preview.localhost`, path, options);

describe('hosts that have no site', () => {
  test.each(['nobody-1', '*', '?', '[a-z]*', 'a.b', '..', 'x/../y', '{env.HOME}', `${'a'.repeat(70)}`, 'NOBODY-1'])(
    '%s is a 404',
    async (label) => {
      await createProgress(caddy.layout).begin({ label: 'somebody-1', phase: 'building' });
      // A host that is no host at all is refused by Caddy before any site sees it.
      expect([400, 404]).toContain((await get(label)).status);
    },
  );

  test('other domains and bare addresses are a 404', async () => {
    for (const host of ['example.com', '127.0.0.1', 'preview.localhost']) {
      expect((await ask(caddy.port, host)).status).toBe(404);
    }
  });

  test('a claimed one shows its progress, without a reload', async () => {
    const progress = createProgress(caddy.layout);
    await progress.begin({ label: 'coming-1', phase: 'building' });
    await progress.alias('api-coming-1', 'coming-1');
    for (const [host, method] of [
      ['coming-1', 'GET'],
      ['coming-1', 'POST'],
      ['api-coming-1', 'GET'],
    ] as const) {
      const answer = await get(host, '/any/path?x=1', {
        method,
        headers: { range: 'bytes=0-3', 'if-none-match': '*' },
      });
      expect(answer.status).toBe(503);
      expect(answer.headers).toMatchObject({
        'retry-after': '2',
        'cache-control': 'no-store',
        'content-type': 'text/html; charset=utf-8',
      });
      expect(answer.body).toContain('<h1>coming-1</h1>');
    }
    await progress.phase({ label: 'coming-1', phase: 'failed', reason: 'npm ci ended with 1' });
    expect((await get('coming-1')).body).toContain('npm ci ended with 1');
    await progress.remove('coming-1');
    expect((await get('coming-1')).status).toBe(404);
    expect((await get('api-coming-1')).status).toBe(404);
  });
});

describe('a published preview', () => {
  test('names the commit, whatever the app says, on every answer of the app', async () => {
    const [plain, failing] = [
      await named('plain'),
      await app((_, response) => {
        response.writeHead(502, { 'x-tekton-sha': 'spoofed' });
        response.end('my own 502');
      }),
    ];
    await publish('plain-1', simpleRoute('plain-1', sha1, plain.address));
    await publish('failing-1', simpleRoute('failing-1', sha2, failing.address));
    expect((await get('plain-1')).headers['x-tekton-sha']).toBe(sha1);
    const answer = await get('failing-1');
    expect([answer.status, answer.headers['x-tekton-sha'], answer.body]).toEqual([502, sha2, 'my own 502']);
    expect((await get('PLAIN-1')).status).toBe(200);
  });

  test('gives the app the real client and the public name; what a client claims is not believed', async () => {
    const plain = await named('plain');
    await publish('client-1', simpleRoute('client-1', sha1, plain.address));
    const { body } = await get('client-1', '/', {
      headers: { 'x-forwarded-for': '6.6.6.6', 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' },
    });
    expect(JSON.parse(body).headers).toMatchObject({
      host: 'client-1.preview.localhost',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-host': 'client-1.preview.localhost',
      'x-forwarded-proto': 'http',
    });
  });

  test('with a dead app answers 503 with a page, never a bare 502, and recovers by itself', async () => {
    const dead = await testApp(() => {});
    await dead.close();
    await publish('dead-1', simpleRoute('dead-1', sha1, dead.address));
    for (const method of ['GET', 'POST']) {
      const answer = await get('dead-1', '/', { method, body: method === 'POST' ? 'x' : undefined });
      expect(answer.status).toBe(503);
      expect(answer.headers).toMatchObject({ 'retry-after': '2', 'x-tekton-sha': sha1 });
      expect(answer.body).toContain('isn’t answering');
    }
    const alive = await named('alive');
    await publish('dead-1', simpleRoute('dead-1', sha2, alive.address));
    expect((await get('dead-1')).status).toBe(200);
  });

  test('without an address shows progress', async () => {
    const plain = await named('plain');
    await publish('bare-1', simpleRoute('bare-1', sha1, plain.address));
    await publisher.removeAddress('bare-1');
    const plainPage = await get('bare-1');
    expect([plainPage.status, plainPage.headers['retry-after']]).toEqual([503, '2']);
    await createProgress(caddy.layout).begin({ label: 'bare-1', phase: 'starting' });
    expect((await get('bare-1')).body).toContain('<h1>bare-1</h1>');
  });

  test('a request that is not idempotent reaches the app at most once', async () => {
    let seen = 0;
    const rude = await app((incoming) => {
      seen++;
      incoming.socket.destroy();
    });
    await publish('rude-1', simpleRoute('rude-1', sha1, rude.address));
    await sleep(50);
    expect((await get('rude-1', '/', { method: 'POST', body: 'pay' })).status).toBe(503);
    expect(seen).toBe(1);
  });

  test('paths: the most specific wins, /api is /api and /api/*, prefixes are stripped, other hosts have their own', async () => {
    const [web, api, v2] = [await named('web'), await named('api'), await named('v2')];
    const route = simpleRoute('paths-1', sha1, web.address);
    route.meta.routes = [
      { path: '/', port: 3000, stripPrefix: false },
      { path: '/api', port: 4000, stripPrefix: true },
      { path: '/api/v2', port: 5000, stripPrefix: false },
    ];
    route.meta.extraHosts = [
      {
        prefix: 'api',
        routes: [
          { path: '/', port: 4000, stripPrefix: false },
          { path: '/web', port: 3000, stripPrefix: true },
        ],
      },
    ];
    route.hosts.push(hostOf('paths-1', 'api'));
    route.upstreams.push({ port: 4000, address: api.address }, { port: 5000, address: v2.address });
    await publish('paths-1', route);
    const met = async (host: string, path: string) => {
      const answer = await get(host, path);
      expect([answer.status, answer.headers['x-tekton-sha']]).toEqual([200, sha1]);
      const { name, url } = JSON.parse(answer.body);
      return `${name} ${url}`;
    };
    expect(await met('paths-1', '/')).toBe('web /');
    expect(await met('paths-1', '/apiary')).toBe('web /apiary');
    expect(await met('paths-1', '/api')).toBe('api /');
    expect(await met('paths-1', '/api/')).toBe('api /');
    expect(await met('paths-1', '/api/users?a=%20b')).toBe('api /users?a=%20b');
    expect(await met('paths-1', '/api/v2')).toBe('v2 /api/v2');
    expect(await met('paths-1', '/api/v2/x')).toBe('v2 /api/v2/x');
    expect(await met('paths-1', '/api/v20')).toBe('api /v20');
    expect(await met('api-paths-1', '/api/v2')).toBe('api /api/v2');
    expect(await met('api-paths-1', '/web/x')).toBe('web /x');
  });

  test('passes big bodies both ways, and events as they come', async () => {
    const big = randomBytes(20 * 1024 * 1024);
    const digest = createHash('sha256').update(big).digest('hex');
    const bodies = await app(async (incoming, response) => {
      if (incoming.url === '/events') {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        for (let i = 0; i < 3; i++) {
          response.write(`data: ${i}\n\n`);
          await sleep(100);
        }
        return response.end();
      }
      const hash = createHash('sha256');
      for await (const chunk of incoming) hash.update(chunk);
      response.setHeader('x-digest', hash.digest('hex'));
      response.end(big);
    });
    await publish('bodies-1', simpleRoute('bodies-1', sha1, bodies.address));
    const hash = createHash('sha256');
    const call = request({
      host: '127.0.0.1',
      port: caddy.port,
      method: 'POST',
      headers: { host: 'bodies-1.preview.localhost' },
    });
    call.end(big);
    const [response] = await once(call, 'response');
    for await (const chunk of response) hash.update(chunk);
    expect([response.headers['x-digest'], hash.digest('hex')]).toEqual([digest, digest]);

    const events = request({
      host: '127.0.0.1',
      port: caddy.port,
      path: '/events',
      headers: { host: 'bodies-1.preview.localhost' },
    });
    events.end();
    const [stream] = await once(events, 'response');
    const times: number[] = [];
    for await (const _ of stream) times.push(performance.now());
    expect(times.length).toBeGreaterThanOrEqual(3);
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(150);
  });
});

describe('streams', () => {
  test('WebSockets carry the commit, and live through reloads of others and of their own shape', async () => {
    const echo = await app((_, response) => response.end());
    const server = new WebSocketServer({ server: echo.server });
    server.on('headers', (headers) => headers.push('X-Tekton-Sha: spoofed'));
    server.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
    await publish('socket-1', simpleRoute('socket-1', sha1, echo.address));
    const sockets = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const socket = new WebSocket(`ws://127.0.0.1:${caddy.port}/`, {
          headers: { host: 'socket-1.preview.localhost' },
        });
        const [[upgrade]] = await Promise.all([once(socket, 'upgrade'), once(socket, 'open')]);
        expect(upgrade.headers['x-tekton-sha']).toBe(sha1);
        return socket;
      }),
    );
    let closed = 0;
    for (const socket of sockets) socket.on('close', () => closed++);
    for (let i = 0; i < 8; i++) await publish(`reload-${i}`, simpleRoute(`reload-${i}`, sha1, echo.address));
    const changed = simpleRoute('socket-1', sha2, echo.address);
    changed.meta.routes.push({ path: '/new', port: 3000, stripPrefix: false });
    expect(await publish('socket-1', changed)).toEqual({ reloaded: true });
    for (const socket of sockets) {
      socket.send('still here');
      expect(String((await once(socket, 'message'))[0])).toBe('still here');
    }
    expect(closed).toBe(0);
    for (const socket of sockets) socket.terminate();
    server.close();
  });
});

describe('a switch', () => {
  test('under load loses no request, and no answer bears the name of another commit', async () => {
    const slow = (sha: string) =>
      app(async (incoming, response) => {
        await sleep(incoming.url === '/slow' ? 300 : 2);
        response.end(sha);
      });
    const [one, two] = [await slow(sha1), await slow(sha2)];
    await publish('switch-1', simpleRoute('switch-1', sha1, one.address));
    const agent = new Agent({ keepAlive: true });
    const seen = new Map<string, number>();
    let going = true;
    const clients = Array.from({ length: 10 }, async () => {
      while (going) {
        // Nothing reloads here, so nothing may have to be sent again.
        const { status, headers, body } = await askOnce(caddy.port, 'switch-1.preview.localhost', '/', { agent });
        const what = `${status} ${headers['x-tekton-sha'] === body ? 'right' : `${headers['x-tekton-sha']} from ${body}`}`;
        seen.set(what, (seen.get(what) ?? 0) + 1);
      }
    });
    for (let i = 0; i < 40; i++) {
      const slowRequest = i % 10 === 0 ? get('switch-1', '/slow') : undefined;
      if (slowRequest) await sleep(50);
      const [sha, target] = i % 2 === 0 ? [sha2, two] : [sha1, one];
      expect(await publish('switch-1', simpleRoute('switch-1', sha, target.address))).toEqual({ reloaded: false });
      expect((await get('switch-1')).body).toBe(sha);
      // It began before the switch, and ends where it began.
      if (slowRequest) expect(await slowRequest).toMatchObject({ status: 200, body: sha1 });
      await sleep(10);
    }
    going = false;
    await Promise.all(clients);
    agent.destroy();
    expect([...seen.keys()]).toEqual(['200 right']);
    expect(seen.get('200 right')).toBeGreaterThan(200);
  });

  test('to a new shape and a new address at once never shows the paths of one with the app of the other', async () => {
    // The old app has /api on 3000; the new one has it on 4000 and something else on 3000.
    const [old, web, api] = [await named('old'), await named('new-web'), await named('new-api')];
    const before = simpleRoute('mix-1', sha1, old.address);
    const after = simpleRoute('mix-1', sha2, web.address);
    after.meta.routes = [
      { path: '/', port: 3000, stripPrefix: false },
      { path: '/api', port: 4000, stripPrefix: false },
    ];
    after.upstreams.push({ port: 4000, address: api.address });
    await publish('mix-1', before);
    const seen = new Set<string>();
    let going = true;
    const clients = ['/', '/api/x'].flatMap((path) =>
      Array.from({ length: 4 }, async () => {
        while (going) {
          const { status, headers, body } = await get('mix-1', path);
          seen.add(
            `${path} ${status} ${headers['x-tekton-sha'] === sha1 ? 1 : 2} ${status === 200 ? JSON.parse(body).name : ''}`,
          );
        }
      }),
    );
    for (let i = 0; i < 6; i++) {
      expect(await publish('mix-1', i % 2 === 0 ? after : before)).toEqual({ reloaded: true });
      await sleep(60);
    }
    going = false;
    await Promise.all(clients);
    expect([...seen].sort()).toEqual(['/ 200 1 old', '/ 200 2 new-web', '/api/x 200 1 old', '/api/x 200 2 new-api']);
  });

  test('the lines of the old shape are taken away a while later', async () => {
    const plain = await named('plain');
    const settling = caddy.publisher({ settleMs: 100 });
    await settling.sync();
    const { layout, settings, publicUrl } = caddy;
    const routes = routeActivities({
      caddy: settling,
      settings,
      hostnames: createHostnames(layout),
      progress: createProgress(layout),
      publicUrl,
    });
    const preview = previewOf('settle-1');
    await routes.writeRoute({ preview, route: simpleRoute('settle-1', sha1, plain.address) });
    const changed = simpleRoute('settle-1', sha2, plain.address);
    changed.meta.routes.push({ path: '/new', port: 3000, stripPrefix: false });
    await routes.writeRoute({ preview, route: changed });
    expect((await settling.readAddress('settle-1')).map(({ sha }) => sha)).toEqual([sha1, sha2]);
    await sleep(250);
    expect((await settling.readAddress('settle-1')).map(({ sha }) => sha)).toEqual([sha2]);
    expect((await get('settle-1')).status).toBe(200);
  });
});

describe('https', () => {
  test('one wildcard certificate serves every preview; the plain port redirects; the public probe finds the commit', async () => {
    const { freePort } = await import('../support/temporal-server.ts');
    const folder = caddy.layout.root;
    const [certificate, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    await promisify(execFile)('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...[
        '-keyout',
        key,
        '-out',
        certificate,
        '-subj',
        '/CN=preview',
        '-addext',
        'subjectAltName=DNS:*.preview.localhost',
      ],
    ]);
    const redirectPort = await freePort();
    const secure = await testCaddy({ scheme: 'https', tls: { certificate, key }, redirectPort });
    try {
      await secure.start();
      const published = secure.publisher();
      const plain = await named('plain');
      const { layout, settings, publicUrl } = secure;
      const routes = routeActivities({
        caddy: published,
        settings,
        hostnames: createHostnames(layout),
        progress: createProgress(layout),
        publicUrl,
      });
      const route = simpleRoute('secure-1', sha1, plain.address);
      await routes.writeRoute({ preview: previewOf('secure-1'), route });
      const probe = healthActivities({
        runtime: { upstreams: async () => [], services: async () => [], tail: async () => [] },
        publicUrl,
        domain: 'preview.localhost',
        publicTimeoutMs: 3000,
        step: () => ({ signal: new AbortController().signal, progress: () => {} }),
      });
      await probe.probePublic({ preview: previewOf('secure-1'), route });
      const asked = (host: string) =>
        new Promise<number>((resolve, reject) =>
          requestHttps({
            host: '127.0.0.1',
            port: secure.port,
            servername: host,
            headers: { host },
            rejectUnauthorized: false,
            agent: false,
          })
            .on('response', (response) => resolve(response.resume().statusCode ?? 0))
            .on('error', reject)
            .end(),
        );
      expect(await asked('secure-1.preview.localhost')).toBe(200);
      expect(await asked('nobody-1.preview.localhost')).toBe(404);
      const redirect = await ask(redirectPort, 'secure-1.preview.localhost', '/a?b=c');
      expect([redirect.status, redirect.headers.location]).toEqual([
        308,
        `https://secure-1.preview.localhost:${secure.port}/a?b=c`,
      ]);
    } finally {
      await secure.close();
    }
  });
});

test('a Host header that is not one line of text harms nobody', async () => {
  const socket = connect(caddy.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.end('GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1\.1 400/);
});
