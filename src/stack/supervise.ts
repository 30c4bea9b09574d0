/**
 * Runs one service and keeps it running: restarts it with a back-off when it dies, writes its log under a quota, stops it cleanly.
 * It runs in a session of its own, so that Ctrl-C reaches us alone and we decide on the order.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readOrUndefined } from '../host/files.ts';
import type { HostLayout } from '../host/layout.ts';
import { isAlive, type ProcId, readProc, signalAll } from '../runtime/local/proc.ts';
import { keepQuota, openLog, tailLog } from './service-log.ts';

export interface ServiceSpec<Name extends string = string> {
  name: Name;
  argv: [string, ...string[]];
  /** The whole environment; nothing is inherited. */
  env: Record<string, string>;
  cwd?: string;
  user?: { uid: number; gid: number };
  /** What asks it to stop by itself. */
  stopSignal: NodeJS.Signals;
  /** How long it may take to, in ms; then it is killed. */
  stopTimeout: number;
  /** Whether it serves; an error means not yet. `since` is when this process was started, in ms. */
  ready(since: number): Promise<boolean>;
  /** How long it may take to serve after a start, in ms. */
  readyTimeout: number;
}

export type ServiceEvent =
  | { kind: 'started'; pid: number }
  | { kind: 'ready'; pid: number; ms: number }
  | { kind: 'died'; how: string; restartMs: number };

export interface Service<Name extends string = string> {
  readonly name: Name;
  /** Of the process that runs now; undefined between two. */
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly log: string;
  /** Resolves once it serves. Rejects, with its last lines, when it doesn't in time or keeps dying before it does. */
  ready(): Promise<void>;
  /** Asks it to stop, waits, kills what is left. Idempotent. */
  stop(): Promise<void>;
  /** Kills it at once. */
  kill(): void;
}

/** Where a stack keeps what concerns its services. */
export interface ServiceFolders {
  /** Logs, `<name>.log`. */
  logs: string;
  /** What runs, `<name>.json`, for whoever comes after a supervisor that was killed. */
  records: string;
}

export function serviceFolders(layout: HostLayout): ServiceFolders {
  return { logs: join(layout.logs, 'services'), records: join(layout.locks, 'services') };
}

const firstPause = 200;
const longestPause = 10_000;
/** One that ran this long has earned a quick restart. */
const settled = 30_000;
/** Deaths before it first serves, after which starting has failed. */
const patience = 3;
const quotaInterval = 5_000;

interface ServiceRecord extends ProcId {
  stopSignal: NodeJS.Signals;
  stopTimeout: number;
}

