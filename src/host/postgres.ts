/** The host's PostgreSQL: one role and one database a preview. */
import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Semaphore } from 'async-mutex';
import pg from 'pg';
import { failure } from '../activities/failure.ts';
import * as sql from '../domain/database.ts';
import type { InventoryItem, PreviewRef } from '../domain/preview.ts';
import { isMissing, readOrUndefined, withLock, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

/** How many databases are made or dropped at once; each is a copy of files on the server's disk. */
const atOnce = 4;

const minimumVersion = 14;

export interface Postgres {
  /**
   * The preview's role and database, there and open to it alone; its password lies in a file only root reads. A database that is
   * there keeps its data. Throws DatabaseNotConfigured, DatabaseTaken, DatabaseUnavailable.
   *
   * @returns the name of both
   */
  ensureDatabase(input: { preview: PreviewRef }): Promise<{ database: string }>;
  /** Ensure absent: database (with whoever is connected), role, password. What isn't this preview's stays. */
  dropDatabase(input: { preview: PreviewRef }): Promise<void>;
  /** Takes CONNECT from PUBLIC on every database of the server. At worker start. Throws when the server won't do. */
  secure(): Promise<void>;
  /** What still stands of a workflow's: databases, roles, password files. */
  inventory(workflowId: string): Promise<InventoryItem[]>;
  /** `DATABASE_URL` for an app that reaches the server at `host`. Holds the password: for the environment file, nothing else. */
  databaseUrl(input: { database: string; host: string }): Promise<string>;
  close(): Promise<void>;
}

/** @param adminUrl a superuser's; undefined when this host has no PostgreSQL, which only matters once a preview asks for a database */
export function createPostgres({ adminUrl, layout }: { adminUrl?: string; layout: HostLayout }): Postgres {
  const places = new Semaphore(atOnce);
  const pool = adminUrl ? openPool(adminUrl) : undefined;
  const fileOf = (name: string) => join(layout.databases, name);

  async function query<T extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<T[]> {
    if (!pool) {
      throw failure(
        'DatabaseNotConfigured',
        'The preview wants a database of the host, and DATABASE_ADMIN_URL is not set.',
      );
    }
    try {
      // Several statements in one text give several results; nobody reads those.
      return (await pool.query<T>(text, values)).rows ?? [];
    } catch (error) {
      throw isUnavailable(error) ? failure('DatabaseUnavailable', unavailable(error), { cause: error }) : error;
    }
  }

  /**
   * Runs a statement that changes something, again for up to half a minute when the server says that somebody is in the way: a
   * session on template1 while it is copied (55006), or another who changes the same catalogue row.
   */
  async function change(text: string): Promise<void> {
    const end = Date.now() + 30_000;
    for (let pause = 50; ; pause = Math.min(1000, pause * 2)) {
      try {
        await query(text);
        return;
      } catch (error) {
        const inTheWay = codeOf(error) === '55006' || (error as Error).message === 'tuple concurrently updated';
        if (!inTheWay || Date.now() > end) throw error;
        await sleep(pause);
      }
    }
  }

  /** One at a time for each name, a few at a time in all. */
  function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
    return withLock(fileOf(name), () => places.runExclusive(work));
  }

  async function roleOwner(name: string): Promise<{ owner: string | null } | undefined> {
    return (await query<{ owner: string | null }>(sql.roleOwnerQuery, [name]))[0];
  }

  async function databaseOwner(name: string): Promise<string | undefined> {
    return (await query<{ owner: string }>(sql.databaseOwnerQuery, [name]))[0]?.owner;
  }

  return {
    ensureDatabase({ preview: { slug, workflowId } }) {
      const name = sql.databaseName(slug);
      return exclusively(name, async () => {
        const role = await roleOwner(name);
        if (role && role.owner !== workflowId) throw taken('role', name, role.owner);
        const owner = await databaseOwner(name);
        if (owner !== undefined && owner !== name) throw taken('database', name, owner);

        const verifier = await scramVerifier(await ensurePassword(fileOf(name), workflowId));
        await change(role ? sql.alterRole(name, verifier) : sql.createRole(name, workflowId, verifier));
        if (owner === undefined) await change(sql.createDatabase(name));
        await change(sql.openDatabase(name, workflowId));
        return { database: name };
      });
    },

    async dropDatabase({ preview: { slug, workflowId } }) {
      const name = sql.databaseName(slug);
      await exclusively(name, async () => {
        if (pool) {
          const role = await roleOwner(name);
          if (role?.owner === workflowId) {
            if ((await databaseOwner(name)) === name) await change(sql.dropDatabase(name));
            await change(sql.dropRole(name));
          }
        }
        // Last: as long as the role is there, so is its password.
        const file = await readPassword(fileOf(name));
        if (file && file.owner !== workflowId) return;
        await rm(fileOf(name), { force: true });
      });
    },

    async secure() {
      if (!pool) return;
      const [server] = await query<{ version: number; superuser: boolean; user: string }>(
        `SELECT current_setting('server_version_num')::int / 10000 AS version, rolsuper AS superuser, rolname AS user FROM pg_roles WHERE rolname = current_user`,
      );
      if (!server || server.version < minimumVersion) {
        throw new Error(
          `PostgreSQL ${server?.version} is too old: ${minimumVersion} or newer is needed (DATABASE_ADMIN_URL).`,
        );
      }
      if (!server.superuser) {
        throw new Error(`PostgreSQL's role ${server.user} is not a superuser: DATABASE_ADMIN_URL must name one.`);
      }
      for (const { name } of await query<{ name: string }>(sql.publicDatabasesQuery)) {
        // A database that is dropped meanwhile needs no guarding.
        await change(sql.revokePublic(name)).catch((error: unknown) => {
          if (codeOf(error) !== '3D000') throw error;
        });
      }
    },

    async inventory(workflowId) {
      const rows = pool
        ? await query<{ kind: 'database' | 'role'; name: string }>(sql.inventoryQuery, [workflowId])
        : [];
      const files = await readdir(layout.databases).catch((error: unknown) => {
        if (isMissing(error)) return [];
        throw error;
      });
      const secrets: InventoryItem[] = [];
      for (const name of files.filter((one) => !one.startsWith('.'))) {
        if ((await readPassword(fileOf(name)))?.owner === workflowId)
          secrets.push({ kind: 'secret', name: fileOf(name) });
      }
      return [...rows.map(({ kind, name }) => ({ kind, name })), ...secrets];
    },

    async databaseUrl({ database, host }) {
      const password = (await readPassword(fileOf(database)))?.password;
      if (password === undefined || !adminUrl) {
        throw new Error(`${fileOf(database)}: no password of database ${database}; create the database first`);
      }
      return sql.databaseUrl({ database, password, host, port: new pg.Client(adminUrl).port });
    },

    async close() {
      await pool?.end();
    },
  };
}

