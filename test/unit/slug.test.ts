import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  candidateSlug,
  disambiguatedLabel,
  labelPattern,
  maxLabel,
  prefixedLabel,
  reservedLabels,
} from '../../src/domain/slug.ts';

const pull = (repo: string, number: number) => ({ owner: 'acme', repo, number });
const branch = (repo: string, name: string) => ({ owner: 'acme', repo, branch: name });

describe('the slug a preview asks for', () => {
  test.each([
    [pull('shop', 42), 'shop-42'],
    [pull('My.Shop_2', 7), 'my-shop-2-7'],
    [branch('shop', 'feature/Nice_Things!'), 'shop-feature-nice-things'],
    [branch('shop', '///'), 'shop-branch'],
    [pull('...', 1), 'repo-1'],
    [branch('shop', 'ünïcode'), 'shop-n-code'],
  ])('of %j is %s', (source, slug) => {
    expect(candidateSlug(source)).toBe(slug);
  });

  test('chosen by hand is taken as it is', () => {
    expect(candidateSlug(pull('shop', 42), 'mine')).toBe('mine');
  });

  test('keeps the number, whatever the length of the repo', () => {
    const slug = candidateSlug(pull('r'.repeat(100), 123_456));
    expect(slug).toHaveLength(maxLabel);
    expect(slug).toMatch(/-123456$/);
  });
});

test('whatever comes in, a DNS label comes out', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.nat(), fc.string(), (repo, name, number, workflowId) => {
      for (const slug of [candidateSlug(pull(repo, number)), candidateSlug(branch(repo, name))]) {
        expect(slug).toMatch(labelPattern);
        expect(disambiguatedLabel(slug, workflowId)).toMatch(labelPattern);
        expect(prefixedLabel('api', slug)).toMatch(labelPattern);
        expect(prefixedLabel('a-prefix-of-20-chars', slug)).toMatch(labelPattern);
      }
    }),
  );
});

test('two previews whose long names begin alike keep different prefixed labels', () => {
  const [one, two] = [pull('x'.repeat(70), 1001), pull('x'.repeat(70), 1002)].map((source) => candidateSlug(source));
  expect(one && two && prefixedLabel('api', one)).not.toBe(two && prefixedLabel('api', two));
});

test('a second claimant gets six characters of its workflow id, the same ones each time', () => {
  const label = disambiguatedLabel('shop-42', 'preview/other/shop/42');
  expect(label).toMatch(/^shop-42-[a-z0-9]{6}$/);
  expect(disambiguatedLabel('shop-42', 'preview/other/shop/42')).toBe(label);
  expect(disambiguatedLabel('shop-42', 'preview/third/shop/42')).not.toBe(label);
});

test('the names of the server itself are reserved', () => {
  for (const label of ['webhook', 'tekton', 'temporal', 'www']) expect(reservedLabels.has(label)).toBe(true);
});
