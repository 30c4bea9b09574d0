import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** A bare repository as GitHub keeps it: branches, and `refs/pull/1/head` for its pull request. */
export interface DemoRepository {
  owner: string;
  repo: string;
  /** For GIT_BASE_URL. */
  baseUrl: string;
  /** The commits of the pull request, oldest first. */
  commits: [string, string];
  /** What `git push` to the pull request's branch does on GitHub: the branch and `refs/pull/1/head` move. */
  push(sha: string): Promise<void>;
}

const greeting = 'Hello from a preview';

/** What the page says in each of the two commits. */
export const greetings = [greeting, `${greeting}, now with the second commit`] as const;

/** The argv of a `git` that reads nobody's settings but its own. */
function gitArgv(folder: string, args: string[]): string[] {
  const settings = [
    'user.name=Tekton demo',
    'user.email=demo@localhost',
    'commit.gpgsign=false',
    'init.defaultBranch=main',
  ];
  return ['-C', folder, ...settings.flatMap((setting) => ['-c', setting]), ...args];
}

/**
 * Makes `<folder>/git/acme/hello.git` from the example app: `main`, and a pull request's branch with two commits.
 *
 * @param example the folder of the example app
 */
export async function makeDemoRepository(folder: string, example: string): Promise<DemoRepository> {
  const work = join(folder, 'work');
  const baseUrl = join(folder, 'git');
  const bare = join(baseUrl, 'acme/hello.git');
  const git = async (...args: string[]) => {
    const env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1' };
    return (await execa('git', gitArgv(work, args), { env, extendEnv: false })).stdout;
  };
  const commit = async (message: string) => {
    await git('add', '--all');
    await git('commit', '--quiet', '--message', message);
    return git('rev-parse', 'HEAD');
  };

  await cp(example, work, { recursive: true, filter: (path) => !path.endsWith('/node_modules') });
  await git('init', '--quiet');
  await commit('hello: a small app');
  await git('checkout', '--quiet', '-b', 'change');
  await writeFile(join(work, 'CHANGES.md'), 'A pull request begins.\n');
  const first = await commit('Begin a change');
  const page = join(work, 'page.js');
  await writeFile(page, (await readFile(page, 'utf8')).replace(`'${greetings[0]}'`, `'${greetings[1]}'`));
  const second = await commit('Say which commit it is');

  await mkdir(bare, { recursive: true });
  await git('init', '--quiet', '--bare', bare);
  const push = async (sha: string) => {
    await git('push', '--quiet', '--force', bare, 'main', `${sha}:refs/heads/change`, `${sha}:refs/pull/1/head`);
  };
  await push(first);
  return { owner: 'acme', repo: 'hello', baseUrl, commits: [first, second], push };
}
