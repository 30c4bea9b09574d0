/** A real PostgreSQL for a test, in a folder of its own. */
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import pg from 'pg';
import { resolveComponent } from '../../src/components/resolve.ts';
import { unprivilegedUser } from '../../src/components/unprivileged.ts';

export interface PostgresServer {
  adminUrl: string;
  port: number;
  start(): Promise<void>;
  /** SIGKILL, to the postmaster and so to all of its sessions. */
  kill(): Promise<void>;
  remove(): Promise<void>;
}

export async function postgresServer(): Promise<PostgresServer> {
  const [{ path }, user] = [await resolveComponent('postgres'), await unprivilegedUser()];
  const data = await mkdtemp(join(tmpdir(), 'tekton-postgres-'));
  if (user) await chown(data, user.uid, user.gid);
  const as = { uid: user?.uid, gid: user?.gid, cwd: '/', stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' } as const;
  await execa(
    join(dirname(path), 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    as,
  );
  // Anyone may try any database: what keeps them out is what is tested.
  await writeFile(
    join(data, 'pg_hba.conf'),
    'host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n',
  );
  const port = await freePort();
  const adminUrl = `postgresql://postgres@127.0.0.1:${port}/postgres`;
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'off',
    max_connections: 60,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const spawn = () => execa(path, ['-D', data, ...args], { ...as, reject: false });
  let server: ReturnType<typeof spawn> | undefined;

  async function start(): Promise<void> {
    const end = Date.now() + 20_000;
    server = spawn();
    for (;;) {
      const client = new pg.Client(adminUrl);
      client.on('error', () => {});
      try {
        await client.connect();
        return;
      } catch (error) {
        if (Date.now() > end) throw new Error(`postgres: ${server.exitCode === null ? error : (await server).stderr}`);
        // After a SIGKILL the new one refuses to start until the last session of the old one has noticed.
        if (server.exitCode !== null) server = spawn();
        await new Promise((resolve) => setTimeout(resolve, 50));
      } finally {
        await client.end().catch(() => {});
      }
    }
  }

  async function kill(): Promise<void> {
    server?.kill('SIGKILL');
    await server;
  }

  await start();
  return {
    adminUrl,
    port,
    start,
    kill,
    async remove() {
      server?.kill('SIGQUIT');
      await server;
      await rm(data, { recursive: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
