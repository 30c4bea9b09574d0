import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { printableConfig, readConfig } from '../../src/config.ts';
import { isAllowed, parseAllowedRepos } from '../../src/domain/allowed-repos.ts';

const machine = { hostname: 'Build-Box.example.com', home: '/home/me', nixos: false };
const least = { PREVIEW_DOMAIN: 'preview.localhost', GITHUB_WEBHOOK_SECRET: 's3cret' };

/** The lines of the error, without the heading. */
function problems(env: Record<string, string>, service: 'webhook' | 'worker' = 'webhook'): string[] {
  try {
    readConfig(env, service, machine);
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-config-'));
});
afterAll(() => rm(folder, { recursive: true }));

test('defaults of the local runtime', () => {
  expect(readConfig(least, 'webhook', machine)).toEqual({
    service: 'webhook',
    host: 'build-box-example-com',
    runtime: 'local',
    stateDir: '/home/me/.local/state/tekton',
    subnet: '127.100.0.0/24',
    previewDomain: 'preview.localhost',
    publicScheme: 'http',
    publicPort: 80,
    webhookHost: '127.0.0.1',
    webhookPort: 3100,
    webhookSecret: 's3cret',
    allowedRepos: [],
    githubCredentials: undefined,
    githubApiUrl: 'https://api.github.com',
    gitBaseUrl: 'https://github.com',
    adminSshKey: undefined,
    databaseAdminUrl: undefined,
    caddyAdmin: 'http://127.0.0.1:2019',
    builds: 2,
    metricsPort: 9464,
    logLevel: 'info',
  });
});

test('defaults of a NixOS host', () => {
  const config = readConfig(least, 'worker', { ...machine, nixos: true });
  expect(config).toMatchObject({
    runtime: 'nixos',
    stateDir: '/',
    subnet: '10.100.0.0/24',
    publicScheme: 'https',
    publicPort: 443,
  });
});

test('the worker has no use for the webhook secret, and does not keep it', () => {
  expect(readConfig({ PREVIEW_DOMAIN: 'p.example.com' }, 'worker', machine).webhookSecret).toBeUndefined();
  expect(readConfig(least, 'worker', machine).webhookSecret).toBeUndefined();
});

test('an empty variable counts as unset', () => {
  const config = readConfig({ ...least, WEBHOOK_PORT: '', ALLOWED_REPOS: '', GITHUB_TOKEN: ' ' }, 'webhook', machine);
  expect(config).toMatchObject({ webhookPort: 3100, allowedRepos: [], githubCredentials: undefined });
});

test('a secret may hold any characters', () => {
  const secret = ' ä"\'$`\\ =#\u{1f511}';
  expect(readConfig({ ...least, GITHUB_WEBHOOK_SECRET: secret }, 'webhook', machine).webhookSecret).toBe(secret);
});

test('every missing and bad value is listed at once, by name', () => {
  const told = problems({
    WEBHOOK_PORT: '99999',
    ALLOWED_REPOS: 'acme/*,https://github.com/acme/shop',
    TEKTON_RUNTIME: 'docker',
    TEKTON_SUBNET: '10.100.0.1/24',
    TEKTON_STATE_DIR: 'state',
    GITHUB_APP_ID: '12',
    GITHUB_API_URL: 'api.github.com',
    LOG_LEVEL: 'loud',
    TEKTON_HOST: 'Ä',
  });
  expect(told).toEqual([
    'TEKTON_RUNTIME: "docker" is not nixos or local',
    'ALLOWED_REPOS: "https://github.com/acme/shop" is not a comma list of owner/repo or owner/*, or * for all',
    'TEKTON_HOST: "Ä" is not lower-case letters, digits and hyphens, at most 63',
    'TEKTON_STATE_DIR: "state" is not an absolute path',
    expect.stringMatching(/^TEKTON_SUBNET: "10\.100\.0\.1\/24" is not an IPv4 network such as/),
    expect.stringMatching(/^PREVIEW_DOMAIN is missing: a domain name such as preview\.example\.com/),
    'WEBHOOK_PORT: "99999" is not a port, 0–65535 (0: any free one)',
    "GITHUB_WEBHOOK_SECRET is missing: the secret of the webhook in GitHub's settings",
    expect.stringMatching(/^GITHUB_APP_INSTALLATION_ID is missing: a GitHub App needs/),
    expect.stringMatching(/^GITHUB_APP_PRIVATE_KEY_PATH is missing: a GitHub App needs/),
    'GITHUB_API_URL: "api.github.com" is not an http(s) URL without credentials',
    'LOG_LEVEL: "loud" is not fatal, error, warn, info, debug, trace or silent',
  ]);
});

