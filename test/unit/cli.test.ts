import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'tekton-cli-'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** The real command line in a process of its own, in an empty home. */
async function tekton(args: string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, ['--import', 'tsx', main, ...args], {
    env: { PATH: process.env.PATH, HOME: home, ...env },
    extendEnv: false,
    reject: false,
    timeout: 30_000,
    input: '',
  });
  return { exitCode, stdout, stderr };
}

/** The same in this process: what is wrong with the usage is found before anything is asked. */
async function here(args: string[]) {
  const out = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      out[name] += String(text);
      return true;
    }),
  );
  try {
    const exitCode = await runProgram(args);
    return { exitCode, ...out };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

describe('help', () => {
  test('names every command, on stdout, exit 0', async () => {
    const { exitCode, stdout } = await tekton(['--help']);
    expect(exitCode).toBe(0);
    for (const name of ['up', 'webhook', 'worker', 'preview', 'agent', 'doctor'])
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
  });

  test('of previews and agents names all that can be done', async () => {
    const preview = await tekton(['preview', '--help']);
    expect(preview.stdout.match(/^ {2}([a-z][a-z-]*) /gm)?.map((name) => name.trim())).toEqual([
      'create',
      'update',
      'destroy',
      'status',
      'explain',
      'open',
      'logs',
      'shell',
      'reset-db',
      'approve',
      'list',
      'build',
      'help',
    ]);
    const agent = await tekton(['agent', '--help']);
    for (const name of ['create', 'destroy', 'ssh', 'list', 'build'])
      expect(agent.stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
  });
});

test.each<[string, string[], RegExp]>([
  ['no command at all', [], /Usage: tekton/],
  ['an unknown command, with the near one', ['previw'], /unknown command 'previw'[\s\S]*Did you mean preview/],
  ['an unknown command of a group', ['preview', 'stauts', 'x'], /unknown command 'stauts'[\s\S]*Did you mean status/],
  ['a group alone', ['preview'], /Usage: tekton preview/],
  [
    'an unknown option',
    ['preview', 'status', 'x', '--jsn'],
    /unknown option '--jsn'[\s\S]*tekton preview status --help/,
  ],
  ['a missing argument', ['preview', 'status'], /missing required argument 'slug'/],
  ['too many arguments', ['preview', 'status', 'a', 'b'], /too many arguments/],
  [
    'a repository that is none',
    ['preview', 'create', 'acme', 'main'],
    /"acme" is not a repository: write it as owner\/repo/,
  ],
  ['a branch that git refuses', ['preview', 'create', 'acme/shop', 'a..b'], /"a\.\.b" is not a branch name/],
  ['no branch', ['preview', 'create', 'acme/shop'], /a branch is missing: tekton preview create acme\/shop <branch>/],
  ['branch and pull request', ['preview', 'create', 'acme/shop#4', 'main'], /leave out "main"/],
  ['a bad slug', ['preview', 'create', 'acme/shop', 'main', '--slug', 'A_b'], /"A_b" is not a slug/],
  ['a reserved slug', ['preview', 'create', 'acme/shop', 'main', '--slug', 'www'], /"www" is reserved/],
  ['an approval without a commit', ['preview', 'approve', 'shop-4'], /required option '--sha <commit>' not specified/],
  ['an approval of half a commit', ['preview', 'approve', 'shop-4', '--sha', 'abc123'], /give all 40/],
  ['an agent that is none', ['agent', 'create', 'A b'], /"A b" is not an agent's name/],
])('wrong usage is exit 2, on stderr, and says what is right: %s', async (_, args, message) => {
  const { exitCode, stdout, stderr } = await here(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^ {4}at /m);
});

test('exit code and words reach the shell', async () => {
  const { exitCode, stdout, stderr } = await tekton(['preview', 'create', 'acme', 'main']);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toBe('tekton: "acme" is not a repository: write it as owner/repo, such as acme/shop');
});

describe('without anything that runs', () => {
  test('the person is told to start the stack, exit 1', async () => {
    const { exitCode, stdout, stderr } = await tekton(['preview', 'list']);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain(`no stack was ever started in ${home}/.local/state/tekton`);
    expect(stderr).toContain('Run `tekton up` first');
  });

  test('a state folder that is named is named again', async () => {
    const { exitCode, stderr } = await tekton(['preview', 'status', 'shop-4', '--state-dir', '/nowhere/at/all']);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('no stack was ever started in /nowhere/at/all');
    expect(stderr).toContain('tekton up --state-dir /nowhere/at/all');
  });

  test('a Temporal that does not answer is named', async () => {
    const { exitCode, stderr } = await tekton(['preview', 'list', '--json'], { TEMPORAL_ADDRESS: '127.0.0.1:1' });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('Temporal does not answer at 127.0.0.1:1');
    expect(stderr).not.toMatch(/^ {4}at /m);
  });
});
