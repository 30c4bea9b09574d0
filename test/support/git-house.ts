/** A folder of bare repositories that plays GitHub's git: branches, and `refs/pull/N/head`. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';

export type Files = Record<string, string>;

export interface GitHouse {
  /** For GIT_BASE_URL. */
  baseUrl: string;
  /**
   * Commits exactly these files on top of what `branch` has (or as its first commit) and moves the refs, as a push to GitHub does.
   *
   * @returns the commit
   */
  push(repo: string, files: Files, refs?: { branch?: string; pull?: number }): Promise<string>;
  git(repo: string, ...args: string[]): Promise<string>;
  remove(): Promise<void>;
}

export async function createGitHouse(): Promise<GitHouse> {
  const folder = await mkdtemp(join(tmpdir(), 'tekton-git-'));
  const baseUrl = join(folder, 'bare');
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'Test',
    GIT_AUTHOR_EMAIL: 'test@localhost',
    GIT_COMMITTER_NAME: 'Test',
    GIT_COMMITTER_EMAIL: 'test@localhost',
  };
  const bareOf = (repo: string) => join(baseUrl, `${repo}.git`);
  const run = async (cwd: string, args: string[]) => (await execa('git', args, { cwd, env, extendEnv: false })).stdout;

  return {
    baseUrl,
    git: (repo, ...args) => run(bareOf(repo), args),
    async push(repo, files, { branch = 'main', pull } = {}) {
      const bare = bareOf(repo);
      await mkdir(bare, { recursive: true });
      await run(bare, ['init', '--quiet', '--bare', '--initial-branch=main']);
      const work = await mkdtemp(join(folder, 'work-'));
      await run(work, ['init', '--quiet', `--initial-branch=${branch}`]);
      const known = await run(bare, ['rev-parse', '--verify', '--quiet', `refs/heads/${branch}`]).catch(() => '');
      if (known) {
        await run(work, ['fetch', '--quiet', bare, `refs/heads/${branch}`]);
        await run(work, ['reset', '--quiet', '--soft', 'FETCH_HEAD']);
        await run(work, ['read-tree', '--empty']);
      }
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(work, path)), { recursive: true });
        await writeFile(join(work, path), text);
      }
      await run(work, ['add', '--all']);
      await run(work, ['commit', '--quiet', '--allow-empty', '--message', 'change']);
      const sha = await run(work, ['rev-parse', 'HEAD']);
      const refs = [`refs/heads/${branch}`, ...(pull === undefined ? [] : [`refs/pull/${pull}/head`])];
      await run(work, ['push', '--quiet', '--force', bare, ...refs.map((ref) => `HEAD:${ref}`)]);
      await rm(work, { recursive: true });
      return sha;
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** An app of one file: answers `text` on every path, listening where `listen` says (JavaScript, default `$PORT` on all addresses). */
export function textApp(text: string, listen = 'Number(process.env.PORT)'): Files {
  return {
    Procfile: 'web: node server.js\n',
    'server.js': `
const { createServer } = require('node:http');
createServer((request, response) => {
  const slow = /^\\/slow\\/(\\d+)/.exec(request.url);
  setTimeout(() => response.end(${JSON.stringify(text)} + ' ' + request.url + '\\n'), slow ? Number(slow[1]) : 0);
}).listen(${listen});
`,
  };
}
