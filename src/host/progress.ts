/**
 * The progress pages: `<progress>/<label>.html`, which Caddy serves while nothing else does, and beside each a small JSON of what it
 * shows. Written whole by rename, so that Caddy never reads a part; one writer at a time for each preview.
 */
import { mkdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Phase } from '../domain/phase.ts';
import { type ProgressState, type ProgressStep, progressPage } from '../domain/progress-page.ts';
import { labelPattern } from '../domain/slug.ts';
import { readOrUndefined, withLock, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

/** Beyond this many steps the oldest are left out. */
const maxSteps = 40;

export interface Progress {
  /**
   * A new story: no steps yet. With `keep`, nothing happens when the preview has a page already.
   */
  begin(
    state: { label: string; phase: Phase; sha?: string; url?: string; reason?: string },
    options?: { keep?: boolean },
  ): Promise<void>;
  /** A step that begins or ends. Ignored when the preview has no page: it is live, or on its way out. */
  step(step: ProgressStep & { label: string }): Promise<void>;
  /**
   * Where the preview stands; the steps stay unless the commit is another one. Makes the page when there is none, unless only an
   * `existing` one is meant.
   */
  phase(
    state: { label: string; phase: Phase; sha?: string; reason?: string },
    options?: { existing?: boolean },
  ): Promise<void>;
  /** Shows the preview's page at another of its labels. */
  alias(label: string, slug: string): Promise<void>;
  read(label: string): Promise<ProgressState | undefined>;
  /** Ensures the label has no page. */
  remove(label: string): Promise<void>;
}

export function createProgress(layout: Pick<HostLayout, 'progress'>, now: () => Date = () => new Date()): Progress {
  const fileOf = (label: string, kind: 'html' | 'json') => {
    if (!labelPattern.test(label)) throw new Error(`not a label: ${JSON.stringify(label.slice(0, 80))}`);
    return join(layout.progress, `${label}.${kind}`);
  };

  async function read(label: string): Promise<ProgressState | undefined> {
    const text = await readOrUndefined(fileOf(label, 'json'));
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text) as ProgressState;
    } catch {
      return undefined;
    }
  }

  /** Reads, changes and writes a page; `undefined` leaves it as it is. */
  function change(
    label: string,
    next: (state: ProgressState | undefined) => Omit<ProgressState, 'at'> | undefined,
  ): Promise<void> {
    return withLock(fileOf(label, 'json'), async () => {
      const changed = next(await read(label));
      if (!changed) return;
      const state: ProgressState = { ...changed, steps: changed.steps.slice(-maxSteps), at: now().toISOString() };
      await writeAtomic(fileOf(label, 'json'), JSON.stringify(state));
      await writeAtomic(fileOf(label, 'html'), progressPage(state));
    });
  }

  return {
    read,

    begin: (state, options = {}) =>
      change(state.label, (old) => (old && options.keep ? undefined : { ...state, steps: [] })),

    step: ({ label, ...step }) => change(label, (old) => old && { ...old, steps: withStep(old.steps, step) }),

    phase: ({ label, phase, sha, reason }, options = {}) =>
      change(label, (old) => {
        if (!old && options.existing) return undefined;
        const same = sha === undefined || old?.sha === undefined || old.sha === sha;
        return { label, url: old?.url, sha: sha ?? old?.sha, phase, reason, steps: same ? (old?.steps ?? []) : [] };
      }),

    async alias(label, slug) {
      const [path, target] = [fileOf(label, 'html'), fileOf(slug, 'html')];
      if (label === slug) return;
      const relative = `${slug}.html`;
      if ((await readlink(path).catch(() => undefined)) === relative) return;
      await mkdir(layout.progress, { recursive: true });
      const temp = join(layout.progress, `.alias-${label}-${process.pid}`);
      await rm(temp, { force: true });
      await symlink(relative, temp);
      await rename(temp, path).catch((error) => {
        throw new Error(`${path} can't show ${target}: ${error}`, { cause: error });
      });
    },

    remove: (label) =>
      withLock(fileOf(label, 'json'), async () => {
        await rm(fileOf(label, 'html'), { force: true });
        await rm(fileOf(label, 'json'), { force: true });
      }),
  };
}

/** The same step again (its end, or a retry) takes the place of what is there. */
function withStep(steps: ProgressStep[], step: ProgressStep): ProgressStep[] {
  const index = steps.findIndex(({ name }) => name === step.name);
  return index < 0 ? [...steps, step] : steps.with(index, step);
}
