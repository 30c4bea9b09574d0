/** Closures of the local runtime: built source trees, cached by commit. */
import { randomBytes } from 'node:crypto';
import { access, chmod, mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { failure } from '../../activities/failure.ts';
import type { PreviewMeta } from '../../domain/meta.ts';
import type { Closure, DeploymentRef } from '../../domain/preview.ts';
import { isMissing, readOrUndefined, withLock, writeAtomic } from '../../host/files.ts';
import type { HostLayout } from '../../host/layout.ts';
import type { Mirror } from '../../host/mirror.ts';
import { runGroup } from '../../host/process-group.ts';
import type { Step } from '../runtime.ts';
import { buildCommands, readDeclared } from './declared.ts';
import { buildEnvironment, buildMarker, type Machine, marker } from './environment.ts';
import { note, tellingLines } from './logs.ts';
import { buildLogPath } from './paths.ts';
import { endProcs, findProcs, isAlive, readProc, takeSnapshot } from './proc.ts';
import type { Command } from './record.ts';
import { describeEnd, runToEnd } from './spawn.ts';

/** What lies beside the built tree. */
interface ClosureFile {
  meta: PreviewMeta;
  commands: Command[];
}

export interface Closures {
  /** Throws CommitNotFound, InvalidMeta, BuildFailed, ForkRefused and what the mirror throws. */
  build(deployment: DeploymentRef, step: Step): Promise<Closure>;
  /** The closure if it is built already. */
  find(deployment: DeploymentRef): Promise<Closure | undefined>;
  /** Ends the build of a container, whoever runs it; done when nothing of it runs. */
  abort(container: string): Promise<void>;
  /** Ends every build of this worker with the reason given. */
  abortAll(reason: Error): Promise<void>;
  commandsOf(path: string): Promise<Command[]>;
  /** Kills the builds of workers that are dead, and removes, without waiting for it, what they had built so far. */
  endOrphans(): Promise<void>;
}

/** Bytes that npm's shared cache may take. */
const npmCacheQuota = 4 * 1024 ** 3;

/** The built source in a closure. */
export function closureTree(path: string): string {
  return join(path, 'app');
}

/**
 * @param options.keep how many closures that no container uses are kept
 * @param options.inUse the closures' paths that containers use
 */
export function createClosures(options: {
  layout: HostLayout;
  machine: Machine;
  mirror: Mirror;
  logger: Logger;
  keep: number;
  inUse(): Promise<Set<string>>;
}): Closures {
  const { layout, machine, mirror, logger, keep, inUse } = options;
  const npmCache = join(layout.deploys, 'npm-cache');
  let npmCacheSeenAt = 0;
  const running = new Map<string, { abort: AbortController; over: Promise<unknown> }>();
  const self = readProc(process.pid);
  const builder = `${process.pid}:${self?.start ?? 0}`;

  const pathOf = ({ preview, sha }: DeploymentRef) =>
    join(layout.closures, preview.owner.toLowerCase(), preview.repo.toLowerCase(), sha);
  const buildProcs = (container: string) => () =>
    findProcs({ environ: { [marker.container]: buildMarker(machine, container) } });

  async function find(deployment: DeploymentRef): Promise<Closure | undefined> {
    const path = pathOf(deployment);
    const text = await readOrUndefined(join(path, 'closure.json'));
    if (text === undefined) return undefined;
    // The order of use, for the eviction.
    const now = new Date();
    await utimes(path, now, now).catch(() => {});
    const { meta } = JSON.parse(text) as ClosureFile;
    return { path, meta, logPath: buildLogPath(layout, deployment.preview.slug, deployment.container), cached: true };
  }

  /** So that a deployment that needed no build has a log that says so. */
  async function findAndNote(deployment: DeploymentRef): Promise<Closure | undefined> {
    const found = await find(deployment);
    if (found) await note(found.logPath, `commit ${deployment.sha} is built already`);
    return found;
  }

  async function abort(container: string): Promise<void> {
    const mine = running.get(container);
    mine?.abort.abort(failure('BuildFailed', `The build of ${container} was ended.`));
    await mine?.over.catch(() => {});
    await endProcs(buildProcs(container), 0);
  }

  async function build(deployment: DeploymentRef, step: Step): Promise<Closure> {
    const path = pathOf(deployment);
    const logPath = buildLogPath(layout, deployment.preview.slug, deployment.container);
    const closure = await withLock(
      path,
      async () => {
        const found = await findAndNote(deployment);
        if (found) return found;
        await removeLeftovers(path);
        const temp = `${path}.tmp-${randomBytes(4).toString('hex')}`;
        try {
          const file = await buildTree(deployment, temp, logPath, step);
          await writeAtomic(join(temp, 'closure.json'), JSON.stringify(file));
          await rename(temp, path);
          return { path, meta: file.meta, logPath, cached: false };
        } finally {
          await removeTree(temp);
        }
      },
      { signal: step.signal },
    );
    void evict()
      .then(trimNpmCache)
      .catch((error) => logger.warn({ err: error }, 'closures could not be evicted'));
    return closure;
  }

  async function buildTree(deployment: DeploymentRef, temp: string, logPath: string, step: Step): Promise<ClosureFile> {
    const { preview, container, sha, ref } = deployment;
    const { gitDir } = await mirror.ensureCommit({ owner: preview.owner, repo: preview.repo, ref, sha }, step);
    await note(logPath, `building ${preview.owner}/${preview.repo} at ${sha} (${new Date().toISOString()})`);
    step.progress('checking the commit out');
    const app = join(temp, 'app');
    await mirror.checkout({ gitDir, sha, into: app }, step);
    await mkdir(join(temp, 'home'));
    await mkdir(join(temp, 'tmp'));
    if (await exists(join(app, '.gitmodules'))) {
      await note(logPath, 'the repository has submodules: they are not supported, their folders stay empty');
    }
    const { meta, commands, packageJson } = await readDeclared(app);
    const has = {
      lockfile: (await exists(join(app, 'package-lock.json'))) || (await exists(join(app, 'npm-shrinkwrap.json'))),
      bindingGyp: await exists(join(app, 'binding.gyp')),
    };
    const env = buildEnvironment(
      machine,
      {
        container,
        owner: preview.workflowId,
        folder: temp,
        npmCache,
        npmrc: join(layout.root, 'etc/npmrc'),
        builder,
      },
      process.env,
    );
    for (const { title, argv } of buildCommands(packageJson, has)) {
      step.progress(title);
      await note(logPath, `$ ${argv.join(' ')}`);
      const end = await runToEnd(
        { argv, cwd: app, env, logPath },
        {
          find: () => findProcs({ environ: { [marker.container]: buildMarker(machine, container) }, folder: temp }),
          graceMs: 0,
          signal: step.signal,
          progress: (line) => step.progress(`${title}: ${line.slice(0, 160)}`),
        },
      );
      if (end.code === 0) continue;
      const lines = tellingLines(end.output, 12);
      await note(logPath, `${title} ended with ${describeEnd(end)}`);
      throw failure('BuildFailed', `${title} ended with ${describeEnd(end)}:\n${lines.join('\n')}`, {
        details: [{ lines, logPath }],
      });
    }
    await removeTree(join(temp, 'home'));
    await removeTree(join(temp, 'tmp'));
    await note(logPath, 'built');
    return { meta, commands };
  }

  /** Drops the closures that were used longest ago, beyond `keep`, but none that a container uses or that is just being taken. */
  async function evict(): Promise<void> {
    const all: { path: string; usedMs: number }[] = [];
    for (const owner of await namesIn(layout.closures)) {
      for (const repo of await namesIn(join(layout.closures, owner))) {
        for (const sha of await namesIn(join(layout.closures, owner, repo))) {
          const path = join(layout.closures, owner, repo, sha);
          if (/^[0-9a-f]{40}$/.test(sha)) all.push({ path, usedMs: (await stat(path)).mtimeMs });
        }
      }
    }
    if (all.length <= keep) return;
    const used = await inUse();
    const idle = all.filter(({ path }) => !used.has(path)).sort((a, b) => b.usedMs - a.usedMs);
    for (const { path, usedMs } of idle.slice(keep)) {
      if (Date.now() - usedMs < 10 * 60_000) continue;
      await withLock(path, async () => {
        if ((await inUse()).has(path)) return;
        const going = `${path}.tmp-evicted`;
        await rename(path, going);
        await removeTree(going);
      });
    }
  }

  /** A commit that was given up after its builder died is never built again, which would remove what was left. */
  async function removeAllLeftovers(): Promise<void> {
    const left = new Set<string>();
    for (const owner of await namesIn(layout.closures)) {
      for (const repo of await namesIn(join(layout.closures, owner))) {
        for (const name of await namesIn(join(layout.closures, owner, repo))) {
          const sha = /^([0-9a-f]{40})\.tmp-/.exec(name)?.[1];
          if (sha) left.add(join(layout.closures, owner, repo, sha));
        }
      }
    }
    await Promise.all([...left].map((path) => withLock(path, () => removeLeftovers(path))));
  }

  /** npm never forgets what it downloaded: beyond its quota its cache begins anew, while nothing is being built. */
  async function trimNpmCache(): Promise<void> {
    if (Date.now() - npmCacheSeenAt < 3600_000) return;
    npmCacheSeenAt = Date.now();
    const { stdout } = await runGroup(['du', '-sk', '--', npmCache], { env: { PATH: machine.path, LC_ALL: 'C' } });
    // No cache, no size: not a number is not more either.
    if (!(Number.parseInt(stdout, 10) * 1024 > npmCacheQuota) || running.size > 0) return;
    const going = `${npmCache}.tmp-${randomBytes(4).toString('hex')}`;
    await rename(npmCache, going);
    await removeTree(going);
  }

  return {
    find: findAndNote,
    abort,

    async build(deployment, step) {
      const { preview, container, fork } = deployment;
      if (fork) {
        throw failure(
          'ForkRefused',
          `${preview.owner}/${preview.repo}: the commit comes from a fork; this host runs trusted code only.`,
        );
      }
      // An attempt that Temporal has given up may still be at work here, or have left processes: a retry kills first.
      await abort(container);
      step.signal.throwIfAborted();
      const controller = new AbortController();
      const signal = AbortSignal.any([step.signal, controller.signal]);
      const over = build(deployment, { signal, progress: step.progress });
      const entry = { abort: controller, over };
      running.set(container, entry);
      try {
        return await over;
      } finally {
        if (running.get(container) === entry) running.delete(container);
      }
    },

    async abortAll(reason) {
      await Promise.all(
        [...running.values()].map(async ({ abort, over }) => {
          abort.abort(reason);
          await over.catch(() => {});
        }),
      );
    },

    async commandsOf(path) {
      const text = await readOrUndefined(join(path, 'closure.json'));
      return text === undefined ? [] : (JSON.parse(text) as ClosureFile).commands;
    },

    async endOrphans() {
      const orphans = () => {
        const now = takeSnapshot();
        return now.procs.filter((proc) => {
          const environ = now.environ(proc.pid);
          const of = environ.get(marker.container);
          if (!of?.startsWith(`${machine.stateId}/`) || !of.endsWith(':build')) return false;
          const [pid, start] = (environ.get(marker.builder) ?? '').split(':').map(Number);
          return !isAlive({ pid: pid ?? 0, start: start ?? 0 });
        });
      };
      const ended = await endProcs(orphans, 0);
      if (ended > 0) logger.info({ processes: ended }, 'killed what was left of builds of a dead worker');
      // Nobody is made to wait for it: a build of the command line may hold a lock for long.
      void removeAllLeftovers().catch((error) =>
        logger.warn({ err: error }, 'half-built closures could not be removed'),
      );
    },
  };
}

/** What builds that died left beside a closure. Called under its lock. */
async function removeLeftovers(path: string): Promise<void> {
  const prefix = `${basename(path)}.tmp-`;
  for (const name of await namesIn(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const left = join(dirname(path), name);
    // A git of the dead worker has no marker, and may still write there.
    await endProcs(() => findProcs({ environ: {}, folder: left }), 0);
    await removeTree(left);
  }
}

/** Removes a tree, also one with folders that may not be written to (as some build tools leave them). */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EACCES' && code !== 'EPERM') throw error;
    await makeWritable(path);
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function makeWritable(folder: string): Promise<void> {
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeWritable(join(folder, entry.name));
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
