import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { phases } from '../../src/domain/phase.ts';
import { duration, escapeHtml, type ProgressState, progressPage } from '../../src/domain/progress-page.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createProgress, type Progress } from '../../src/host/progress.ts';

const state: ProgressState = {
  label: 'shop-42',
  phase: 'building',
  sha: 'abcdef0123456789abcdef0123456789abcdef01',
  url: 'http://shop-42.preview.localhost',
  steps: [
    { name: 'buildClosure', title: 'build closure', state: 'done', at: '2026-01-01T00:00:00Z', ms: 1234 },
    { name: 'createContainer', title: 'create container', state: 'running', at: '2026-01-01T00:00:01Z' },
  ],
  at: '2026-01-01T00:00:02Z',
};

describe('the page', () => {
  test('as a whole', () => {
    expect(progressPage(state)).toMatchSnapshot();
  });

  test('escapes everything that comes from outside', () => {
    const evil = `<script>alert("x")</script>'&`;
    const page = progressPage({
      ...state,
      label: evil,
      sha: evil,
      reason: evil,
      steps: [{ name: evil, title: evil, state: evil as 'done', at: evil, ms: 1 }],
      phase: evil as 'building',
    });
    expect(page).not.toContain('<script');
    expect(page).not.toContain(`"x"`);
    expect(escapeHtml(evil)).toBe('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;');
  });

  test('for every phase refreshes itself and needs nothing from elsewhere', () => {
    for (const phase of Object.keys(phases) as (keyof typeof phases)[]) {
      const page = progressPage({ ...state, phase });
      expect(page).toMatch(/<meta http-equiv="refresh" content="\d+">/);
      expect(page).not.toMatch(/(?:src|href)=|url\(|@import/);
    }
  });

  test.each([
    [0.4, '0 ms'],
    [999, '999 ms'],
    [1250, '1.3 s'],
    [125_400, '2 min 5 s'],
  ])('says %s as %s', (ms, text) => {
    expect(duration(ms)).toBe(text);
  });
});

describe('on the host', () => {
  let root: string;
  let progress: Progress;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tekton-progress-'));
    progress = createProgress(hostLayout(root));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));
  const page = (label = 'shop-42') => readFile(join(hostLayout(root).progress, `${label}.html`), 'utf8');
  const step = { label: 'shop-42', name: 'build', title: 'build closure', at: '2026-01-01T00:00:00Z' };

  test('tells the story: steps begin and end, a retry takes the place of the first try', async () => {
    await progress.begin({ label: 'shop-42', phase: 'building', sha: '1'.repeat(40) });
    await progress.step({ ...step, state: 'running' });
    await progress.step({ ...step, state: 'failed', ms: 10 });
    await progress.step({ ...step, state: 'running' });
    await progress.step({ ...step, state: 'done', ms: 20 });
    expect((await progress.read('shop-42'))?.steps).toMatchObject([{ name: 'build', state: 'done', ms: 20 }]);
    await progress.phase({ label: 'shop-42', phase: 'failed', sha: '1'.repeat(40), reason: 'it broke' });
    expect(await page()).toContain('it broke');
    expect(await page()).toContain('build closure');
    await progress.phase({ label: 'shop-42', phase: 'building', sha: '2'.repeat(40) });
    expect(await page()).not.toContain('build closure');
  });

  test('a step of a preview that has no page makes none', async () => {
    await progress.step({ ...step, state: 'running' });
    await progress.phase({ label: 'shop-42', phase: 'starting' }, { existing: true });
    await expect(page()).rejects.toThrow('ENOENT');
  });

  test('many steps at once: none is lost, and a reader never sees a part', async () => {
    await progress.begin({ label: 'shop-42', phase: 'building' });
    await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        await progress.step({ ...step, name: `step-${i}`, state: 'done', ms: i });
        expect(await page()).toMatch(/<\/html>\n$/);
      }),
    );
    expect((await progress.read('shop-42'))?.steps).toHaveLength(30);
  });

  test('removed, nothing is left; and a label is never a path', async () => {
    await progress.begin({ label: 'shop-42', phase: 'building' });
    await progress.alias('api-shop-42', 'shop-42');
    await progress.alias('api-shop-42', 'shop-42');
    expect(await page('api-shop-42')).toBe(await page());
    for (const label of ['shop-42', 'shop-42', 'api-shop-42']) await progress.remove(label);
    expect(await readdir(hostLayout(root).progress)).toEqual([]);
    await expect((async () => progress.remove('../x'))()).rejects.toThrow('not a label');
  });
});
