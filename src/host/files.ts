/** Files that others read: written whole or not at all. And locks that die with their holder. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { Mutex } from 'async-mutex';

/**
 * Writes a file so that a reader sees the old content or the new, never a part: temp file in the same folder, then rename.
 * Missing folders are made.
 *
 * @param options.mode permission bits of the file (default 0644)
 * @param options.sync waits until the bytes are on the disk, where loss would hurt
 */
export async function writeAtomic(
  path: string,
  data: string | Uint8Array,
  options: { mode?: number; sync?: boolean } = {},
): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  // The leading dot keeps it out of `*.caddy` and the like.
  const temp = join(folder, `.tmp-${process.pid}-${randomBytes(6).toString('hex')}`);
  try {
    const file = await open(temp, 'wx', options.mode ?? 0o644);
    try {
      await file.writeFile(data);
      // The umask may have taken bits away from what was asked for.
      if (options.mode !== undefined) await file.chmod(options.mode);
      if (options.sync) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
  if (options.sync) await syncFolder(folder);
}

/**
 * Removes what writers that were killed left half-written in these folders: temp files of `writeAtomic` whose process is dead. To be
 * called before this process writes anything there, so that files of its own pid are an earlier one's too.
 *
 * @returns how many there were
 */
export async function removeDeadTemps(folders: readonly string[]): Promise<number> {
  let count = 0;
  for (const folder of folders) {
    const names = await readdir(folder).catch((error) => {
      if (isMissing(error)) return [];
      throw error;
    });
    for (const name of names) {
      const pid = Number(/^\.tmp-(\d+)-[0-9a-f]{12}$/.exec(name)?.[1]);
      if (!(pid > 0) || (pid !== process.pid && existsSync(`/proc/${pid}`))) continue;
      await rm(join(folder, name), { force: true });
      count++;
    }
  }
  return count;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The text of a file, or undefined when there is none. Other errors (permissions, a folder) are thrown. */
export async function readOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** True for the errors that mean "no such file". */
export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

const mutexes = new Map<string, { mutex: Mutex; users: number }>();

/**
 * Runs `work` while nobody else on this machine runs anything under the same key (by custom the path of what is guarded).
 * Waiting ends with the signal's reason when it is aborted; `work` itself is not interrupted.
 *
 * The lock is an abstract Unix socket: the kernel frees it when its holder dies, SIGKILL included, so no lock is ever stale,
 * and those who wait are woken by the connection's end instead of polling.
 */
export async function withLock<T>(
  key: string,
  work: () => Promise<T>,
  options: { signal?: AbortSignal } = {},
): Promise<T> {
  const { signal } = options;
  const entry = mutexes.get(key) ?? { mutex: new Mutex(), users: 0 };
  mutexes.set(key, entry);
  entry.users++;
  try {
    const release = await acquireMutex(entry.mutex, signal);
    try {
      const held = await acquireSocket(key, signal);
      try {
        return await work();
      } finally {
        await held();
      }
    } finally {
      release();
    }
  } finally {
    if (--entry.users === 0) mutexes.delete(key);
  }
}

async function acquireMutex(mutex: Mutex, signal: AbortSignal | undefined): Promise<() => void> {
  signal?.throwIfAborted();
  const acquired = mutex.acquire();
  if (!signal) return acquired;
  return await new Promise((resolve, reject) => {
    const onAbort = () => {
      void acquired.then((release) => release());
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    void acquired.then((release) => {
      signal.removeEventListener('abort', onAbort);
      if (!signal.aborted) resolve(release);
    });
  });
}

async function acquireSocket(key: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  const name = `\0tekton-lock-${createHash('sha256').update(key).digest('hex').slice(0, 40)}`;
  for (;;) {
    signal?.throwIfAborted();
    const release = await tryListen(name);
    if (release) return release;
    await waitForEnd(name, signal);
  }
}

function tryListen(name: string): Promise<(() => Promise<void>) | undefined> {
  return new Promise((resolve, reject) => {
    const waiting = new Set<Socket>();
    const server: Server = createServer((socket) => {
      waiting.add(socket);
      socket.on('close', () => waiting.delete(socket)).on('error', () => {});
    });
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen({ path: name }, () => {
      server.unref();
      resolve(
        () =>
          new Promise<void>((done) => {
            server.close(() => done());
            for (const socket of waiting) socket.destroy();
          }),
      );
    });
  });
}

/** Resolves when the holder lets go (or dies, or is already gone). */
function waitForEnd(name: string, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: name });
    const onAbort = () => {
      socket.destroy();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('error', () => {});
    socket.resume();
    socket.on('close', () => {
      signal?.removeEventListener('abort', onAbort);
      // A short breath, so that a full backlog can't make this spin.
      setTimeout(resolve, 2);
    });
  });
}
