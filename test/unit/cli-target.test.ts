import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/cli/errors.ts';
import {
  nearest,
  parseAgentName,
  parseBranch,
  parseRepository,
  parseSha,
  parseSlug,
  parseTarget,
} from '../../src/cli/target.ts';

describe('what a person may write for a preview', () => {
  test.each([
    ['hello-42', { kind: 'label', label: 'hello-42' }],
    ['Hello-42', { kind: 'label', label: 'hello-42' }],
    ['acme/hello#42', { kind: 'source', source: { owner: 'acme', repo: 'hello', number: 42 } }],
    ['acme/hello@main', { kind: 'source', source: { owner: 'acme', repo: 'hello', branch: 'main' } }],
    ['acme/hello@feat/a#1@b', { kind: 'source', source: { owner: 'acme', repo: 'hello', branch: 'feat/a#1@b' } }],
    ['http://hello-42.preview.localhost:8480/api?x', { kind: 'label', label: 'hello-42' }],
    [
      'https://github.com/acme/hello/pull/42/files',
      { kind: 'source', source: { owner: 'acme', repo: 'hello', number: 42 } },
    ],
  ])('%s', (text, target) => expect(parseTarget(text)).toEqual(target));

  test.each([
    ['', /does not name a preview/],
    ['-x', /"-x" does not name a preview/],
    ['hello_42', /slug \(hello-42\), owner\/repo#42/],
    ['a"b', /does not name a preview/],
    ['acme/hello', /names a repository, not a preview/],
    ['acme/hello#', /"" is not a pull request's number/],
    ['acme/hello#0', /"0" is not a pull request's number/],
    ['acme/hello#4x', /"4x" is not a pull request's number/],
    ['acme/hello@', /is not a branch name: it is empty/],
    ['ac me/hello#1', /"ac me" is not an owner's name/],
    ['acme/..#1', /"\.\." is not a repository's name/],
    ['http://localhost/', /not the address of a preview/],
  ])('"%s" is refused', (text, message) => {
    expect(() => parseTarget(text)).toThrow(UsageError);
    expect(() => parseTarget(text)).toThrow(message);
  });
});

describe('a repository', () => {
  test('as GitHub writes it', () =>
    expect(parseRepository('Acme/My.Shop_2')).toEqual({ owner: 'Acme', repo: 'My.Shop_2' }));
  test.each(['acme', 'acme/', '/shop', 'acme/shop/x', '-a/shop', 'acme/sh op', 'acme/$(id)'])('%s is refused', (text) =>
    expect(() => parseRepository(text)).toThrow(UsageError),
  );
});

describe('a branch, by the rules of git', () => {
  test.each(['main', 'feat/x', 'a-b_c.d', 'ünï', "it's;$(x)", 'dependabot/npm/@x'])('%s', (name) =>
    expect(parseBranch(name)).toBe(name),
  );
  test.each([
    '',
    '-x',
    'a b',
    'a..b',
    'a~1',
    'a^',
    'a:b',
    'a?',
    'a*',
    'a[b',
    'a\\b',
    '/a',
    'a/',
    'a//b',
    '.a',
    'a/.b',
    'a.lock',
    'a.lock/b',
    'a.',
    '@',
    'a@{b',
    'a\nb',
    'a\x7fb',
    'refs/heads/x',
    'x'.repeat(245),
  ])('%j is refused', (name) => expect(() => parseBranch(name)).toThrow(UsageError));
});

test('a slug is a DNS label that the server does not use itself', () => {
  expect(parseSlug('shop-next')).toBe('shop-next');
  for (const bad of ['Shop', 'a.b', '-a', 'a-', '', 'x'.repeat(64)])
    expect(() => parseSlug(bad)).toThrow(/is not a slug/);
  expect(() => parseSlug('webhook')).toThrow(/reserved/);
});

test('an approval names a whole commit', () => {
  const sha = '0123456789abcdef0123456789ABCDEF01234567';
  expect(parseSha(sha)).toBe(sha.toLowerCase());
  expect(() => parseSha('0123456')).toThrow(/all 40/);
});

test("an agent's name", () => {
  expect(parseAgentName('ada')).toBe('ada');
  expect(() => parseAgentName('../ada')).toThrow(/is not an agent's name/);
});

test('near names, best first', () => {
  const names = ['hello-42', 'hello-43', 'shop-1', 'hello-42-ab12cd'];
  expect(nearest('helo-42', names)).toEqual(['hello-42', 'hello-43']);
  expect(nearest('shop', names)).toEqual(['shop-1']);
  expect(nearest('zzz', names)).toEqual([]);
});