function openPool(adminUrl: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: adminUrl,
    application_name: 'tekton',
    // One more than work at once, for those who only read.
    max: atOnce + 1,
    idleTimeoutMillis: 10_000,
    connectionTimeoutMillis: 10_000,
    query_timeout: 120_000,
    keepAlive: true,
    allowExitOnIdle: true,
  });
  // An idle connection ends when PostgreSQL does; the next query opens a new one.
  pool.on('error', () => {});
  return pool;
}

/** The password in the file: made, before the role that has it, if there is none. */
async function ensurePassword(file: string, owner: string): Promise<string> {
  const existing = await readPassword(file);
  if (existing?.owner === owner) return existing.password;
  const password = randomBytes(24).toString('base64url');
  const folder = join(file, '..');
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o700);
  await writeAtomic(file, `${password}\n${owner}\n`, { mode: 0o600, sync: true });
  return password;
}

/** Its first line is the password, its second the workflow that it belongs to. */
async function readPassword(file: string): Promise<{ password: string; owner: string } | undefined> {
  const [password, owner] = (await readOrUndefined(file))?.split('\n') ?? [];
  return password && owner ? { password, owner } : undefined;
}

/**
 * What PostgreSQL itself would store of this password (RFC 5803), so that the password never leaves this machine's file: a statement
 * that fails is logged by the server, with all that it holds.
 */
async function scramVerifier(password: string): Promise<string> {
  const iterations = 4096;
  const salt = randomBytes(16);
  const salted = await promisify(pbkdf2)(password, salt, iterations, 32, 'sha256');
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest();
  const stored = createHash('sha256').update(hmac('Client Key')).digest('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${stored}:${hmac('Server Key').toString('base64')}`;
}

function taken(kind: 'role' | 'database', name: string, owner: string | null) {
  return failure(
    'DatabaseTaken',
    `PostgreSQL's ${kind} ${name} belongs to ${owner ?? 'somebody else'}, not to this preview; it was left as it is.`,
  );
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | undefined)?.code;
}

/** The server is not there, not ready, or doesn't take us; as opposed to an answer that a retry can't change. */
function isUnavailable(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  const network = [
    'ECONNREFUSED',
    'ECONNRESET',
    'ENOENT',
    'EPIPE',
    'ETIMEDOUT',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ENOTFOUND',
    'EAI_AGAIN',
  ];
  return (
    network.includes(code) ||
    // Connection exceptions, refused log-ins, too many connections, shutting down or starting up.
    /^(?:08...|28...|57P0.|53300)$/.test(code) ||
    /^(?:Connection terminated|timeout e|Query read timeout|Client has encountered)/.test(
      String((error as Error)?.message),
    )
  );
}

function unavailable(error: unknown): string {
  const { message } = error as Error;
  return `PostgreSQL at DATABASE_ADMIN_URL does not answer as it should: ${message || codeOf(error)}`;
}
