import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as sql from '../../src/domain/database.ts';
import type { PreviewRef } from '../../src/domain/preview.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createPostgres, type Postgres } from '../../src/host/postgres.ts';
import { type PostgresServer, postgresServer } from './postgres-server.ts';

describe('the SQL', () => {
  it('quotes every name and text', () => {
    const name = 'preview_"; DROP DATABASE x; --';
    expect(sql.createRole(name, `preview/o'x/\\r/@b`, `SCRAM'$`)).toBe(
      `CREATE ROLE "preview_""; DROP DATABASE x; --" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 30 PASSWORD 'SCRAM''$';\n` +
        `COMMENT ON ROLE "preview_""; DROP DATABASE x; --" IS  E'preview/o''x/\\\\r/@b'`,
    );
    expect(sql.alterRole('a', 'v')).toBe(
      `ALTER ROLE "a" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 30 PASSWORD 'v'`,
    );
    expect(sql.createDatabase('a"b')).toBe('CREATE DATABASE "a""b" OWNER "a""b" ALLOW_CONNECTIONS false');
    expect(sql.openDatabase('a', 'w')).toBe(
      `REVOKE ALL ON DATABASE "a" FROM PUBLIC;\nCOMMENT ON DATABASE "a" IS 'w';\nALTER DATABASE "a" ALLOW_CONNECTIONS true`,
    );
    expect(sql.dropDatabase('a')).toBe('DROP DATABASE IF EXISTS "a" WITH (FORCE)');
    expect(sql.dropRole('a')).toBe('DROP ROLE IF EXISTS "a"');
    expect(sql.revokePublic('a"b')).toBe('REVOKE CONNECT ON DATABASE "a""b" FROM PUBLIC');
  });

  it('names databases after the slug, long ones apart too', () => {
    expect(sql.databaseName('shop-42')).toBe('preview_shop-42');
    const [a, b] = ['1', '2'].map((end) => sql.databaseName(`${'x'.repeat(60)}-${end}`));
    expect([a?.length, b?.length]).toEqual([63, 63]);
    expect(a).not.toBe(b);
  });

  it('builds a URL for any host', () => {
    const url = { database: 'preview_a', password: 'p/w', port: 5432 };
    expect(sql.databaseUrl({ ...url, host: '10.100.0.2' })).toBe(
      'postgresql://preview_a:p%2Fw@10.100.0.2:5432/preview_a',
    );
    expect(sql.databaseUrl({ ...url, host: '::1' })).toBe('postgresql://preview_a:p%2Fw@[::1]:5432/preview_a');
  });
});