/** Starts the service. `onEvent` is told of every start, readiness and death. */
export function supervise<Name extends string>(
  spec: ServiceSpec<Name>,
  folders: ServiceFolders,
  onEvent: (event: ServiceEvent) => void = () => {},
): Service<Name> {
  const log = join(folders.logs, `${spec.name}.log`);
  const record = recordPath(folders, spec.name);
  let child: ChildProcess | undefined;
  let stopping = false;
  let restarts = 0;
  let deathsBeforeReady = 0;
  let served = false;
  let pause = firstPause;
  let lastDeath = '';
  let wake = () => {};
  const ended = deferred();

  const quota = setInterval(() => keepQuota(log), quotaInterval);
  quota.unref();
  void run();

  async function run(): Promise<void> {
    while (!stopping) {
      const since = Date.now();
      const died = start();
      const how = await died;
      child = undefined;
      if (stopping) break;
      lastDeath = how;
      if (!served) deathsBeforeReady++;
      restarts++;
      if (Date.now() - since > settled) pause = firstPause;
      onEvent({ kind: 'died', how, restartMs: pause });
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
      pause = Math.min(pause * 2, longestPause);
    }
    clearInterval(quota);
    await rm(record, { force: true });
    ended.resolve();
  }

  /** Resolves, with how it ended, when the process has. */
  function start(): Promise<string> {
    const [file, ...args] = spec.argv;
    const output = openLog(log);
    const since = Date.now();
    try {
      child = spawn(file, args, {
        cwd: spec.cwd ?? '/',
        env: spec.env,
        detached: true,
        stdio: ['ignore', output, output],
        ...spec.user,
      });
    } finally {
      closeSync(output);
    }
    const current = child;
    const ending = new Promise<string>((resolve) => {
      current.once('error', (error) => resolve(`it could not be started: ${error.message}`));
      current.once('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`));
    });
    const proc = current.pid === undefined ? undefined : readProc(current.pid);
    if (proc) {
      const { stopSignal, stopTimeout } = spec;
      const known: ServiceRecord = { pid: proc.pid, start: proc.start, stopSignal, stopTimeout };
      mkdirSync(folders.records, { recursive: true });
      // Synchronously, so that hardly an instant lies between the process and its record; whole, for whoever reads it later.
      writeFileSync(`${record}.new`, JSON.stringify(known), { mode: 0o600 });
      renameSync(`${record}.new`, record);
      onEvent({ kind: 'started', pid: proc.pid });
      void watchReady(current, since);
    }
    return ending;
  }

  async function watchReady(of: ChildProcess, since: number): Promise<void> {
    for (let wait = 25; child === of && !stopping; wait = Math.min(wait * 1.5, 250)) {
      if (await spec.ready(since).catch(() => false)) {
        if (child !== of || stopping) return;
        served = true;
        onEvent({ kind: 'ready', pid: of.pid as number, ms: Date.now() - since });
        return;
      }
      await sleep(wait);
    }
  }

  return {
    name: spec.name,
    log,
    get pid() {
      return child?.pid;
    },
    get restarts() {
      return restarts;
    },

    async ready() {
      const deadline = Date.now() + spec.readyTimeout;
      while (!served) {
        if (stopping) throw new Error(`${spec.name} was stopped before it served`);
        const keepsDying = deathsBeforeReady >= patience;
        if (keepsDying || Date.now() > deadline) {
          const why = lastDeath ? `it ended (${lastDeath})` : `it did not serve within ${spec.readyTimeout / 1000} s`;
          const lines = await tailLog(log, 15);
          throw new Error(
            `${spec.name} did not start: ${why}. Its log, ${log}, ends:\n${lines.map((l) => `  ${l}`).join('\n')}`,
          );
        }
        await sleep(20);
      }
    },

    async stop() {
      stopping = true;
      wake();
      const current = child;
      if (current?.pid !== undefined) {
        signal(current.pid, spec.stopSignal);
        const timer = setTimeout(() => killGroup(current.pid as number), spec.stopTimeout);
        await ended.promise;
        clearTimeout(timer);
        // Helpers of its own that it left in its group.
        killGroup(current.pid);
      }
      await ended.promise;
    },

    kill() {
      stopping = true;
      wake();
      if (child?.pid !== undefined) killGroup(child.pid);
    },
  };
}

const recordPath = (folders: ServiceFolders, name: string) => join(folders.records, `${name}.json`);

/** What a supervisor that was killed has left of this service: its process, still running. */
export async function findLeftover(name: string, folders: ServiceFolders): Promise<ServiceRecord | undefined> {
  const text = await readOrUndefined(recordPath(folders, name));
  const left = text ? (JSON.parse(text) as ServiceRecord) : undefined;
  return left && isAlive(left) ? left : undefined;
}

/** Stops such a leftover, and gives its pid; undefined when nothing was left. */
export async function stopLeftover(name: string, folders: ServiceFolders): Promise<number | undefined> {
  const left = await findLeftover(name, folders);
  if (left) {
    signalAll([left], left.stopSignal);
    const deadline = Date.now() + left.stopTimeout;
    while (isAlive(left) && Date.now() < deadline) await sleep(20);
    if (isAlive(left)) killGroup(left.pid);
    while (isAlive(left)) await sleep(20);
  }
  await rm(recordPath(folders, name), { force: true });
  return left?.pid;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Ended in between.
  }
}

function killGroup(pid: number): void {
  signal(-pid, 'SIGKILL');
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
