import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type HealthDeps, healthActivities, healthTarget } from '../../src/activities/health.ts';
import type { Upstream } from '../../src/domain/preview.ts';
import { hostOf, previewOf, simpleRoute, type TestApp, testApp } from '../support/caddy.ts';

const sha = '1'.repeat(40);
const apps: TestApp[] = [];
const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  for (const server of servers.splice(0)) server.close();
});

async function app(...listener: Parameters<typeof testApp>): Promise<TestApp> {
  const started = await testApp(...listener);
  apps.push(started);
  return started;
}

/** Real listeners; the runtime only says where they are. */
function probes(runtime: Partial<HealthDeps['runtime']>, more: Partial<HealthDeps> = {}) {
  const said: string[] = [];
  const abort = new AbortController();
  const activities = healthActivities({
    runtime: { upstreams: async () => [], services: async () => [], tail: async () => ['last line'], ...runtime },
    publicUrl: (hostname) => `http://${hostname}:8080`,
    domain: 'preview.localhost',
    step: () => ({ signal: abort.signal, progress: (text) => said.push(text) }),
    ...more,
  });
  return { ...activities, said, abort };
}

const deployment = {
  preview: previewOf('foo-42'),
  container: 'p123456789a',
  sha,
  ref: 'refs/pull/42/head',
  fork: false,
};
const metaOf = (healthCheck = { path: '/', timeoutSeconds: 1 }) => ({
  ...simpleRoute('foo-42', sha, '').meta,
  healthCheck,
});
const up = (one: TestApp, port = 3000): Upstream => ({ port, address: one.address });

describe('the probe of the container', () => {
  test('asks the health path under the public name, and is done below 500', async () => {
    let asked: unknown;
    const web = await app((incoming, response) => {
      asked = [incoming.url, incoming.headers.host, incoming.headers['x-forwarded-proto']];
      response.writeHead(404).end();
    });
    const { probeContainer } = probes({ upstreams: async () => [up(web)] });
    const meta = metaOf({ path: '/health?full=1', timeoutSeconds: 5 });
    expect(await probeContainer({ deployment, meta })).toEqual({ upstreams: [up(web)] });
    expect(asked).toEqual(['/health?full=1', 'foo-42.preview.localhost:8080', 'http']);
  });

  test('waits for every declared port and for the end of 503, and says what it waits for', async () => {
    let answers = 0;
    let looks = 0;
    const web = await app((_, response) => response.writeHead(++answers < 3 ? 503 : 200).end());
    const meta = metaOf({ path: '/', timeoutSeconds: 5 });
    meta.routes = [...meta.routes, { path: '/api', port: 4000, stripPrefix: false }];
    const { probeContainer, said } = probes({
      upstreams: async () => (++looks < 3 ? [up(web)] : [up(web), up(web, 4000)]),
    });
    await probeContainer({ deployment, meta });
    expect(said).toEqual([
      'waiting: nothing listens on port 4000',
      'waiting: nothing listens on port 4000',
      'waiting: GET / on port 3000 answered 503',
      'waiting: GET / on port 3000 answered 503',
    ]);
  });

  test('in time, but never healthy: says what it saw, with the last lines', async () => {
    const web = await app((_, response) => response.writeHead(500).end());
    await expect(
      probes({ upstreams: async () => [up(web)] }).probeContainer({ deployment, meta: metaOf() }),
    ).rejects.toMatchObject({
      type: 'Unhealthy',
      nonRetryable: true,
      message: expect.stringMatching(/after 1 s GET \/ on port 3000 answered 500[\s\S]*last line/),
      details: [{ lastLines: ['last line'] }],
    });
    await expect(probes({}).probeContainer({ deployment, meta: metaOf() })).rejects.toThrow(
      'nothing listens on port 3000',
    );
  });

  test('a listener that never answers is not healthy', async () => {
    const server = createServer(() => {});
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const upstreams = async () => [{ port: 3000, address: `127.0.0.1:${port}` }];
    await expect(probes({ upstreams }).probeContainer({ deployment, meta: metaOf() })).rejects.toThrow(
      'got no answer (timeout)',
    );
  });

  test('gives up early on an app that ends again and again', async () => {
    const services = async () => [{ name: 'web', running: false, restarts: 5 }];
    const meta = metaOf({ path: '/', timeoutSeconds: 300 });
    await expect(probes({ services }).probeContainer({ deployment, meta })).rejects.toThrow('web (5 restarts)');
  });

  test('stops when the attempt is cancelled', async () => {
    const { probeContainer, abort } = probes({});
    const probing = probeContainer({ deployment, meta: metaOf({ path: '/', timeoutSeconds: 300 }) });
    setTimeout(() => abort.abort(), 50);
    await expect(probing).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('asks where a visitor of the health path would end', () => {
    const routes = [
      { path: '/', port: 3000, stripPrefix: false },
      { path: '/api', port: 4000, stripPrefix: true },
      { path: '/apiary', port: 5000, stripPrefix: false },
    ];
    const target = (path: string) => healthTarget({ routes, healthCheck: { path, timeoutSeconds: 1 } });
    expect(target('/')).toEqual({ port: 3000, path: '/' });
    expect(target('/api')).toEqual({ port: 4000, path: '/' });
    expect(target('/api/up?x=/y')).toEqual({ port: 4000, path: '/up?x=/y' });
    expect(target('/apiary')).toEqual({ port: 5000, path: '/apiary' });
  });
});

describe('the public probe', () => {
  const probing = (one: TestApp, hosts = [hostOf('foo-42')]) => {
    const [address, port] = one.address.split(':');
    const { probePublic, said } = probes({}, { caddy: { address, port: Number(port) }, publicTimeoutMs: 300 });
    const route = { ...simpleRoute('foo-42', sha, one.address), hosts };
    return { done: probePublic({ preview: previewOf('foo-42'), route }), said };
  };

  test('asks every hostname until it answers from the commit', async () => {
    const asked: string[] = [];
    const front = await app((incoming, response) => {
      asked.push(incoming.headers.host ?? '');
      response
        .writeHead(asked.length === 1 ? 503 : 200, { 'x-tekton-sha': asked.length < 3 ? '2'.repeat(40) : sha })
        .end();
    });
    await probing(front, [hostOf('foo-42'), hostOf('foo-42', 'api')]).done;
    const [own, extra] = ['foo-42.preview.localhost:8080', 'api-foo-42.preview.localhost:8080'];
    expect(asked).toEqual([own, own, own, extra]);
  });

  test.each([
    ['another commit', 200, { 'x-tekton-sha': '2'.repeat(40) }, 'from commit 222222222222'],
    ['no commit', 404, {}, 'status 404, from no commit'],
    ['an error', 503, { 'x-tekton-sha': sha }, 'status 503, from the right commit'],
  ])('that meets %s says so', async (_, status, headers, words) => {
    const front = await app((_, response) => response.writeHead(status, headers).end());
    await expect(probing(front).done).rejects.toMatchObject({
      type: 'PublicProbeFailed',
      message: expect.stringContaining(words),
    });
  });
});
