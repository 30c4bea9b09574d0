/**
 * What is scarce on the whole machine (loopback subnets, ports), claimed across every stack and every user of it: one file a
 * claim, created exclusively, holding the path of whoever owns it. A claim whose owner path is gone is stale.
 */
import { randomBytes } from 'node:crypto';
import { access, chmod, link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { isMissing, readOrUndefined, withLock } from './files.ts';

export type ClaimKind = 'subnet' | 'port';

/** Real ports of the local runtime: below the kernel's ephemeral range, which begins at 32768. */
export const portRange = { first: 20_000, last: 29_999 } as const;

export interface MachineClaims {
  /** True when the key is now the owner's (again). `owner` is a path that exists for as long as the claim is meant. */
  claim(kind: ClaimKind, key: string, owner: string): Promise<boolean>;
  /** Lets go of a claim; nothing happens when it is not the owner's. */
  release(kind: ClaimKind, key: string, owner: string): Promise<void>;
  /** Lets go of all of the owner's claims of this kind. */
  releaseAll(kind: ClaimKind, owner: string): Promise<void>;
  /** Removes every claim whose owner path is gone. */
  sweep(): Promise<void>;
  /** A port that nobody claims and nobody listens on, now the owner's. Throws when the range is used up. */
  claimPort(owner: string): Promise<number>;
  /** The keys of this kind that are the owner's. */
  claimedBy(kind: ClaimKind, owner: string): Promise<string[]>;
}

/**
 * @param folder where the claims lie: `TEKTON_CLAIMS_DIR`, else `/var/tmp/tekton-claims`, which all users of the machine share
 */
export function createMachineClaims(
  folder: string = process.env.TEKTON_CLAIMS_DIR || '/var/tmp/tekton-claims',
): MachineClaims {
  const fileOf = (kind: ClaimKind, key: string) => join(folder, `${kind}-${encodeURIComponent(key)}`);
  // The kernel's lock serialises takeovers within the machine; exclusive creation still holds where it does not reach
  // (another network namespace that shares the folder).
  const locked = <T>(work: () => Promise<T>) => withLock(`machine-claims:${folder}`, work);

  async function prepare(): Promise<void> {
    await mkdir(folder, { recursive: true });
    // Only its owner may, and only the first time it matters; others find it as it should be.
    await chmod(folder, 0o1777).catch(() => {});
  }

  async function claimLocked(kind: ClaimKind, key: string, owner: string): Promise<boolean> {
    const path = fileOf(kind, key);
    for (let attempt = 0; attempt < 2; attempt++) {
      if (await createExclusively(folder, path, owner)) return true;
      const holder = await readOrUndefined(path);
      if (holder === undefined) continue;
      if (holder === owner) return true;
      if (await exists(holder)) return false;
      try {
        await rm(path, { force: true });
      } catch {
        // Another user's file in a sticky folder: stale, but not ours to take.
        return false;
      }
    }
    return false;
  }

  async function claimedBy(kind: ClaimKind, owner: string): Promise<string[]> {
    const names = await readdir(folder).catch((error) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const found: string[] = [];
    for (const name of names) {
      if (!name.startsWith(`${kind}-`)) continue;
      if ((await readOrUndefined(join(folder, name))) === owner)
        found.push(decodeURIComponent(name.slice(kind.length + 1)));
    }
    return found;
  }

  return {
    claimedBy,

    async claim(kind, key, owner) {
      await prepare();
      return await locked(() => claimLocked(kind, key, owner));
    },

    async release(kind, key, owner) {
      await locked(async () => {
        const path = fileOf(kind, key);
        if ((await readOrUndefined(path)) === owner) await rm(path, { force: true });
      });
    },

    async releaseAll(kind, owner) {
      await locked(async () => {
        for (const key of await claimedBy(kind, owner)) await rm(fileOf(kind, key), { force: true });
      });
    },

    async sweep() {
      await locked(async () => {
        for (const name of await readdir(folder).catch(() => [])) {
          if (name.startsWith('.')) continue;
          const holder = await readOrUndefined(join(folder, name));
          // Another user's file may not be removed; it does no harm.
          if (holder && !(await exists(holder))) await rm(join(folder, name), { force: true }).catch(() => {});
        }
      });
    },

    async claimPort(owner) {
      await prepare();
      return await locked(async () => {
        const size = portRange.last - portRange.first + 1;
        // A random start: a port is used again as late as chance allows.
        const start = Math.floor(Math.random() * size);
        for (let i = 0; i < size; i++) {
          const port = portRange.first + ((start + i) % size);
          if ((await readOrUndefined(fileOf('port', String(port)))) === owner) continue;
          if (!(await isFree(port))) continue;
          if (await claimLocked('port', String(port), owner)) return port;
        }
        throw new Error(
          `No free port between ${portRange.first} and ${portRange.last}: each is claimed in ${folder} or in use. Destroy previews that are no longer needed.`,
        );
      });
    },
  };
}

/** Creates the file with its content in one step, so that nobody ever reads an empty claim. False when it is there already. */
async function createExclusively(folder: string, path: string, content: string): Promise<boolean> {
  // Most often it is there already: the cheap question first.
  if ((await readFile(path).catch(() => undefined)) !== undefined) return false;
  const temp = join(folder, `.tmp-${process.pid}-${randomBytes(6).toString('hex')}`);
  await writeFile(temp, content, { flag: 'wx', mode: 0o644 });
  try {
    await link(temp, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(temp, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    // Not being allowed to look is no proof of absence.
    return !isMissing(error);
  }
}

/** True when nobody listens on this port on any address of the machine. */
export async function isFree(port: number): Promise<boolean> {
  return (await canBind('0.0.0.0', port)) && (await canBind('::', port));
}

function canBind(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      // A machine without IPv6 has nobody listening there either.
      resolve(error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL');
    });
    server.listen({ host, port, ipv6Only: host === '::', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
