import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import pg from 'pg';
import { mayEnter, type UnprivilegedUser } from '../components/unprivileged.ts';
import { isMissing, readOrUndefined } from '../host/files.ts';
import { findProcs, readProc } from '../runtime/local/proc.ts';

/** The role that makes previews' roles and databases. */
export const adminRole = 'tekton';

/** Where the data goes when the state folder is closed to PostgreSQL's user (as root, under /root). */
const outside = '/var/lib/tekton-postgresql';

export interface PostgresPlace {
  /** The data folder as PostgreSQL is told it. */
  data: string;
  /** Whom it runs as; ourselves when undefined. */
  user: UnprivilegedUser | undefined;
}

export function initdbArgv(program: string, data: string, passwordFile: string): [string, ...string[]] {
  return [
    join(dirname(program), 'initdb'),
    '--pgdata',
    data,
    '--username',
    adminRole,
    '--auth',
    'scram-sha-256',
    '--pwfile',
    passwordFile,
    '--encoding',
    'UTF8',
    // The same order of rows on every machine, whatever its locale.
    '--locale',
    'C',
  ];
}

export function postgresArgv(program: string, data: string, port: number): [string, ...string[]] {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    // A socket's path may be too long under a deep state folder, and nobody needs one.
    unix_socket_directories: '',
    // Twenty previews with a pool of ten each.
    max_connections: '300',
    // Previews' queries are small; compiling them costs more than it gives.
    jit: 'off',
    log_min_messages: 'warning',
  };
  return [program, '-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/** Who may connect: the admin to everything, each preview's role to the database of its name. */
export function hbaText(): string {
  return [
    '# Written by tekton.',
    '# TYPE  DATABASE  USER     ADDRESS        METHOD',
    `host    all       ${adminRole}   127.0.0.1/32   scram-sha-256`,
    'host    sameuser  all      127.0.0.1/32   scram-sha-256',
    '',
  ].join('\n');
}

/** What the worker connects with. Holds the password. */
export function adminUrl(port: number, password: string): string {
  return `postgres://${adminRole}:${password}@127.0.0.1:${port}/postgres`;
}

/** The major version that made the data of this state folder, or undefined when there is none yet. */
export async function dataVersion(stateDir: string): Promise<string | undefined> {
  return (await readOrUndefined(join(dataLink(stateDir), 'data', 'PG_VERSION')))?.trim();
}

const dataLink = (stateDir: string) => join(stateDir, 'var/lib/postgresql');

/**
 * Makes the data folder the first time (initdb), and finds it again later. As root, it belongs to the unprivileged user; where that
 * user can't reach the state folder, the data lies in `/var/lib/tekton-postgresql` and the state folder links to it.
 *
 * @throws Error when initdb fails, or the data belongs to another user
 */
export async function preparePostgres(settings: {
  program: string;
  stateDir: string;
  user: UnprivilegedUser | undefined;
  password: string;
}): Promise<PostgresPlace> {
  const { program, stateDir, user, password } = settings;
  await removeOrphans();
  const folder = await dataFolder(stateDir, user);
  const data = join(folder, 'data');
  const owner = await stat(data).catch(() => undefined);
  const uid = user?.uid ?? process.getuid?.();
  if (owner && uid !== undefined && owner.uid !== uid) {
    throw new Error(
      `PostgreSQL's data at ${data} belongs to user ${owner.uid}, but would run as ${uid}: run \`tekton up\` as before, or chown it`,
    );
  }
  if (!owner) await initialise(program, folder, user, password);
  await removeDeadLock(data);
  return { data, user };
}

/**
 * PostgreSQL won't start while the process of its lock file can still be signalled. One that was killed together with its `tekton up`
 * can be until PID 1 takes its exit code, which some take their time for (or, in a container without an init, never do). The lock
 * goes once nothing of that server runs any more; in every other case PostgreSQL decides itself.
 */
async function removeDeadLock(data: string): Promise<void> {
  const lock = join(data, 'postmaster.pid');
  const pid = Number((await readOrUndefined(lock))?.split('\n')[0]);
  const isZombie = () => readProc(pid) === undefined && existsSync(`/proc/${pid}`);
  if (!(pid > 0) || !isZombie()) return;
  // Its helpers work in the data folder, and end by themselves when they notice.
  const folder = await realpath(data);
  const helpers = () => findProcs({ environ: {}, folder }).length > 0;
  for (const end = Date.now() + 10_000; helpers() && Date.now() < end; ) await sleep(50);
  if (isZombie() && !helpers()) await rm(lock, { force: true });
}

/** Into a folder of its own first: one that was killed half-way is thrown away by the next. */
async function initialise(
  program: string,
  folder: string,
  user: UnprivilegedUser | undefined,
  password: string,
): Promise<void> {
  const fresh = join(folder, 'data.new');
  const passwordFile = join(folder, 'password');
  await rm(fresh, { recursive: true, force: true });
  await rm(passwordFile, { force: true });
  try {
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (user) await chown(passwordFile, user.uid, user.gid);
    const [file, ...args] = initdbArgv(program, fresh, passwordFile);
    const options = { uid: user?.uid, gid: user?.gid, cwd: folder, env: postgresEnv(), extendEnv: false } as const;
    const result = await execa(file, args, { ...options, reject: false, stdin: 'ignore', all: true });
    if (result.failed) throw new Error(`initdb failed: ${result.all?.trim() || result.shortMessage}`);
    // Overwritten in place, so that the owner stays.
    await writeFile(join(fresh, 'pg_hba.conf'), hbaText());
    await rename(fresh, join(folder, 'data'));
  } finally {
    await rm(passwordFile, { force: true });
  }
}

export function postgresEnv(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}

/** The folder around the data, which PostgreSQL's user owns and can reach. */
async function dataFolder(stateDir: string, user: UnprivilegedUser | undefined): Promise<string> {
  const link = dataLink(stateDir);
  const known = await realpath(link).catch(() => undefined);
  if (known) return known;
  await mkdir(dirname(link), { recursive: true });
  if (!user) {
    await mkdir(link, { mode: 0o700 });
    return link;
  }
  // The state folder itself is ours to open; it is what lies in it that is closed. What is above it is not ours.
  await chmod(stateDir, 0o711);
  const inside = await mayEnter(user, dirname(link));
  const folder = inside ? link : join(outside, nameOf(stateDir));
  // A state folder without a link has never had this data: it was left by one of the same name that was removed.
  if (!inside) await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chown(folder, user.uid, user.gid);
  if (!inside) {
    await chmod(outside, 0o711);
    await writeFile(`${folder}.owner`, stateDir, { mode: 0o600 });
    await symlink(folder, link);
  }
  return folder;
}

const nameOf = (stateDir: string) => createHash('sha256').update(stateDir).digest('hex').slice(0, 12);

/** Data outside of a state folder that is gone has nobody left to want it. */
async function removeOrphans(): Promise<void> {
  for (const entry of await readdir(outside).catch(() => [])) {
    if (!entry.endsWith('.owner')) continue;
    const marker = join(outside, entry);
    const stateDir = await readFile(marker, 'utf8').catch(() => undefined);
    if (!stateDir) continue;
    const gone = await stat(stateDir).then(
      () => false,
      (error) => isMissing(error),
    );
    if (!gone) continue;
    await rm(marker.slice(0, -'.owner'.length), { recursive: true, force: true });
    await rm(marker, { force: true });
  }
}

/** Whether PostgreSQL answers the admin. */
export async function postgresReady(url: string): Promise<boolean> {
  await query(url, 'SELECT 1');
  return true;
}

/** Previews' roles have no business in the databases that PostgreSQL brings. Again and again does no harm. */
export async function closeDatabases(url: string): Promise<void> {
  await query(url, 'REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC');
}

async function query(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 2_000, query_timeout: 10_000 });
  // A server that goes away while we ask is no reason for this process to die.
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