describe('on a real PostgreSQL', () => {
  let server: PostgresServer;
  let root: string;
  let postgres: Postgres;
  const layout = () => hostLayout(root);

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'tekton-databases-'));
    server = await postgresServer();
    postgres = createPostgres({ adminUrl: server.adminUrl, layout: layout() });
    await postgres.secure();
  });
  afterAll(async () => {
    await postgres?.close();
    await server?.remove();
    await rm(root, { recursive: true });
  });

  const previewOf = (slug: string, workflowId = `preview/acme/${slug}`): PreviewRef => ({
    owner: 'acme',
    repo: 'shop',
    workflowId,
    slug,
  });
  const urlOf = (database: string) => postgres.databaseUrl({ database, host: '127.0.0.1' });

  async function run<T extends pg.QueryResultRow>(url: string, text: string): Promise<T[]> {
    const client = new pg.Client(url);
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.query<T>(text)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  }
  const admin = <T extends pg.QueryResultRow>(text: string) => run<T>(server.adminUrl, text);

  it('a preview has its own database, and its role can do no more than use it', async () => {
    const { database } = await postgres.ensureDatabase({ preview: previewOf('one') });
    expect(database).toBe('preview_one');
    const url = await urlOf(database);
    await run(url, 'CREATE TABLE t (n int); INSERT INTO t VALUES (1)');
    await run(url, 'CREATE EXTENSION hstore; CREATE SCHEMA own');
    await expect(run(url, 'CREATE DATABASE more')).rejects.toThrow('permission denied to create database');
    await expect(run(url, 'CREATE ROLE more')).rejects.toThrow('permission denied');
    await expect(run(url, `COPY (SELECT 1) TO PROGRAM 'id'`)).rejects.toThrow(/superuser|privileges|permission/);
    const file = join(layout().databases, database);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(layout().databases)).mode & 0o777).toBe(0o700);
    expect(await postgres.inventory('preview/acme/one')).toEqual([
      { kind: 'database', name: database },
      { kind: 'role', name: database },
      { kind: 'secret', name: file },
    ]);
  });

  it('no preview reaches another, nor the server’s own databases', async () => {
    const [a, b] = await Promise.all(
      ['iso-a', 'iso-b'].map(async (slug) => (await postgres.ensureDatabase({ preview: previewOf(slug) })).database),
    );
    const asA = (database: string) => {
      return urlOf(a as string).then((url) => run(url.replace(/[^/]+$/, database), 'SELECT 1'));
    };
    await expect(asA(a as string)).resolves.toHaveLength(1);
    for (const other of [b as string, 'postgres', 'template1']) {
      await expect(asA(other)).rejects.toThrow(`permission denied for database "${other}"`);
    }
    await expect(run((await urlOf(a as string)).replace(/:[^:@]+@/, ':wrong@'), 'SELECT 1')).rejects.toThrow(
      'password authentication failed',
    );
    expect(await admin<{ name: string }>(sql.publicDatabasesQuery)).toEqual([]);
  });

  it('secures databases that others have made', async () => {
    await admin('CREATE DATABASE "some one\'s ""own"');
    expect(await admin(sql.publicDatabasesQuery)).toHaveLength(1);
    await Promise.all([postgres.secure(), postgres.secure()]);
    expect(await admin(sql.publicDatabasesQuery)).toEqual([]);
    await admin('DROP DATABASE "some one\'s ""own"');
  });

  it('asking again keeps data and password', async () => {
    const preview = previewOf('again');
    const { database } = await postgres.ensureDatabase({ preview });
    const url = await urlOf(database);
    await run(url, 'CREATE TABLE kept (n int)');
    await Promise.all([postgres.ensureDatabase({ preview }), postgres.ensureDatabase({ preview })]);
    expect(await urlOf(database)).toBe(url);
    expect(await run(url, 'SELECT * FROM kept')).toEqual([]);
  });

  it('finishes what was half made, at every step', async () => {
    const preview = previewOf('half');
    const { database } = await postgres.ensureDatabase({ preview });
    const file = join(layout().databases, database);
    const ways: (() => Promise<unknown>)[] = [
      // The password alone.
      () => admin(`DROP DATABASE "${database}"`).then(() => admin(`DROP ROLE "${database}"`)),
      // The role without a database, and with another password.
      () => admin(`DROP DATABASE "${database}"`).then(() => admin(`ALTER ROLE "${database}" PASSWORD 'x' NOLOGIN`)),
      // The database still closed and open to all, without its comment.
      () =>
        admin(`ALTER DATABASE "${database}" ALLOW_CONNECTIONS false`)
          .then(() => admin(`GRANT CONNECT ON DATABASE "${database}" TO PUBLIC`))
          .then(() => admin(`COMMENT ON DATABASE "${database}" IS NULL`)),
      // The file lost, or torn.
      () => rm(file),
      () => writeFile(file, ''),
    ];
    for (const breakIt of ways) {
      await breakIt();
      await postgres.ensureDatabase({ preview });
      expect(await run(await urlOf(database), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
      expect(await admin(sql.publicDatabasesQuery)).toEqual([]);
    }
    for (const breakIt of ways) {
      await breakIt();
      await postgres.dropDatabase({ preview });
      expect(await postgres.inventory(preview.workflowId)).toEqual([]);
      expect(await readdir(layout().databases)).not.toContain(database);
      await postgres.ensureDatabase({ preview });
    }
    await postgres.dropDatabase({ preview });
  });

  it('drops with open sessions, twice', async () => {
    const preview = previewOf('drop');
    const { database } = await postgres.ensureDatabase({ preview });
    const session = new pg.Client(await urlOf(database));
    const ended = new Promise((resolve) => session.on('error', resolve));
    await session.connect();
    await session.query('CREATE TABLE t (); BEGIN; LOCK t');
    await postgres.dropDatabase({ preview });
    await ended;
    await postgres.dropDatabase({ preview });
    expect(await postgres.inventory(preview.workflowId)).toEqual([]);
    await expect(urlOf(database)).rejects.toThrow('no password of database preview_drop');
    expect(await admin(`SELECT 1 FROM pg_roles WHERE rolname = '${database}'`)).toEqual([]);
  });

  it('never touches what belongs to another', async () => {
    const preview = previewOf('mine');
    const { database } = await postgres.ensureDatabase({ preview });
    const url = await urlOf(database);
    const thief = previewOf('mine', 'preview/other/mine');
    await expect(postgres.ensureDatabase({ preview: thief })).rejects.toMatchObject({
      type: 'DatabaseTaken',
      nonRetryable: true,
      message: expect.stringContaining('belongs to preview/acme/mine'),
    });
    await postgres.dropDatabase({ preview: thief });
    expect(await postgres.inventory(thief.workflowId)).toEqual([]);
    expect(await run(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);

    await admin('CREATE ROLE "preview_legacy"');
    await admin('CREATE DATABASE "preview_legacy2"');
    for (const slug of ['legacy', 'legacy2']) {
      await expect(postgres.ensureDatabase({ preview: previewOf(slug) })).rejects.toMatchObject({
        type: 'DatabaseTaken',
      });
      await postgres.dropDatabase({ preview: previewOf(slug) });
      expect(await readdir(layout().databases)).not.toContain(`preview_${slug}`);
    }
    expect(await admin(`SELECT 1 FROM pg_database WHERE datname = 'preview_legacy2'`)).toHaveLength(1);
    expect(await admin(`SELECT 1 FROM pg_roles WHERE rolname = 'preview_legacy'`)).toHaveLength(1);
  });

  it('makes twenty at once, also while somebody uses template1', async () => {
    const busy = new pg.Client(server.adminUrl.replace(/[^/]+$/, 'template1'));
    busy.on('error', () => {});
    await busy.connect();
    setTimeout(() => void busy.end(), 1500);
    const previews = Array.from({ length: 20 }, (_, n) => previewOf(`many-${n}`));
    const names = await Promise.all(
      previews.map(async (preview) => (await postgres.ensureDatabase({ preview })).database),
    );
    expect(new Set(names).size).toBe(20);
    for (const name of names) expect(await run(await urlOf(name), 'SELECT 1')).toHaveLength(1);
    await Promise.all(previews.map((preview) => postgres.dropDatabase({ preview })));
    for (const { workflowId } of previews) expect(await postgres.inventory(workflowId)).toEqual([]);
  });

  it('says that PostgreSQL is gone, and goes on when it is back', async () => {
    const preview = previewOf('killed');
    const { database } = await postgres.ensureDatabase({ preview });
    await server.kill();
    try {
      for (const work of [
        () => postgres.ensureDatabase({ preview }),
        () => postgres.dropDatabase({ preview }),
        () => postgres.inventory(preview.workflowId),
        () => postgres.secure(),
      ]) {
        await expect(work()).rejects.toMatchObject({ type: 'DatabaseUnavailable', nonRetryable: false });
      }
    } finally {
      await server.start();
    }
    await postgres.ensureDatabase({ preview });
    expect(await run(await urlOf(database), 'SELECT 1')).toHaveLength(1);
    await postgres.dropDatabase({ preview });
    expect(await postgres.inventory(preview.workflowId)).toEqual([]);
  });

  it('shows no password to the server’s log, nor in an error', async () => {
    const { database } = await postgres.ensureDatabase({ preview: previewOf('quiet') });
    const password = (await readFile(join(layout().databases, database), 'utf8')).split('\n')[0] as string;
    expect(password).toMatch(/^[\w-]{32}$/);
    const rows = await admin<{ rolpassword: string }>(
      `SELECT rolpassword FROM pg_authid WHERE rolname = '${database}'`,
    );
    expect(rows[0]?.rolpassword).toMatch(/^SCRAM-SHA-256\$4096:/);
    const refused = createPostgres({
      adminUrl: (await urlOf(database)).replace(/:[^:@]+@/, ':hunter2@'),
      layout: layout(),
    });
    const error = await refused.secure().catch((one: unknown) => one);
    expect(error).toMatchObject({ type: 'DatabaseUnavailable' });
    expect(JSON.stringify([error, String(error)])).not.toMatch(`hunter2|${password}`);
    await refused.close();
    const weak = createPostgres({ adminUrl: await urlOf(database), layout: layout() });
    await expect(weak.secure()).rejects.toThrow('role preview_quiet is not a superuser');
    await weak.close();
  });
});

describe('without a PostgreSQL', () => {
  it('only a preview that wants a database minds', async () => {
    const postgres = createPostgres({ layout: hostLayout(join(tmpdir(), 'tekton-none')) });
    const preview = { owner: 'a', repo: 'b', workflowId: 'preview/a/b/1', slug: 'b-1' };
    await expect(postgres.ensureDatabase({ preview })).rejects.toMatchObject({
      type: 'DatabaseNotConfigured',
      nonRetryable: true,
    });
    await postgres.secure();
    await postgres.dropDatabase({ preview });
    expect(await postgres.inventory('preview/a/b/1')).toEqual([]);
    await postgres.close();
  });
});
