/** A Temporal dev server of a test's own, which can be killed, frozen and started again on the same port and database file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { resolveComponent } from '../../src/components/resolve.ts';

export interface TemporalServer {
  address: string;
  /** For `readConfig` and `connectTemporal`. */
  env: { TEMPORAL_ADDRESS: string };
  start(): Promise<void>;
  kill(): Promise<void>;
  /** Kills it and removes its database: what a dev server without a file does when it restarts. */
  forget(): Promise<void>;
  /** Accepts connections and answers nothing. */
  freeze(): void;
  thaw(): void;
  /** Kills it and removes its database. */
  close(): Promise<void>;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}

/** Prepares a server; `start` starts it. `inMemory`: without a database file, several times faster. */
export async function temporalServer({ inMemory = false } = {}): Promise<TemporalServer> {
  const { path } = await resolveComponent('temporal');
  const folder = await mkdtemp(join(tmpdir(), 'tekton-temporal-'));
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const argv = ['server', 'start-dev', '--headless', '--ip', '127.0.0.1', '--port', String(port)];
  argv.push('--log-level', 'error', ...(inMemory ? [] : ['--db-filename', join(folder, 'temporal.db')]));
  let child: ChildProcess | undefined;

  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  return {
    address,
    env: { TEMPORAL_ADDRESS: address },
    start: async () => {
      child = spawn(path, argv, { stdio: 'ignore' });
      for (const end = Date.now() + 30_000; ; ) {
        try {
          const connection = await Connection.connect({ address, connectTimeout: 2_000 });
          await connection.workflowService.describeNamespace({ namespace: 'default' });
          await connection.close();
          return;
        } catch (error) {
          if (Date.now() > end || child.exitCode !== null) throw error;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    },
    kill,
    forget: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
    },
    freeze: () => child?.kill('SIGSTOP'),
    thaw: () => child?.kill('SIGCONT'),
    close: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
