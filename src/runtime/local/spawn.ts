/** Starting processes that outlive the worker, and running commands to their end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lastLines, readTail } from './logs.ts';
import { endProcs, type Proc } from './proc.ts';

export interface SpawnSpec {
  argv: readonly [string, ...string[]];
  cwd: string;
  env: Record<string, string>;
  logPath: string;
}

/**
 * Starts a process in a session of its own that writes straight into its log: the worker may die, and it neither gets a signal nor
 * loses its output.
 */
export function spawnLogged({ argv: [file, ...args], cwd, env, logPath }: SpawnSpec): ChildProcess {
  mkdirSync(dirname(logPath), { recursive: true });
  const log = openSync(logPath, 'a');
  try {
    const child = spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', log, log] });
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

/** How a process ended. */
export interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Why it could not even be started. */
  error?: Error;
}

/** Waits for a process's end; never throws. */
export async function endOf(child: ChildProcess): Promise<End> {
  if (child.exitCode !== null || child.signalCode !== null) return { code: child.exitCode, signal: child.signalCode };
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return { code, signal };
  } catch (error) {
    return { code: null, signal: null, error: error as Error };
  }
}

/** "exit code 1", "SIGKILL" or why it could not be started. */
export function describeEnd(end: End): string {
  if (end.error) return end.error.message;
  return end.signal ?? `exit code ${end.code}`;
}

/**
 * Runs a command to its end and gives how it ended, with the log's text since it began. Whatever it leaves behind is killed. When the
 * signal is aborted, its whole tree is dead before the signal's reason is thrown.
 *
 * @param find gives all that the command started, wherever it went
 * @param graceMs how long its tree may take to end by itself when aborted
 * @param progress is told the latest line of the log, a few times a second at most
 */
export async function runToEnd(
  spec: SpawnSpec,
  options: { find: () => Proc[]; graceMs: number; signal: AbortSignal; progress?: (line: string) => void },
): Promise<End & { output: string }> {
  const { find, graceMs, signal, progress } = options;
  signal.throwIfAborted();
  const from = await stat(spec.logPath).then(
    (info) => info.size,
    () => 0,
  );
  const ended = endOf(spawnLogged(spec));
  let seen = from;
  const tell = async () => {
    const size = await stat(spec.logPath).then(
      (info) => info.size,
      () => 0,
    );
    if (size === seen) return;
    seen = size;
    const line = lastLines(await readTail(spec.logPath, from), 1)[0];
    if (line) progress?.(line);
  };
  const timer = progress && setInterval(() => void tell().catch(() => {}), 300);
  const stop = new AbortController();
  try {
    const aborted = new Promise<'aborted'>((resolve) => {
      signal.addEventListener('abort', () => resolve('aborted'), { once: true, signal: stop.signal });
      if (signal.aborted) resolve('aborted');
    });
    const first = await Promise.race([ended, aborted]);
    if (first === 'aborted') {
      await endProcs(find, graceMs);
      signal.throwIfAborted();
    }
    const end = await ended;
    await endProcs(find, 500);
    signal.throwIfAborted();
    return { ...end, output: await readTail(spec.logPath, from) };
  } finally {
    clearInterval(timer);
    stop.abort();
  }
}

/** Waits, but not longer than until the signal is aborted, and never holds the worker back from ending. True when it was aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
  return signal.aborted;
}