test.each([
  ['GITHUB_TOKEN', 'ghp_hush hush'],
  ['DATABASE_ADMIN_URL', 'mysql://root:hush@db'],
  ['GIT_BASE_URL', 'https://me:hush@github.com'],
  ['GITHUB_API_URL', 'https://hush@api.github.com'],
])("a bad %s is named, its value isn't printed", (name, value) => {
  const [line, ...more] = problems({ ...least, [name]: value });
  expect(line).toMatch(new RegExp(`^${name}: its value is not `));
  expect(line).not.toContain('hush');
  expect(more).toEqual([]);
});

test('what is printed of a configuration holds no secret', () => {
  const env = { ...least, GITHUB_TOKEN: 'ghp_hush', DATABASE_ADMIN_URL: 'postgres://root:hush@db/postgres' };
  const text = JSON.stringify(printableConfig(readConfig(env, 'webhook', machine)));
  expect(text).not.toMatch(/hush|s3cret/);
});

describe('domain, subnet, git', () => {
  test.each(['preview.example.com', 'Preview.Example.COM', 'localhost'])('PREVIEW_DOMAIN %s', (domain) => {
    expect(readConfig({ ...least, PREVIEW_DOMAIN: domain }, 'webhook', machine).previewDomain).toBe(
      domain.toLowerCase(),
    );
  });
  test.each(['https://p.example.com', '*.example.com', 'a..b', 'p.example.com:80', '-a.b', `${'a.'.repeat(95)}com`])(
    'PREVIEW_DOMAIN %s is refused',
    (domain) => expect(problems({ ...least, PREVIEW_DOMAIN: domain })[0]).toMatch(/^PREVIEW_DOMAIN: /),
  );
  test.each([
    ['local', '127.101.0.0/16', true],
    ['local', '10.100.0.0/24', false],
    ['nixos', '10.200.0.0/24', true],
    ['nixos', '127.100.0.0/24', false],
    ['nixos', '10.100.0.0/30', false],
    ['nixos', 'fd00::/64', false],
  ])('%s on %s: %s', (runtime, subnet, good) => {
    expect(problems({ ...least, TEKTON_RUNTIME: runtime, TEKTON_SUBNET: subnet })).toHaveLength(good ? 0 : 1);
  });
  test.each(['/srv/git', 'file:///srv/git', 'ssh://git@github.com', 'https://git.example.com/'])(
    'GIT_BASE_URL %s',
    (url) => {
      expect(problems({ ...least, GIT_BASE_URL: url })).toEqual([]);
    },
  );
  test("Temporal's own variables are checked too", () => {
    expect(problems({ ...least, TEMPORAL_PROFILE: 'nowhere' })).toEqual([
      expect.stringMatching(/^TEMPORAL_\*: .*nowhere/),
    ]);
  });
});

describe('GitHub credentials', () => {
  const app = (path: string) => ({
    ...least,
    GITHUB_APP_ID: '12',
    GITHUB_APP_INSTALLATION_ID: '34',
    GITHUB_APP_PRIVATE_KEY_PATH: path,
  });
  test('a token', () => {
    expect(readConfig({ ...least, GITHUB_TOKEN: 'ghp_x' }, 'worker', machine).githubCredentials).toEqual({
      kind: 'token',
      token: 'ghp_x',
    });
  });
  test('an App is preferred to a token', async () => {
    const privateKeyPath = join(folder, 'key.pem');
    await writeFile(privateKeyPath, '-----BEGIN RSA PRIVATE KEY-----\n…');
    const env = { ...app(privateKeyPath), GITHUB_TOKEN: 'ghp_x' };
    expect(readConfig(env, 'worker', machine).githubCredentials).toEqual({
      kind: 'app',
      appId: 12,
      installationId: 34,
      privateKeyPath,
    });
  });
  test('the worker needs to read the key; the webhook does not', () => {
    const env = app(join(folder, 'none.pem'));
    expect(problems(env, 'worker')).toEqual([expect.stringMatching(/^GITHUB_APP_PRIVATE_KEY_PATH: /)]);
    expect(problems(env, 'webhook')).toEqual([]);
  });
});

test.each([
  ['', 'acme', 'shop', false],
  ['*', 'acme', 'shop', true],
  ['acme/*', 'Acme', 'Shop', true],
  ['acme/*', 'acme2', 'shop', false],
  ['ACME/Shop', 'acme', 'shop', true],
  ['acme/shop', 'acme', 'shop2', false],
  ['other/x, acme/shop ,', 'acme', 'shop', true],
])('ALLOWED_REPOS=%s: %s/%s %s', (list, owner, repo, allowed) => {
  const parsed = parseAllowedRepos(list);
  expect(parsed.bad).toEqual([]);
  expect(isAllowed(parsed.allowed, owner, repo)).toBe(allowed);
});
