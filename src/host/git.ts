import { networkVariables } from './network-environment.ts';

/** How git is called: argv and environment as values, and what its stderr means. Nothing runs here. */

/** The parts of a repository's name as they may appear in a path or URL. */
const namePattern = /^[A-Za-z0-9_.-]{1,100}$/;

/** True for an owner's or repository's name that is safe in a path and a URL. */
export function isRepoName(name: string): boolean {
  return namePattern.test(name) && !/^\.+$/.test(name) && !name.startsWith('-');
}

/** True for a name that git allows for a branch (`git check-ref-format`). Quotes, `$()` and a leading `-` are allowed there. */
export function isBranchName(branch: string): boolean {
  return (
    branch.length > 0 &&
    branch.length <= 250 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what git forbids.
    !/[\u0000-\u0020\u007f~^:?*[\\]|\.\.|@\{|\/\/|^\/|[/.]$|^@$/.test(branch) &&
    branch.split('/').every((part) => !part.startsWith('.') && !part.endsWith('.lock'))
  );
}

/** True for a full ref name such as `refs/pull/42/head`. */
export function isRefName(ref: string): boolean {
  return ref.startsWith('refs/') && isBranchName(ref);
}

export function isCommitSha(sha: string): boolean {
  return /^[0-9a-f]{40}$/.test(sha);
}

/**
 * The part of git's environment that is the same for every call: no prompt, no hooks, C locale, few transports. git's own
 * configuration is passed here too, so that nothing of it depends on the user's, and no token ever stands in an argv.
 *
 * @param config extra `key → value` pairs, such as the authorization header
 */
export function gitEnvironment(
  base: Record<string, string | undefined>,
  config: Record<string, string> = {},
): Record<string, string> {
  const pairs = Object.entries({
    'core.hooksPath': '/dev/null',
    // Mirrors and bases may belong to another user than the one the worker runs as.
    'safe.directory': '*',
    // Packs are renamed into place whole, loose objects arrive in any order: with packs, a commit that is there has all of its tree.
    'fetch.unpackLimit': '1',
    'gc.auto': '0',
    'maintenance.auto': 'false',
    ...config,
  });
  const env: Record<string, string> = {
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '/bin/false',
    GIT_ALLOW_PROTOCOL: 'file:https:http:ssh',
    GIT_SSH_COMMAND: 'ssh -o BatchMode=yes',
    GIT_OPTIONAL_LOCKS: '0',
    LC_ALL: 'C',
    GIT_CONFIG_COUNT: String(pairs.length),
  };
  // What git needs of the worker's own environment: where programs and the user's proxy and certificates are.
  for (const name of inherited) {
    const value = base[name];
    if (value !== undefined) env[name] = value;
  }
  pairs.forEach(([key, value], i) => {
    env[`GIT_CONFIG_KEY_${i}`] = key;
    env[`GIT_CONFIG_VALUE_${i}`] = value;
  });
  return env;
}

const inherited = [
  'PATH',
  'HOME',
  'USER',
  'TMPDIR',
  'SSH_AUTH_SOCK',
  'GIT_SSL_CAINFO',
  'GIT_EXEC_PATH',
  ...networkVariables,
];

/** The configuration that carries a token, for this base URL alone. */
export function tokenConfig(baseUrl: string, token: string): Record<string, string> {
  const credentials = Buffer.from(`x-access-token:${token}`).toString('base64');
  return { [`http.${baseUrl.replace(/\/+$/, '')}/.extraHeader`]: `Authorization: Basic ${credentials}` };
}

/**
 * For a folder of repositories git starts the other side itself, without our environment: it is told on its own command line
 * that the owner doesn't matter and that any commit may be asked for. A constant: nothing of a request stands in it.
 */
export const localUploadPack =
  '--upload-pack=git -c safe.directory=* -c uploadpack.allowAnySHA1InWant=true upload-pack';

/** The fetch of one ref or commit into a ref of the mirror. */
export function fetchArgv(input: { gitDir: string; url: string; local: boolean; source: string; target: string }) {
  return [
    'git',
    `--git-dir=${input.gitDir}`,
    'fetch',
    '--progress',
    '--no-tags',
    '--no-write-fetch-head',
    '--no-recurse-submodules',
    '--no-auto-maintenance',
    ...(input.local ? [localUploadPack] : []),
    '--',
    input.url,
    `+${input.source}:${input.target}`,
  ] as const satisfies readonly [string, ...string[]];
}

/** Asks what a branch points to. The pattern also matches refs that merely end so: read the answer's names. */
export function lsRemoteArgv(input: { url: string; local: boolean; ref: string }) {
  return [
    'git',
    'ls-remote',
    ...(input.local ? [localUploadPack] : []),
    '--',
    input.url,
    input.ref,
  ] as const satisfies readonly [string, ...string[]];
}

/** Writes a commit's files into the work tree named by the environment. */
export function checkoutArgv(input: { gitDir: string; into: string; sha: string }) {
  return [
    'git',
    `--git-dir=${input.gitDir}`,
    `--work-tree=${input.into}`,
    'read-tree',
    '--reset',
    '-u',
    `${input.sha}^{tree}`,
  ] as const satisfies readonly [string, ...string[]];
}

export type GitTrouble = 'no-ref' | 'no-commit' | 'no-repo' | 'unavailable';

/**
 * What a failed fetch or ls-remote means, by git's own words (C locale). Anything unknown counts as "unavailable": it is tried
 * again, because an error is never read as "it is gone".
 */
export function classifyGitError(stderr: string): GitTrouble {
  if (/couldn't find remote ref/i.test(stderr)) return 'no-ref';
  if (/not our ref|unadvertised object|remote error: upload-pack: not our ref|bad object/i.test(stderr))
    return 'no-commit';
  if (
    /repository '.*' not found|repository not found|does not appear to be a git repository|authentication failed|could not read (username|password)|invalid credentials|requested URL returned error: (401|403|404)|not a git repository|permission denied \(publickey/i.test(
      stderr,
    )
  ) {
    return 'no-repo';
  }
  return 'unavailable';
}

/** The line of git's stderr that says what went wrong, without progress and without user information in URLs. */
export function gitReason(stderr: string): string {
  const lines = stderr
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const telling =
    lines.find((line) => /^(fatal|error|remote error|ssh):/i.test(line)) ?? lines.at(-1) ?? 'no reason given';
  return withoutUserInfo(telling).slice(0, 300);
}

/** The text with `user:password@` of any URL in it removed. */
export function withoutUserInfo(text: string): string {
  return text.replace(/(\w+:\/\/)[^/\s@]*@/g, '$1');
}
