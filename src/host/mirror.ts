/** Bare mirrors of the repositories that previews come from: fetched, never cloned anew, one folder a repository. */
import { createHash } from 'node:crypto';
import { access, mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { failure } from '../activities/failure.ts';
import type { Step } from '../runtime/runtime.ts';
import { isMissing, readOrUndefined, withLock, writeAtomic } from './files.ts';
import {
  checkoutArgv,
  classifyGitError,
  fetchArgv,
  gitEnvironment,
  gitReason,
  isBranchName,
  isCommitSha,
  isRefName,
  isRepoName,
  lsRemoteArgv,
  tokenConfig,
  withoutUserInfo,
} from './git.ts';
import type { HostLayout } from './layout.ts';
import { runGroup } from './process-group.ts';

export interface Mirror {
  /**
   * Makes sure the commit is in the mirror, and gives the mirror's folder. Asks the server only when it isn't. Throws CommitNotFound,
   * RepoNotFound, GitUnavailable.
   */
  ensureCommit(
    wanted: { owner: string; repo: string; ref: string; sha: string },
    step: Step,
  ): Promise<{ gitDir: string }>;
  /** The commit a branch points to on the server now. Throws BranchNotFound, RepoNotFound, GitUnavailable. */
  resolveBranch(wanted: {
    owner: string;
    repo: string;
    branch: string;
    signal?: AbortSignal;
  }): Promise<{ sha: string }>;
  /** Writes the commit's files into the folder `into`, which is made. No hooks, no filters (LFS files stay pointers), no submodules. */
  checkout(wanted: { gitDir: string; sha: string; into: string }, step: Step): Promise<void>;
}

/** Refs of the mirror that nobody asked for in this time are dropped, so that git may collect what only they hold. */
const refLifetimeMs = 30 * 24 * 3600_000;
const maintenanceEveryMs = 24 * 3600_000;

interface Remote {
  url: string;
  local: boolean;
}

/**
 * @param options.gitBaseUrl an http(s) or ssh URL, or a folder of bare repositories (`<owner>/<repo>.git` or `<owner>/<repo>`)
 * @param options.patienceMs how long to wait before a server is asked again for a commit it does not have: a webhook may outrun the
 *   server's own replicas. A folder is asked once.
 * @param options.credentials gives a token for http(s), read anew for each call; undefined for none
 */
export function createMirror(options: {
  layout: Pick<HostLayout, 'mirrors'>;
  gitBaseUrl: string;
  credentials?: () => Promise<string | undefined>;
  patienceMs?: number[];
}): Mirror {
  const { layout, gitBaseUrl, credentials, patienceMs = [1000, 2000] } = options;
  const baseFolder = gitBaseUrl.startsWith('file://')
    ? fileURLToPath(gitBaseUrl)
    : isAbsolute(gitBaseUrl) || gitBaseUrl.startsWith('./') || gitBaseUrl.startsWith('../')
      ? gitBaseUrl
      : undefined;

  function checkNames(owner: string, repo: string): void {
    if (isRepoName(owner) && isRepoName(repo)) return;
    throw failure('RepoNotFound', `${owner}/${repo} is not a name that a repository can have.`);
  }

  async function remoteOf(owner: string, repo: string): Promise<Remote> {
    if (baseFolder === undefined) {
      const base = gitBaseUrl.replace(/\/+$/, '');
      return { url: `${base}${base.endsWith(':') ? '' : '/'}${owner}/${repo}.git`, local: false };
    }
    if (!(await exists(baseFolder))) {
      // Perhaps a disk that isn't mounted yet: no word on the repository.
      throw failure('GitUnavailable', `The folder of repositories ${baseFolder} (GIT_BASE_URL) is not there.`);
    }
    for (const path of [join(baseFolder, owner, `${repo}.git`), join(baseFolder, owner, repo)]) {
      if (await exists(path)) return { url: path, local: true };
    }
    throw failure('RepoNotFound', `There is no ${owner}/${repo}.git in ${baseFolder} (GIT_BASE_URL).`);
  }

  async function environment(remote?: Remote): Promise<Record<string, string>> {
    const token = remote && !remote.local && /^https?:/.test(remote.url) ? await credentials?.() : undefined;
    return gitEnvironment(process.env, token ? tokenConfig(gitBaseUrl, token) : {});
  }

  async function hasCommit(gitDir: string, sha: string): Promise<boolean> {
    if (!(await exists(join(gitDir, 'HEAD')))) return false;
    const argv = ['git', `--git-dir=${gitDir}`, 'cat-file', '-e', `${sha}^{commit}`] as const;
    return (await runGroup(argv, { env: await environment() })).exitCode === 0;
  }

  /** The same of the commit that a ref was fetched for, without a process: git moves a ref only once all that it needs is there. */
  async function refPointsTo(gitDir: string, target: string, sha: string): Promise<boolean> {
    return (await readOrUndefined(join(gitDir, target)))?.trim() === sha;
  }

  /** The mirror's folder, made when missing: in a temp folder first, so that a half-made one is never met. */
  async function ensureMirror(gitDir: string): Promise<void> {
    if (await exists(join(gitDir, 'HEAD'))) return;
    const temp = `${gitDir}.new`;
    await rm(temp, { recursive: true, force: true });
    await rm(gitDir, { recursive: true, force: true });
    await mkdir(temp, { recursive: true });
    const argv = ['git', 'init', '--quiet', '--bare', '--template=', '--', temp] as const;
    const { exitCode, stderr } = await runGroup(argv, { env: await environment() });
    if (exitCode !== 0) throw failure('GitUnavailable', `The mirror ${gitDir} could not be made: ${gitReason(stderr)}`);
    await rename(temp, gitDir);
    await writeAtomic(join(gitDir, 'tekton-maintained'), '');
  }

  async function fetch(gitDir: string, remote: Remote, source: string, target: string, step: Step) {
    const { exitCode, stderr } = await runGroup(fetchArgv({ gitDir, ...remote, source, target }), {
      env: await environment(remote),
      signal: step.signal,
      onStderrLine: (line) => step.progress(`git: ${withoutUserInfo(line).slice(0, 120)}`),
    });
    return exitCode === 0 ? undefined : { trouble: classifyGitError(stderr), reason: gitReason(stderr) };
  }

  /** Fetches the ref, then the exact commit. Gives why the commit is not there, or undefined when it is. */
  async function fetchCommit(
    gitDir: string,
    remote: Remote,
    { name, ref, sha, target }: { name: string; ref: string; sha: string; target: string },
    step: Step,
  ): Promise<string | undefined> {
    const first = await fetch(gitDir, remote, ref, target, step);
    if (first && first.trouble !== 'no-ref') throw troubleOf(first, name);
    if (!first && ((await refPointsTo(gitDir, target, sha)) || (await hasCommit(gitDir, sha)))) return undefined;
    // The ref has moved on (or is gone): the server may still give the exact commit.
    const second = await fetch(gitDir, remote, sha, target, step);
    if (second && second.trouble !== 'no-ref' && second.trouble !== 'no-commit') throw troubleOf(second, name);
    if (!second && (await hasCommit(gitDir, sha))) return undefined;
    return first ? `${ref} is not there` : `${ref} points elsewhere`;
  }

  return {
    async ensureCommit({ owner, repo, ref, sha }, step) {
      checkNames(owner, repo);
      if (!isCommitSha(sha)) throw failure('CommitNotFound', `${sha} is not a full 40-digit commit.`);
      if (!isRefName(ref)) throw failure('CommitNotFound', `${ref} is not a ref that git allows.`);
      const gitDir = join(layout.mirrors, owner.toLowerCase(), `${repo.toLowerCase()}.git`);
      if (await hasCommit(gitDir, sha)) return { gitDir };

      await withLock(
        gitDir,
        async () => {
          await ensureMirror(gitDir);
          const target = mirrorRef(ref);
          // Another deployment may have brought it while this one waited; by another ref, it costs a fetch of nothing.
          if (await refPointsTo(gitDir, target, sha)) return;
          await removeStaleLocks(gitDir);
          const remote = await remoteOf(owner, repo);
          const name = `${owner}/${repo}`;
          for (const pauseMs of [...(remote.local ? [] : patienceMs), undefined]) {
            step.progress(`fetching ${name} ${ref}`);
            const missing = await fetchCommit(gitDir, remote, { name, ref, sha, target }, step);
            if (missing === undefined) return await touchRef(gitDir, ref);
            if (pauseMs === undefined) {
              throw failure(
                'CommitNotFound',
                `Commit ${sha} is not in ${name} (any more): ${missing}. Was it force-pushed away?`,
              );
            }
            step.progress(`${name} has no ${sha.slice(0, 10)} yet`);
            await sleep(pauseMs, undefined, { signal: step.signal }).catch(() => step.signal.throwIfAborted());
          }
        },
        { signal: step.signal },
      );
      void maintainWhenDue(gitDir);
      return { gitDir };
    },

    async resolveBranch({ owner, repo, branch, signal }) {
      checkNames(owner, repo);
      if (!isBranchName(branch)) throw failure('BranchNotFound', `'${branch}' is not a name that a branch can have.`);
      const remote = await remoteOf(owner, repo);
      const ref = `refs/heads/${branch}`;
      const { exitCode, stdout, stderr } = await runGroup(lsRemoteArgv({ ...remote, ref }), {
        env: await environment(remote),
        signal,
      });
      if (exitCode !== 0) {
        throw troubleOf({ trouble: classifyGitError(stderr), reason: gitReason(stderr) }, `${owner}/${repo}`);
      }
      for (const line of stdout.split('\n')) {
        const [sha, name] = line.split('\t');
        if (name === ref && sha && isCommitSha(sha)) return { sha };
      }
      throw failure('BranchNotFound', `${owner}/${repo} has no branch '${branch}'.`);
    },

    async checkout({ gitDir, sha, into }, step) {
      await mkdir(into, { recursive: true });
      const index = `${into}.index`;
      const { exitCode, stderr } = await runGroup(checkoutArgv({ gitDir, into, sha }), {
        cwd: into,
        env: {
          ...(await environment()),
          GIT_INDEX_FILE: index,
          // Filters (LFS and the like) are programs of the user's configuration; the commit's own bytes are what is wanted.
          GIT_CONFIG_GLOBAL: '/dev/null',
          GIT_CONFIG_NOSYSTEM: '1',
          GIT_ATTR_NOSYSTEM: '1',
        },
        signal: step.signal,
      }).finally(() => rm(index, { force: true }));
      await rm(`${index}.lock`, { force: true });
      if (exitCode !== 0)
        throw failure('GitUnavailable', `Commit ${sha} could not be checked out: ${gitReason(stderr)}`);
    },
  };

  /** Once a day: forget refs that nobody asked for in a month, and let git collect. Never in a deployment's way. */
  async function maintainWhenDue(gitDir: string): Promise<void> {
    const stamp = join(gitDir, 'tekton-maintained');
    try {
      if (Date.now() - (await stat(stamp)).mtimeMs < maintenanceEveryMs) return;
      await withLock(gitDir, async () => {
        await writeAtomic(stamp, '');
        for (const name of await readdir(join(gitDir, 'tekton-refs'))) {
          const used = await stat(join(gitDir, 'tekton-refs', name));
          if (Date.now() - used.mtimeMs < refLifetimeMs) continue;
          const argv = ['git', `--git-dir=${gitDir}`, 'update-ref', '-d', `refs/tekton/${name}`] as const;
          await runGroup(argv, { env: await environment() });
          await rm(join(gitDir, 'tekton-refs', name), { force: true });
        }
        // `-c` wins over the environment, where `gc.auto` is 0 so that no fetch ever waits for a collection.
        const gc = ['git', `--git-dir=${gitDir}`, '-c', 'gc.auto=2000', 'gc', '--auto', '--quiet'] as const;
        await runGroup(gc, { env: await environment() });
      });
    } catch {
      // Housekeeping only: the next day tries again.
    }
  }
}

/** A flat name for a ref in the mirror: `a` and `a/b`, which exclude each other as files, may both have been seen over time. */
export function mirrorRef(ref: string): string {
  return `refs/tekton/${createHash('sha256').update(ref).digest('hex').slice(0, 24)}`;
}

async function touchRef(gitDir: string, ref: string): Promise<void> {
  const path = join(gitDir, 'tekton-refs', mirrorRef(ref).slice('refs/tekton/'.length));
  const now = new Date();
  await utimes(path, now, now).catch(() => writeAtomic(path, ref));
}

function troubleOf(error: { trouble: string; reason: string }, name: string) {
  if (error.trouble === 'no-repo') {
    return failure(
      'RepoNotFound',
      `${name} is not there, or may not be read with the credentials at hand: ${error.reason}`,
    );
  }
  return failure('GitUnavailable', `The git server gave no answer for ${name}: ${error.reason}`);
}

/** Lock files that a killed git left. Called under the mirror's lock: whoever made them is dead. */
async function removeStaleLocks(gitDir: string): Promise<void> {
  const entries = await readdir(gitDir, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    if (entry.name.endsWith('.lock') || entry.name.startsWith('tmp_pack_') || entry.name.startsWith('tmp_idx_')) {
      await rm(join(entry.parentPath, entry.name), { force: true });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
