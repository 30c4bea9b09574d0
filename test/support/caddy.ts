/** A Caddy of a test's own, with the main Caddyfile of the product on free ports, and apps behind it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import {
  type Agent,
  createServer,
  type IncomingHttpHeaders,
  type RequestListener,
  request,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { resolveComponent } from '../../src/components/resolve.ts';
import { type MainCaddyfileSettings, mainCaddyfile, type RouteSettings } from '../../src/domain/caddy.ts';
import type { ClaimedHost, PreviewRef, RouteRecord } from '../../src/domain/preview.ts';
import {
  type CaddyPublisher,
  createCaddyPublisher,
  type PublisherOptions,
  writeMainCaddyfile,
} from '../../src/host/caddy.ts';
import { type HostLayout, hostLayout } from '../../src/host/layout.ts';
import { freePort } from './temporal-server.ts';

export const domain = 'preview.localhost';

export interface TestCaddy {
  layout: HostLayout;
  settings: RouteSettings;
  adminUrl: string;
  port: number;
  publicUrl(hostname: string): string;
  publisher(options?: Partial<PublisherOptions>): CaddyPublisher;
  /** What the publishers said, newest last. */
  said: string[];
  start(): Promise<void>;
  kill(): Promise<void>;
  /** Kills it and removes its folder. */
  close(): Promise<void>;
}

/** Prepares a Caddy in a new folder; `start` starts it. */
export async function testCaddy(more: Partial<MainCaddyfileSettings> = {}): Promise<TestCaddy> {
  const { path } = await resolveComponent('caddy');
  const root = await mkdtemp(join(tmpdir(), 'tekton-caddy-'));
  const layout = hostLayout(root);
  const [port, adminPort, webhookPort] = [await freePort(), await freePort(), await freePort()];
  const settings: RouteSettings = { domain, scheme: more.scheme ?? 'http', port, layout };
  const main = mainCaddyfile({
    ...settings,
    adminAddress: `127.0.0.1:${adminPort}`,
    webhookPort,
    bind: ['127.0.0.1'],
    ...more,
  });
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const said: string[] = [];
  const publishers: CaddyPublisher[] = [];
  let child: ChildProcess | undefined;

  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };

  return {
    layout,
    settings,
    adminUrl,
    port,
    said,
    publicUrl: (hostname) => `${settings.scheme}://${hostname}:${port}`,
    publisher(options = {}) {
      const logger = { info: (text: string) => void said.push(text), error: (text: string) => void said.push(text) };
      const publisher = createCaddyPublisher({ layout, adminUrl, logger, minIntervalMs: 50, ...options });
      publishers.push(publisher);
      return publisher;
    },
    async start() {
      await writeMainCaddyfile(layout, main);
      const env = { PATH: process.env.PATH, HOME: root, XDG_CONFIG_HOME: root, XDG_DATA_HOME: root };
      child = spawn(path, ['run', '--config', layout.caddyfile, '--adapter', 'caddyfile'], { stdio: 'ignore', env });
      for (const end = Date.now() + 20_000; ; await sleep(20)) {
        if (await answers(adminPort)) return;
        if (child.exitCode !== null || Date.now() > end) throw new Error(`Caddy did not start in ${root}`);
      }
    },
    kill,
    async close() {
      await Promise.all(publishers.map((publisher) => publisher.close()));
      await kill();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** Not by `fetch`: its Sec-Fetch headers make Caddy's admin endpoint take it for a browser. */
async function answers(adminPort: number): Promise<boolean> {
  return await ask(adminPort, `127.0.0.1:${adminPort}`, '/config/apps/http').then(
    ({ status }) => status === 200,
    () => false,
  );
}

export interface TestApp {
  /** `127.0.0.1:port`. */
  address: string;
  server: Server;
  close(): Promise<void>;
}

/** An app on a free port. */
export async function testApp(listener: RequestListener): Promise<TestApp> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/**
 * One request to this host's Caddy under a hostname. A GET whose connection ends before any byte of an answer is sent again, as
 * every browser does (RFC 9110 §9.2.2): a reload closes connections that it takes for idle.
 */
export async function ask(...call: Parameters<typeof askOnce>): Promise<Answer> {
  for (let tries = 1; ; tries++) {
    try {
      return await askOnce(...call);
    } catch (error) {
      const idempotent = (call[3]?.method ?? 'GET') === 'GET';
      if (!idempotent || tries === 3 || (error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    }
  }
}

/** One request, sent once. The error of a connection that had been used before says `reused`. */
export function askOnce(
  port: number,
  host: string,
  path = '/',
  options: { method?: string; headers?: Record<string, string>; body?: string; agent?: Agent } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({
      host: '127.0.0.1',
      port,
      path,
      method: options.method ?? 'GET',
      agent: options.agent ?? false,
      headers: { host, ...options.headers },
    });
    call.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
    call.on('error', (error) => reject(Object.assign(error, { reused: call.reusedSocket })));
    call.end(options.body);
  });
}

/** A preview by its slug alone. */
export function previewOf(slug: string): PreviewRef {
  const [, repo = slug, number = '1'] = /^(.*)-(\d+)$/.exec(slug) ?? [];
  return { owner: 'acme', repo, number: Number(number), workflowId: `preview/acme/${repo}/${number}`, slug };
}

/** `prefix-slug`, or the slug itself. */
export function hostOf(slug: string, prefix = ''): ClaimedHost {
  const label = prefix === '' ? slug : `${prefix}-${slug}`;
  return { prefix, label, hostname: `${label}.${domain}` };
}

/** A deployment with one route, `/` to the declared port 3000, at `address`. */
export function simpleRoute(slug: string, sha: string, address: string): RouteRecord {
  return {
    container: 'p123456789a',
    sha,
    hosts: [hostOf(slug)],
    meta: {
      appServices: ['web'],
      database: 'container',
      routes: [{ path: '/', port: 3000, stripPrefix: false }],
      hostSecrets: [],
      extraHosts: [],
      healthCheck: { path: '/', timeoutSeconds: 5 },
    },
    upstreams: [{ port: 3000, address }],
  };
}
