import { accessSync, constants, mkdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import lockfile from 'proper-lockfile';

/** The project's own folder: two above this file, in `src/` as in `dist/`. */
export const projectFolder = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Folders that may hold fetched components, in the order they are searched. The first that can be written is where new ones go:
 * the user's, so that a second clone fetches nothing; the project's `.cache` when there is no home to write to.
 */
export function cacheFolders(env: NodeJS.ProcessEnv): string[] {
  if (env.TEKTON_CACHE_DIR) return [env.TEKTON_CACHE_DIR];
  const user = join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'tekton');
  return [user, join(projectFolder, '.cache')];
}

/** The first folder that exists or can be made, and written to. Throws the first folder's error when none can. */
export function writableFolder(folders: string[]): string {
  let first: unknown;
  for (const folder of folders) {
    try {
      mkdirSync(folder, { recursive: true });
      accessSync(folder, constants.W_OK);
      return folder;
    } catch (error) {
      first ??= error;
    }
  }
  throw first;
}

/** Versions of a component in a cache folder, the preferred one first, then the newest. */
export async function cachedVersions(
  folder: string,
  name: string,
  preferred: string | undefined,
  compare: (a: string, b: string) => number,
): Promise<string[]> {
  const entries = await readdir(join(folder, name)).catch(() => []);
  return entries
    .filter((entry) => /^\d/.test(entry))
    .sort((a, b) => Number(b === preferred) - Number(a === preferred) || compare(b, a));
}

/** A temporary folder left by a process that was killed is removed after this long. */
const staleTemporary = 60 * 60_000;

/**
 * Fills `<folder>/<name>/<version>` atomically, once for all processes: a temporary folder is filled and renamed into place. A second
 * process waits, then finds the first one's. Gives the path.
 */
export async function install(
  place: { folder: string; name: string; version: string },
  steps: {
    /** Puts the files into a temporary folder. */
    fill(temporary: string): Promise<void>;
    /** Whether what is in place already can be used. What can't (damaged, half-copied) is replaced. */
    works(target: string): Promise<boolean>;
    /** Called once when another process is at it. */
    waiting(): void;
  },
): Promise<string> {
  const target = join(place.folder, place.name, place.version);
  await mkdir(dirname(target), { recursive: true });
  const release = await lockInstall(dirname(target), steps.waiting);
  try {
    if (await steps.works(target)) return target;
    await rm(target, { recursive: true, force: true });
    await removeStale(dirname(target));
    const temporary = await mkdtemp(join(dirname(target), '.tmp-'));
    try {
      // mkdtemp makes it for us alone; another user may run what is in it.
      await chmod(temporary, 0o755);
      await steps.fill(temporary);
      await rename(temporary, target);
      return target;
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  } finally {
    await release().catch(() => {});
  }
}

async function lockInstall(folder: string, waiting: () => void): Promise<() => Promise<void>> {
  const options = {
    lockfilePath: join(folder, '.lock'),
    stale: 15_000,
    update: 3_000,
    // The lock of a suspended process may be taken over; the rename below then merely finds the target already there.
    onCompromised: () => {},
  };
  try {
    return await lockfile.lock(folder, options);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw error;
  }
  waiting();
  return lockfile.lock(folder, { ...options, retries: { retries: 4_000, minTimeout: 150, maxTimeout: 150 } });
}

async function removeStale(folder: string): Promise<void> {
  for (const entry of await readdir(folder)) {
    if (!entry.startsWith('.tmp-')) continue;
    const path = join(folder, entry);
    const age = Date.now() - (await stat(path)).mtimeMs;
    if (age > staleTemporary) await rm(path, { recursive: true, force: true });
  }
}
