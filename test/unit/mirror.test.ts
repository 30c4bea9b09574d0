import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  classifyGitError,
  gitEnvironment,
  gitReason,
  isBranchName,
  isRepoName,
  tokenConfig,
} from '../../src/host/git.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createMirror } from '../../src/host/mirror.ts';
import type { Step } from '../../src/runtime/runtime.ts';

const step = (signal = new AbortController().signal): Step => ({ signal, progress: () => {} });

let root: string;
let work: string;
let bare: string;
const git = (cwd: string, ...args: string[]) =>
  execFileSync(
    'git',
    ['-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'protocol.file.allow=always', ...args],
    {
      cwd,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  ).trim();
const commit = async (files: Record<string, string>, message = 'c') => {
  for (const [name, text] of Object.entries(files)) await writeFile(join(work, name), text);
  git(work, 'add', '-A');
  git(work, 'commit', '-q', '--allow-empty', '-m', message);
  return git(work, 'rev-parse', 'HEAD');
};
const push = (refspec: string) => git(work, 'push', '-q', '-f', bare, refspec);
const mirrorOf = (gitBaseUrl: string, token?: string) =>
  createMirror({
    layout: hostLayout(join(root, 'state')),
    gitBaseUrl,
    credentials: async () => token,
    patienceMs: [50, 500],
  });
const type = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.type ?? error.message,
  );

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tekton-mirror-test-'));
  work = join(root, 'work');
  bare = join(root, 'repos', 'Acme', 'shop.git');
  await mkdir(work);
  git(root, 'init', '-q', '--bare', bare);
  git(root, 'init', '-q', '-b', 'main', work);
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

describe('from a folder of repositories', () => {
  test('fetches a pull request ref, checks the exact commit out, and asks the server no second time', async () => {
    const sha = await commit({ 'a.txt': 'one' });
    push('HEAD:refs/pull/42/head');
    const mirror = mirrorOf(join(root, 'repos'));
    const wanted = { owner: 'Acme', repo: 'shop', ref: 'refs/pull/42/head', sha };
    const { gitDir } = await mirror.ensureCommit(wanted, step());
    expect(gitDir).toBe(join(root, 'state/var/lib/preview-deploys/mirrors/acme/shop.git'));
    await rm(bare, { recursive: true });
    await mirror.ensureCommit(wanted, step());
    await mirror.checkout({ gitDir, sha, into: join(root, 'out') }, step());
    expect(await readFile(join(root, 'out/a.txt'), 'utf8')).toBe('one');
    expect((await readdir(root)).sort()).toEqual(['out', 'repos', 'state', 'work']);
  });

  test('an older commit of a ref that was force-pushed is still found by its number; one that never was is not', async () => {
    const old = await commit({ 'a.txt': 'one' });
    push('HEAD:refs/heads/main');
    git(work, 'commit', '-q', '--amend', '-m', 'amended');
    push('HEAD:refs/heads/main');
    const mirror = mirrorOf(`file://${join(root, 'repos')}`);
    const wanted = { owner: 'Acme', repo: 'shop', ref: 'refs/heads/main' };
    await mirror.ensureCommit({ ...wanted, sha: old }, step());
    expect(await type(mirror.ensureCommit({ ...wanted, sha: 'd'.repeat(40) }, step()))).toBe('CommitNotFound');
    expect(await type(mirror.ensureCommit({ ...wanted, ref: 'refs/pull/9/head', sha: 'd'.repeat(40) }, step()))).toBe(
      'CommitNotFound',
    );
    expect(await type(mirror.ensureCommit({ ...wanted, sha: 'HEAD' }, step()))).toBe('CommitNotFound');
  });

  test('branches: found, missing, and names that would hurt a shell', async () => {
    const sha = await commit({ a: '1' });
    const names = ['main', 'feature/a', "it's-$(touch pwned)".replace(' ', '-'), '-x', 'x/refs/heads/main'];
    for (const name of names) push(`HEAD:refs/heads/${name}`);
    const mirror = mirrorOf(join(root, 'repos'));
    for (const branch of names) {
      expect(await mirror.resolveBranch({ owner: 'Acme', repo: 'shop', branch })).toEqual({ sha });
      await mirror.ensureCommit({ owner: 'Acme', repo: 'shop', ref: `refs/heads/${branch}`, sha }, step());
    }
    for (const branch of ['nope', 'a b', '', '*', 'heads/main', '--upload-pack=x y', 'a..b']) {
      expect(await type(mirror.resolveBranch({ owner: 'Acme', repo: 'shop', branch }))).toBe('BranchNotFound');
    }
  });

  test('what is not there is told apart from what can not be asked', async () => {
    const mirror = mirrorOf(join(root, 'repos'));
    const wanted = { owner: 'Acme', repo: 'nope', branch: 'main' };
    expect(await type(mirror.resolveBranch(wanted))).toBe('RepoNotFound');
    expect(await type(mirror.resolveBranch({ ...wanted, repo: '../shop' }))).toBe('RepoNotFound');
    expect(await type(mirror.resolveBranch({ ...wanted, owner: '..' }))).toBe('RepoNotFound');
    expect(await type(mirrorOf(join(root, 'not-mounted')).resolveBranch(wanted))).toBe('GitUnavailable');
    expect(await type(mirrorOf('http://127.0.0.1:1').resolveBranch(wanted))).toBe('GitUnavailable');
  });

  test('twenty at once, over the locks that a killed fetch left', async () => {
    const first = await commit({ a: '0' });
    push('HEAD:refs/pull/0/head');
    const mirror = mirrorOf(join(root, 'repos'));
    const { gitDir } = await mirror.ensureCommit(
      { owner: 'Acme', repo: 'shop', ref: 'refs/pull/0/head', sha: first },
      step(),
    );
    await writeFile(join(gitDir, 'packed-refs.lock'), '');
    await writeFile(join(gitDir, 'shallow.lock'), '');
    await mkdir(join(gitDir, 'refs/tekton'), { recursive: true });
    const all: Promise<unknown>[] = [];
    for (let i = 1; i <= 20; i++) {
      const sha = await commit({ a: String(i) });
      push(`HEAD:refs/pull/${i}/head`);
      all.push(
        mirror.ensureCommit({ owner: 'acme'.replace('a', 'A'), repo: 'shop', ref: `refs/pull/${i}/head`, sha }, step()),
      );
    }
    await Promise.all(all);
    expect(existsSync(join(gitDir, 'packed-refs.lock'))).toBe(false);
  });

  test.runIf(process.getuid?.() === 0)('as root, repositories of another user are read', async () => {
    const sha = await commit({ a: '1' });
    push('HEAD:refs/heads/main');
    for (const entry of await readdir(bare, { recursive: true })) await chown(join(bare, entry), 12345, 12345);
    await chown(bare, 12345, 12345);
    const mirror = mirrorOf(join(root, 'repos'));
    expect(await mirror.resolveBranch({ owner: 'Acme', repo: 'shop', branch: 'main' })).toEqual({ sha });
    await mirror.ensureCommit({ owner: 'Acme', repo: 'shop', ref: 'refs/heads/main', sha }, step());
  });

  test('a checkout runs no filter and no hook, keeps modes and links, and leaves export-ignore alone', async () => {
    await writeFile(join(work, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
    await symlink('run.sh', join(work, 'link'));
    const sha = await commit({
      '.gitattributes': '*.bin filter=lfs\nhidden export-ignore\n',
      'x.bin': 'pointer',
      hidden: 'here',
    });
    push('HEAD:refs/heads/main');
    const home = join(root, 'home');
    await mkdir(home);
    await writeFile(
      join(home, '.gitconfig'),
      `[filter "lfs"]\n\tsmudge = touch ${root}/pwned\n\trequired = true\n[core]\n\tautocrlf = true\n`,
    );
    const before = process.env.HOME;
    process.env.HOME = home;
    try {
      const mirror = mirrorOf(join(root, 'repos'));
      const { gitDir } = await mirror.ensureCommit(
        { owner: 'Acme', repo: 'shop', ref: 'refs/heads/main', sha },
        step(),
      );
      await mirror.checkout({ gitDir, sha, into: join(root, 'out') }, step());
    } finally {
      process.env.HOME = before;
    }
    expect(existsSync(join(root, 'pwned'))).toBe(false);
    expect((await readdir(join(root, 'out'))).sort()).toEqual(['.gitattributes', 'hidden', 'link', 'run.sh', 'x.bin']);
    expect(await readFile(join(root, 'out/run.sh'), 'utf8')).toBe('#!/bin/sh\n');
  });
});

describe('over http', () => {
  let server: Server;
  let base: string;
  let answer: number | undefined;
  const seen: (string | undefined)[] = [];
  beforeAll(async () => {
    // git's own CGI behind node: a real smart-HTTP server that asks for a token.
    server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      if (answer !== undefined) return void response.writeHead(answer).end();
      if (request.headers.authorization !== `Basic ${Buffer.from('x-access-token:s3cret').toString('base64')}`) {
        return void response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
      }
      const url = new URL(request.url ?? '/', 'http://x');
      const cgi = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], {
        env: {
          PATH: process.env.PATH,
          GIT_PROJECT_ROOT: join(root, 'repos'),
          GIT_HTTP_EXPORT_ALL: '1',
          PATH_INFO: url.pathname,
          QUERY_STRING: url.search.slice(1),
          REQUEST_METHOD: request.method,
          CONTENT_TYPE: request.headers['content-type'] ?? '',
          ...(request.headers['content-encoding'] && {
            HTTP_CONTENT_ENCODING: String(request.headers['content-encoding']),
          }),
          ...(request.headers['git-protocol'] && { GIT_PROTOCOL: String(request.headers['git-protocol']) }),
        },
        stdio: ['pipe', 'pipe', 'ignore'],
      });
      request.pipe(cgi.stdin);
      const chunks: Buffer[] = [];
      cgi.stdout.on('data', (chunk) => chunks.push(chunk));
      cgi.on('close', () => {
        const out = Buffer.concat(chunks);
        const end = out.indexOf('\r\n\r\n');
        const headers = Object.fromEntries(
          out
            .subarray(0, end)
            .toString()
            .split('\r\n')
            .map((line) => line.split(': ') as [string, string]),
        );
        response.writeHead(Number.parseInt(headers.Status ?? '200', 10), headers).end(out.subarray(end + 4));
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => void server.close());

  test('the token goes in a header; without it, or with server trouble, the failure says which', async () => {
    const sha = await commit({ a: '1' });
    push('HEAD:refs/pull/1/head');
    push('HEAD:refs/heads/main');
    const wanted = { owner: 'Acme', repo: 'shop', ref: 'refs/pull/1/head', sha };
    answer = undefined;
    expect(await type(mirrorOf(base).ensureCommit(wanted, step()))).toBe('RepoNotFound');
    await mirrorOf(base, 's3cret').ensureCommit(wanted, step());
    expect(await mirrorOf(base, 's3cret').resolveBranch({ ...wanted, branch: 'main' })).toEqual({ sha });
    expect(await type(mirrorOf(base, 's3cret').ensureCommit({ ...wanted, sha: 'e'.repeat(40) }, step()))).toBe(
      'CommitNotFound',
    );
    expect(await type(mirrorOf(base, 's3cret').resolveBranch({ ...wanted, repo: 'nope', branch: 'main' }))).toBe(
      'RepoNotFound',
    );
    for (const [status, meaning] of [
      [404, 'RepoNotFound'],
      [500, 'GitUnavailable'],
      [503, 'GitUnavailable'],
      [429, 'GitUnavailable'],
    ] as const) {
      answer = status;
      expect(await type(mirrorOf(base, 's3cret').resolveBranch({ ...wanted, branch: 'main' }))).toBe(meaning);
    }
  });

  test('a commit that the server does not have yet is asked for again', async () => {
    answer = undefined;
    await commit({ a: '1' });
    push('HEAD:refs/pull/1/head');
    const sha = await commit({ a: '2' });
    const said: string[] = [];
    const telling: Step = { signal: new AbortController().signal, progress: (text) => void said.push(text) };
    const arrival = mirrorOf(base, 's3cret').ensureCommit(
      { owner: 'Acme', repo: 'shop', ref: 'refs/pull/1/head', sha },
      telling,
    );
    arrival.catch(() => {});
    while (!said.some((text) => text.includes('yet'))) await new Promise((resolve) => setTimeout(resolve, 5));
    push('HEAD:refs/pull/1/head');
    await arrival;
  });

  test('a fetch that hangs ends when it is cancelled, and the next one is not blocked by it', async () => {
    const sha = await commit({ a: '1' });
    push('HEAD:refs/heads/main');
    const hanging = createServer(() => {}).listen(0, '127.0.0.1');
    await once(hanging, 'listening');
    const url = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`;
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('superseded')), 200);
    const wanted = { owner: 'Acme', repo: 'shop', ref: 'refs/heads/main', sha };
    await expect(mirrorOf(url).ensureCommit(wanted, step(abort.signal))).rejects.toThrow('superseded');
    hanging.closeAllConnections();
    hanging.close();
    await mirrorOf(join(root, 'repos')).ensureCommit(wanted, step());
  });
});

describe('pure parts', () => {
  test('names', () => {
    expect(['a', 'a.b', 'a_b-c'].every(isRepoName)).toBe(true);
    expect(['', '.', '..', '-x', 'a/b', 'a b', 'a\n'].some(isRepoName)).toBe(false);
    expect(['main', 'a/b', '-x', "q'", 'a$(b)', 'ünï'].every(isBranchName)).toBe(true);
    expect(
      ['', ' ', 'a b', 'a..b', 'a~1', 'a:b', '/a', 'a/', 'a.lock', '.a', 'a/.b', '@', 'a@{1}', 'a\\b'].some(
        isBranchName,
      ),
    ).toBe(false);
  });

  test('the token stands in one variable of the environment and nowhere else', () => {
    const env = gitEnvironment(
      { PATH: '/bin', GITHUB_TOKEN: 't', SECRET: 'x' },
      tokenConfig('https://github.com/', 's3cret'),
    );
    expect(env.PATH).toBe('/bin');
    expect(env.SECRET ?? env.GITHUB_TOKEN).toBeUndefined();
    const at = Object.keys(env).find((key) => env[key] === 'http.https://github.com/.extraHeader');
    expect(env[`GIT_CONFIG_VALUE_${at?.slice('GIT_CONFIG_KEY_'.length)}`]).toMatch(/^Authorization: Basic /);
  });

  test('errors keep no user information', () => {
    expect(gitReason("Cloning\nfatal: unable to access 'https://u:p@host/x/': Could not resolve host: host\n")).toBe(
      "fatal: unable to access 'https://host/x/': Could not resolve host: host",
    );
    expect(classifyGitError('something new')).toBe('unavailable');
  });
});
