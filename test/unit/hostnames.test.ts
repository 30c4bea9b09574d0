import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hostnameActivities } from '../../src/activities/hostname.ts';
import { type PreviewSource, previewWorkflowId } from '../../src/domain/preview.ts';
import { candidateSlug, disambiguatedLabel } from '../../src/domain/slug.ts';
import { createHostnames, type Hostnames } from '../../src/host/hostnames.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createProgress } from '../../src/host/progress.ts';

let root: string;
let hostnames: Hostnames;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tekton-hostnames-'));
  hostnames = createHostnames(hostLayout(root));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const pull = (owner: string, repo: string, number: number): PreviewSource => ({ owner, repo, number });
function claim(source: PreviewSource, candidate = candidateSlug(source)) {
  return hostnames.claimSlug({ workflowId: previewWorkflowId(source), source, candidate });
}

describe('claiming a slug', () => {
  test('gives the candidate, and the same when asked again', async () => {
    expect(await claim(pull('acme', 'shop', 42))).toBe('shop-42');
    expect(await claim(pull('acme', 'shop', 42))).toBe('shop-42');
    expect(await hostnames.list()).toMatchObject([
      {
        label: 'shop-42',
        slug: 'shop-42',
        prefix: '',
        workflowId: 'preview/acme/shop/42',
        source: pull('acme', 'shop', 42),
      },
    ]);
  });

  test("two owners' same-named repos: the second gets a hash, and keeps it when the first has gone", async () => {
    const [one, two] = [pull('acme', 'shop', 42), pull('zeta', 'shop', 42)];
    expect(await claim(one)).toBe('shop-42');
    const second = disambiguatedLabel('shop-42', previewWorkflowId(two));
    expect(await claim(two)).toBe(second);
    expect(await hostnames.release(previewWorkflowId(one))).toEqual(['shop-42']);
    expect(await claim(two)).toBe(second);
    expect(await claim(one)).toBe('shop-42');
  });

  test('by many at once, from registries that know nothing of each other: each label has one holder', async () => {
    const sources = Array.from({ length: 30 }, (_, i) => pull(`owner-${i % 15}`, 'shop', 42));
    const slugs = await Promise.all(
      sources.map((source) =>
        createHostnames(hostLayout(root)).claimSlug({
          workflowId: previewWorkflowId(source),
          source,
          candidate: candidateSlug(source),
        }),
      ),
    );
    expect(new Set(slugs).size).toBe(15);
    expect(slugs.slice(0, 15)).toEqual(slugs.slice(15));
    expect((await hostnames.list()).length).toBe(15);
  });

  test('chosen by hand: a taken one gets a hash, a reserved or impossible one is refused by name', async () => {
    await claim(pull('acme', 'shop', 42));
    const other = pull('acme', 'other', 1);
    expect(await claim(other, 'shop-42')).toBe(disambiguatedLabel('shop-42', previewWorkflowId(other)));
    for (const [slug, words] of [
      ['webhook', 'reserved'],
      ['Not_a_label', "can't be a slug"],
      ['', "can't be a slug"],
    ] as const) {
      await expect(claim(pull('acme', 'third', 1), slug)).rejects.toMatchObject({
        type: 'HostnameTaken',
        nonRetryable: true,
        message: expect.stringContaining(words),
      });
    }
    await expect(claim(pull('acme', 'third', 1), 'www')).rejects.toThrow('www');
  });
});

describe('claiming prefixes', () => {
  test('api-foo#42 beside foo#42 with the prefix api: both orders', async () => {
    const [foo, apiFoo] = [pull('acme', 'foo', 42), pull('acme', 'api-foo', 42)];
    const prefixes = async () => {
      const workflowId = previewWorkflowId(foo);
      const records = await hostnames.claimPrefixes({ workflowId, slug: 'foo-42', prefixes: ['api'] });
      return records.map(({ label }) => label);
    };
    await claim(foo);
    expect(await prefixes()).toEqual(['api-foo-42']);
    expect(await prefixes()).toEqual(['api-foo-42']);
    expect(await claim(apiFoo)).toBe(disambiguatedLabel('api-foo-42', previewWorkflowId(apiFoo)));

    for (const source of [foo, apiFoo]) await hostnames.release(previewWorkflowId(source));
    expect(await claim(apiFoo)).toBe('api-foo-42');
    await claim(foo);
    expect(await prefixes()).toEqual([disambiguatedLabel('api-foo-42', previewWorkflowId(foo))]);
  });

  test('a slug is found by its name; a prefix is no slug', async () => {
    await claim(pull('acme', 'foo', 42));
    await hostnames.claimPrefixes({ workflowId: 'preview/acme/foo/42', slug: 'foo-42', prefixes: ['api'] });
    expect(await hostnames.bySlug('foo-42')).toMatchObject({ workflowId: 'preview/acme/foo/42' });
    expect(await hostnames.bySlug('api-foo-42')).toBeUndefined();
    expect(await hostnames.bySlug('../../etc/passwd')).toBeUndefined();
  });
});

describe('activities', () => {
  const activities = () =>
    hostnameActivities({
      hostnames,
      progress: createProgress(hostLayout(root)),
      domain: 'preview.localhost',
      publicUrl: (hostname) => `http://${hostname}:8080`,
    });
  const source = pull('acme', 'foo', 42);
  const preview = { ...source, workflowId: previewWorkflowId(source), slug: 'foo-42' };

  test('claim, show progress, claim more names, release: nothing is left', async () => {
    const { claimSlug, claimHostnames, releaseHostnames } = activities();
    const input = { workflowId: preview.workflowId, source, candidate: 'foo-42', fork: false };
    expect(await claimSlug(input)).toEqual({ slug: 'foo-42', url: 'http://foo-42.preview.localhost:8080' });
    expect(await claimHostnames({ preview, prefixes: ['api'] })).toEqual([
      { prefix: '', label: 'foo-42', hostname: 'foo-42.preview.localhost' },
      { prefix: 'api', label: 'api-foo-42', hostname: 'api-foo-42.preview.localhost' },
    ]);
    const { progress, hostnames: folder } = hostLayout(root);
    expect(await readFile(join(progress, 'foo-42.html'), 'utf8')).toContain('queued');
    expect(await readFile(join(progress, 'api-foo-42.html'), 'utf8')).toContain('foo-42');
    // The same claim again, as after a lost answer, leaves the page's story alone.
    await createProgress(hostLayout(root)).phase({ label: 'foo-42', phase: 'building' });
    await claimSlug(input);
    expect(await readFile(join(progress, 'foo-42.html'), 'utf8')).toContain('building');
    await releaseHostnames({ preview });
    await releaseHostnames({ preview });
    expect([await readdir(progress), await readdir(folder)]).toEqual([[], []]);
  });

  test("releasing doesn't touch the page of the next holder of the slug", async () => {
    const { claimSlug, releaseHostnames } = activities();
    const other = pull('zeta', 'foo', 42);
    await claimSlug({ workflowId: previewWorkflowId(other), source: other, candidate: 'foo-42', fork: false });
    await releaseHostnames({ preview });
    expect(await readdir(hostLayout(root).progress)).toContain('foo-42.html');
  });
});
