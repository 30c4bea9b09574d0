import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { type HostLayout, hostLayout } from '../../host/layout.ts';
import type { FoundStack, StackRecord } from '../../stack/record.ts';

/** What stands on the host, read from the host itself: not from what tekton remembers. */
export interface HostInventory {
  containers: string[];
  leases: string[];
  routes: string[];
  addresses: string[];
  pages: string[];
  hostnames: string[];
  databases: string[];
  roles: string[];
  processes: string[];
}

/** Reads the host: its files, its PostgreSQL, its processes. */
export async function readHost(stack: StackRecord | FoundStack): Promise<HostInventory> {
  const layout = hostLayout(stack.stateDir);
  return {
    containers: await names(layout.containers),
    leases: await names(layout.leases),
    routes: await names(layout.caddyPreviews),
    addresses: await names(layout.live),
    pages: await names(layout.progress),
    hostnames: await names(layout.hostnames),
    ...(await readDatabases(stack)),
    processes: await processesIn(layout),
  };
}

/** What is in `after` and was not in `before`, as `kind name`. */
export function whatIsLeft(before: HostInventory, after: HostInventory): string[] {
  return (Object.keys(after) as (keyof HostInventory)[]).flatMap((kind) =>
    after[kind].filter((name) => !before[kind].includes(name)).map((name) => `${kind}: ${name}`),
  );
}

async function names(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort();
}

async function readDatabases(stack: StackRecord): Promise<Pick<HostInventory, 'databases' | 'roles'>> {
  const password = (await readFile(stack.postgresPasswordFile, 'utf8')).trim();
  const client = new pg.Client({
    host: '127.0.0.1',
    port: stack.ports.postgres,
    user: 'tekton',
    database: 'postgres',
    password,
  });
  await client.connect();
  try {
    const databases = await client.query<{ name: string }>('select datname as name from pg_database order by 1');
    const roles = await client.query<{ name: string }>('select rolname as name from pg_roles order by 1');
    return { databases: databases.rows.map((row) => row.name), roles: roles.rows.map((row) => row.name) };
  } finally {
    await client.end();
  }
}

/** Processes whose working folder lies in a container of this stack. */
async function processesIn(layout: HostLayout): Promise<string[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name));
  const folders = await Promise.all(
    pids.map(async (pid) => ({ pid, cwd: await readlink(join('/proc', pid, 'cwd')).catch(() => '') })),
  );
  return folders.filter(({ cwd }) => cwd.startsWith(`${layout.containers}/`)).map(({ pid }) => pid);
}
