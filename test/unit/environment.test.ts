import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  EnvFileError,
  formatEnvFile,
  parseEnvFile,
  previewEnvironment,
  withoutCredentials,
} from '../../src/domain/environment.ts';

const deployment = {
  preview: { owner: 'Acme', repo: 'Shop', number: 42, workflowId: 'preview/acme/shop/42', slug: 'shop-42' },
  container: 'pabc',
  sha: 'a'.repeat(40),
  ref: 'refs/pull/42/head',
  fork: false,
};

describe('the environment of a preview', () => {
  it('tells a pull request where it is', () => {
    expect(
      previewEnvironment({
        deployment,
        url: 'http://shop-42.preview.localhost:8080',
        repoUrl: 'https://x-access-token:hunter2@github.com/Acme/Shop.git',
        databaseUrl: 'postgresql://a:b@127.0.0.1/c',
        secrets: { STRIPE_KEY: 'k' },
      }),
    ).toEqual({
      STRIPE_KEY: 'k',
      PREVIEW_REPO_URL: 'https://github.com/Acme/Shop.git',
      PREVIEW_BRANCH: 'refs/pull/42/head',
      PREVIEW_SHA: 'a'.repeat(40),
      PREVIEW_PR: '42',
      PREVIEW_SLUG: 'shop-42',
      PREVIEW_HOST: 'shop-42.preview.localhost',
      PREVIEW_URL: 'http://shop-42.preview.localhost:8080',
      DATABASE_URL: 'postgresql://a:b@127.0.0.1/c',
    });
  });

  it('names the branch of one made by hand, and no number', () => {
    const { number: _, ...preview } = deployment.preview;
    const env = previewEnvironment({
      deployment: { ...deployment, preview: { ...preview, branch: 'feature/x' } },
      url: 'https://shop-x.preview.example.org',
      repoUrl: '/srv/git/acme/shop.git',
      secrets: { PREVIEW_SHA: 'forged' },
    });
    expect(env).toMatchObject({ PREVIEW_BRANCH: 'feature/x', PREVIEW_PR: '', PREVIEW_SHA: 'a'.repeat(40) });
    expect(env).not.toHaveProperty('DATABASE_URL');
  });

  it.each([
    ['https://token@github.com/a/b.git', 'https://github.com/a/b.git'],
    ['https://github.com/a/b.git?access_token=x#y', 'https://github.com/a/b.git'],
    ['ssh://git:pw@host:2222/a/b', 'ssh://host:2222/a/b'],
    ['git:pw@host:a/b', 'host:a/b'],
    ['/srv/git/a@b.git', '/srv/git/a@b.git'],
    ['https://exa mple:pw@x y/', ''],
  ])('%s without its credentials', (url, clean) => {
    expect(withoutCredentials(url)).toBe(clean);
  });
});

const nasty = [
  'a\nb',
  `'"$\`\\`,
  '$HOME $x $(id) `id`',
  '\\\n',
  ' lead and trail ',
  '',
  '#no comment',
  'é😀\u202e',
  '\r\n\t',
  "a'\\''b",
  '!$!',
];
const names = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,12}$/);
const values = fc
  .oneof(
    fc.constantFrom(...nasty),
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'\'"$`\\\n #;=a') }),
  )
  .filter((value) => !value.includes('\0'));

describe('preview.env', () => {
  it('is text that anyone can predict', () => {
    expect(formatEnvFile({ A: 'plain', B: `it's "$5"\nin \`two\` \\ lines` })).toBe(
      'A="plain"\nB="it\'s \\"\\$5\\"\nin \\`two\\` \\\\ lines"\n',
    );
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(fc.dictionary(names, values, { noNullPrototype: true }), (env) => {
        expect(parseEnvFile(formatEnvFile(env))).toEqual(env);
      }),
    );
  });

  it('is read the same by a real shell', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tekton-env-'));
    try {
      const file = join(folder, 'preview.env');
      const read = (env: Record<string, string>) => {
        writeFileSync(file, formatEnvFile(env));
        const out = execFileSync('/bin/sh', ['-c', 'set -a; . "$0"; exec env -0', file], {
          env: { PATH: '/usr/bin:/bin' },
        });
        return Object.fromEntries(
          out
            .toString()
            .split('\0')
            .map((line) => line.split(/=(.*)/s).slice(0, 2)),
        );
      };
      const all = Object.fromEntries(nasty.map((value, index) => [`V${index}`, value]));
      expect(read(all)).toMatchObject(all);
      fc.assert(
        fc.property(
          fc.dictionary(
            names.map((name) => `T_${name}`),
            values,
          ),
          (env) => {
            expect(read(env)).toMatchObject({ ...env });
          },
        ),
        { numRuns: 60 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([
    ['A=1\nB = two words  \r\n', { A: '1', B: 'two words' }],
    ['\ufeff# comment\n; another\n\nexport A=$x # not a comment\n', { A: '$x # not a comment' }],
    [`A='single $x \\'"and double"\nB=`, { A: 'single $x \\and double', B: '' }],
    ['A=one\\\ntwo\nB="x\\\ny"', { A: 'onetwo', B: 'xy' }],
    [
      'A="-----BEGIN KEY-----\nabc\n-----END KEY-----\n"\nB=2',
      { A: '-----BEGIN KEY-----\nabc\n-----END KEY-----\n', B: '2' },
    ],
    ['A=1\nA=2', { A: '2' }],
    ['', {}],
  ])('written by hand: %j', (text, env) => {
    expect(parseEnvFile(text)).toEqual(env);
  });

  it('refuses what is no environment file, without showing what it holds', () => {
    expect(() => parseEnvFile('A=1\n\nhunter2')).toThrow(new EnvFileError('line 3 is not NAME=value'));
    expect(() => parseEnvFile('A="hunter2\n\n')).toThrow(new EnvFileError('line 1: the quote of A is never closed'));
    expect(() => parseEnvFile('1A=x')).toThrow('line 1 is not NAME=value');
    expect(() => formatEnvFile({ 'A B': 'x' })).toThrow('"A B" is not the name of a variable');
    expect(() => formatEnvFile({ A: 'hunter2\0' })).toThrow(/^A holds a NUL/);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        try {
          parseEnvFile(text);
        } catch (error) {
          expect(error).toBeInstanceOf(EnvFileError);
        }
      }),
    );
  });
});
