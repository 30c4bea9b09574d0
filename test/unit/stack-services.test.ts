import { readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { resolveComponent } from '../../src/components/resolve.ts';
import { mayEnter, unprivilegedUser } from '../../src/components/unprivileged.ts';
import type { Ports } from '../../src/stack/ports.ts';
import { portTable } from '../../src/stack/ports.ts';
import { adminUrl, preparePostgres } from '../../src/stack/postgres.ts';
import { readStack } from '../../src/stack/record.ts';
import { type Stack, startStack } from '../../src/stack/stack.ts';
import type { ServiceEvent } from '../../src/stack/supervise.ts';

/** The servers of a stack, for real. Worker and webhook are the end-to-end tests' business. */
const services = ['temporal', 'postgres', 'caddy'] as const;
const anyPorts = Object.fromEntries(Object.keys(portTable).map((name) => [name, 0])) as Ports;

let folder: string;
let stack: Stack;
let url: string;
let claimsBefore: string | undefined;
const events: [string, ServiceEvent][] = [];

const start = (options: { signal?: AbortSignal } = {}) =>
  startStack({
    stateDir: join(folder, 'state'),
    ports: anyPorts,
    services,
    onEvent: (name, event) => events.push([name, event]),
    ...options,
  });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-services-'));
  // As a state folder's parents usually are; the closed ones have a test of their own.
  await chmod(folder, 0o755);
  claimsBefore = process.env.TEKTON_CLAIMS_DIR;
  process.env.TEKTON_CLAIMS_DIR = join(folder, 'claims');
  stack = await start();
  url = adminUrl(stack.record.ports.postgres, (await readFile(stack.record.postgresPasswordFile, 'utf8')).trim());
});
afterAll(async () => {
  await stack?.stop();
  if (claimsBefore === undefined) delete process.env.TEKTON_CLAIMS_DIR;
  else process.env.TEKTON_CLAIMS_DIR = claimsBefore;
  await rm(folder, { recursive: true, force: true });
});

async function sql<T extends pg.QueryResultRow>(connectionString: string, text: string): Promise<T[]> {
  const client = new pg.Client({ connectionString });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<T>(text)).rows;
  } finally {
    await client.end();
  }
}

async function temporal<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: stack.record.temporalAddress });
  try {
    return await work(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

const retention = () =>
  temporal(async (client) => {
    const { config } = await client.workflowService.describeNamespace({ namespace: 'default' });
    return Number(config?.workflowExecutionRetentionTtl?.seconds);
  });

const readies = (name: string) =>
  events.filter(([service, event]) => service === name && event.kind === 'ready').length;

describe('the servers of a stack', () => {
  test('serve, on loopback addresses, and can be found', async () => {
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await retention()).toBe(30 * 24 * 3600);
    const ui = await request(stack.record.temporalUiUrl);
    expect(ui.statusCode).toBe(200);
    await ui.body.dump();
    const page = await request(`http://127.0.0.1:${stack.record.ports.http}/`, {
      headers: { host: `nobody.preview.localhost:${stack.record.ports.http}` },
    });
    expect(page.statusCode).toBe(404);
    await page.body.dump();
    expect(await readStack(stack.record.stateDir)).toEqual({ ...stack.record, running: true, pid: process.pid });
  });

  test('PostgreSQL does not run as root', () => {
    const pid = stack.services.find(({ name }) => name === 'postgres')?.pid;
    const uid = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    expect(uid).not.toBe('0');
  });

  test('a role reaches the database of its name and no other', async () => {
    await sql(url, "CREATE ROLE shop LOGIN PASSWORD 'x'");
    await sql(url, 'CREATE DATABASE shop OWNER shop');
    const as = (database: string) => url.replace(/\/\/.*@/, '//shop:x@').replace(/\/postgres$/, `/${database}`);
    expect(await sql(as('shop'), 'SELECT current_user')).toEqual([{ current_user: 'shop' }]);
    await expect(sql(as('postgres'), 'SELECT 1')).rejects.toThrow(/pg_hba\.conf/);
    await expect(sql(as('shop').replace(':x@', ':wrong@'), 'SELECT 1')).rejects.toThrow(/password/);
  });

  test('a second stack on the same folder is refused, naming the first', async () => {
    await expect(start()).rejects.toThrow(
      `a stack already runs on ${stack.record.stateDir}: \`tekton up\` with pid ${process.pid}`,
    );
  });

  test('each comes back after SIGKILL, with its data', async () => {
    await sql(url, 'CREATE TABLE kept (n int)');
    await temporal((client) => client.workflow.start('nobody', { taskQueue: 'none', workflowId: 'kept' }));
    const before = services.map(readies);
    for (const { pid } of stack.services) process.kill(pid as number, 'SIGKILL');
    await vi.waitFor(() => expect(services.map(readies)).toEqual(before.map((n) => n + 1)), {
      timeout: 25_000,
      interval: 50,
    });
    expect(await sql(url, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 0 }]);
    expect((await temporal((client) => client.workflow.getHandle('kept').describe())).status.name).toBe('RUNNING');
  });

  test('a stack that was stopped finds everything again: ports, secrets, data', async () => {
    const { record } = stack;
    await stack.stop();
    expect((await readStack(record.stateDir))?.running).toBe(false);
    stack = await start();
    const { startedAt: _, services: __, ...same } = record;
    expect(stack.record).toMatchObject(same);
    expect(await sql(url, 'SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 0 }]);
    expect((await temporal((client) => client.workflow.getHandle('kept').describe())).status.name).toBe('RUNNING');
  });

  test('a start that is called off leaves nothing running', async () => {
    await stack.stop();
    const begun = events.length;
    await expect(start({ signal: AbortSignal.timeout(600) })).rejects.toThrow(/timeout|aborted/i);
    const pids = events.slice(begun).flatMap(([, event]) => (event.kind === 'started' ? [event.pid] : []));
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect((await readStack(stack.record.stateDir))?.running).toBe(false);
  });
});

describe('a state folder that PostgreSQL’s user can’t reach', () => {
  test('has its data elsewhere, finds it again, and takes nothing over from one that was removed', async () => {
    const closed = await mkdtemp(join(tmpdir(), 'tekton-closed-'));
    const stateDir = join(closed, 'state');
    const [{ path: program }, user] = await Promise.all([resolveComponent('postgres'), unprivilegedUser()]);
    const prepare = async () => {
      await mkdir(stateDir, { recursive: true });
      return preparePostgres({ program, stateDir, user, password: 'secret' });
    };
    const { data } = await prepare();
    try {
      // Only root needs another place for it: everyone else's PostgreSQL runs as themselves.
      expect(data.startsWith(closed)).toBe(user === undefined);
      expect(await mayEnter(user, data)).toBe(true);
      const made = (await stat(join(data, 'PG_VERSION'))).mtimeMs;
      expect((await prepare()).data).toBe(data);
      expect((await stat(join(data, 'PG_VERSION'))).mtimeMs).toBe(made);
      await rm(stateDir, { recursive: true });
      expect((await prepare()).data).toBe(data);
      expect((await stat(join(data, 'PG_VERSION'))).mtimeMs).not.toBe(made);
    } finally {
      await rm(closed, { recursive: true, force: true });
      await rm(dirname(data), { recursive: true, force: true });
      await rm(`${dirname(data)}.owner`, { force: true });
    }
  });
});
