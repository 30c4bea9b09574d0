/**
 * Publishing to Caddy. A preview's shape is a file of its own, `<slug>.caddy`, and needs a reload; the address of its live
 * deployment is a small file that Caddy reads on every request, and is one rename.
 *
 * Only this publisher writes the folder, one batch at a time: what a reload loads is exactly what was written before it
 * started, so a change can't be lost between two reloads, and a refusal is about the changes of this batch alone.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../activities/failure.ts';
import { importLine } from '../domain/caddy.ts';
import { labelPattern } from '../domain/slug.ts';
import { type Addresses, createAddresses } from './address.ts';
import { CaddyDown, caddyAdmin } from './caddy-admin.ts';
import { readOrUndefined, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

export interface PublisherOptions {
  layout: Pick<HostLayout, 'caddyfile' | 'caddyPreviews' | 'live'>;
  /** `http://127.0.0.1:2019`, or `unix:///run/caddy/admin.sock`. */
  adminUrl: string;
  logger?: { info(text: string): void; error(text: string): void };
  /** Reloads that come within this many milliseconds share one. */
  minIntervalMs?: number;
  /** How long the lines of an old shape stay in an address file: connections of the old configuration may still ask. */
  settleMs?: number;
}

export interface CaddyPublisher extends Addresses {
  /** Makes `fragment` the preview's site. False when Caddy has it already. Throws CaddyRefused, CaddyUnavailable. */
  publish(slug: string, fragment: string): Promise<boolean>;
  /** Ensures the preview has no site. False when it had none. */
  withdraw(slug: string): Promise<boolean>;
  /** True when Caddy runs with exactly this fragment. */
  isPublished(slug: string, fragment: string): Promise<boolean>;
  /** Resolves once Caddy runs everything written before this call. Throws CaddyRefused, CaddyUnavailable. */
  reload(): Promise<void>;
  /** At worker start: the running Caddy gets the current main Caddyfile and every preview on disk. */
  sync(): Promise<void>;
  /** Files that Caddy refuses and that are none of ours, with its words. */
  refusedFiles(): ReadonlyMap<string, string>;
  close(): Promise<void>;
}

interface Change {
  /** Absent: only a reload. */
  slug?: string;
  /** Absent: the site is to go. */
  fragment?: string;
  done: () => void;
  failed: (error: unknown) => void;
}

const suffix = '.caddy';
/** Old listeners were seen to take a new connection up to some milliseconds after a load had been answered. */
const oldListenersMs = 10;
/** A file name that can be imported by itself: nothing in it means something to a glob or the Caddyfile. */
const importable = /^[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*$/;

export function createCaddyPublisher(options: PublisherOptions): CaddyPublisher {
  const { layout, logger, minIntervalMs = 1000, settleMs = 10_000 } = options;
  const admin = caddyAdmin(options.adminUrl);
  const fileOf = (slug: string) => join(layout.caddyPreviews, checkedSlug(slug) + suffix);
  const { close: stopSettling, ...addresses } = createAddresses(layout, settleMs, (text) => logger?.error(text));

  /** What Caddy runs, by file name. Unknown until the first load of this process. */
  let running: Map<string, string> | undefined;
  /** Files that are none of our changes and that Caddy refused, by name: left where they are, and out of the import. */
  const refused = new Map<string, { text: string; words: string }>();
  let queue: Change[] = [];
  let working: Promise<void> | undefined;
  let lastStart = Number.NEGATIVE_INFINITY;
  let closed = false;
  /** Changes under way, by slug: what Caddy runs says nothing of them yet. */
  const pending = new Map<string, number>();

  async function enqueue(change: Pick<Change, 'slug' | 'fragment'>): Promise<void> {
    if (closed) throw failure('CaddyUnavailable', 'this worker is stopping');
    const key = change.slug ?? '';
    pending.set(key, (pending.get(key) ?? 0) + 1);
    try {
      await new Promise<void>((done, failed) => {
        queue.push({ ...change, done, failed });
        working ??= work();
      });
    } finally {
      const left = (pending.get(key) ?? 1) - 1;
      if (left === 0) pending.delete(key);
      else pending.set(key, left);
    }
  }

  async function work(): Promise<void> {
    while (queue.length > 0) {
      const wait = lastStart + minIntervalMs - performance.now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      const batch = queue;
      queue = [];
      lastStart = performance.now();
      try {
        await apply(batch);
      } catch (error) {
        const thrown =
          error instanceof CaddyDown ? failure('CaddyUnavailable', error.message, { cause: error }) : error;
        for (const change of batch) change.failed(thrown);
      }
    }
    // In the same breath as the last look at the queue: a change that comes now starts the work again.
    working = undefined;
  }

  /** Writes a batch and loads it; when Caddy refuses, puts it back and finds out whose fault it is. */
  async function apply(batch: Change[]): Promise<void> {
    const before = new Map<string, string | undefined>();
    for (const { slug } of batch) {
      if (slug === undefined) continue;
      before.set(slug, await readOrUndefined(fileOf(slug)));
      refused.delete(slug + suffix);
    }
    for (const change of batch) await write(change);
    if ((await loadAll(batch)) === undefined) {
      logger?.info(`Caddy reloaded once for ${batch.length} ${batch.length === 1 ? 'change' : 'changes'}`);
      for (const { done } of batch) done();
      return;
    }

    for (const [slug, fragment] of before) await write({ slug, fragment });
    await loadWithoutStrays();
    for (const change of batch) {
      const { slug } = change;
      const last = slug === undefined ? undefined : await readOrUndefined(fileOf(slug));
      await write(change);
      const reason = await loadAll([change]);
      if (reason === undefined) {
        change.done();
        continue;
      }
      await write({ slug, fragment: last });
      change.failed(failure('CaddyRefused', `Caddy refused the route of ${slug ?? 'no preview'}: ${reason}`));
    }
  }

  async function write({ slug, fragment }: Pick<Change, 'slug' | 'fragment'>): Promise<void> {
    if (slug === undefined) return;
    if (fragment === undefined) await rm(fileOf(slug), { force: true });
    else await writeAtomic(fileOf(slug), fragment, { sync: true });
  }

  async function readPreviews(): Promise<Map<string, string>> {
    const names = await readdir(layout.caddyPreviews);
    const files = names.filter((name) => name.endsWith(suffix) && !name.startsWith('.')).sort();
    const texts = await Promise.all(files.map((name) => readOrUndefined(join(layout.caddyPreviews, name))));
    return new Map(files.flatMap((name, i) => (texts[i] === undefined ? [] : [[name, texts[i]] as const])));
  }

  /** Loads the folder, but for the files known to be refused, after `changes` were written. Gives Caddy's words when it refuses. */
  async function loadAll(changes: Change[]): Promise<string | undefined> {
    if (running !== undefined && refused.size === 0) {
      const { refused: words } = await loadText(await mainText());
      // Nobody else writes here: what runs is what ran, and the changes. Reading a thousand files would double the time.
      if (words === undefined) for (const change of changes) note(running, change);
      return words;
    }
    const previews = await readPreviews();
    for (const [name, { text }] of refused) if (previews.get(name) !== text) refused.delete(name);
    for (const name of refused.keys()) previews.delete(name);
    return load(previews, refused.size === 0);
  }

  function note(files: Map<string, string>, { slug, fragment }: Change): void {
    if (slug === undefined) return;
    if (fragment === undefined) files.delete(slug + suffix);
    else files.set(slug + suffix, fragment);
  }

  async function load(previews: Map<string, string>, whole: boolean): Promise<string | undefined> {
    const { refused: words } = await loadText(
      whole ? await mainText() : withImports(await mainText(), [...previews.keys()]),
    );
    if (words === undefined) running = previews;
    return words;
  }

  /**
   * The folder as it was before our changes. When even that is refused, something else wrote to it: what Caddy runs is kept,
   * each other file is tried, and the culprits are named and left out until they change.
   */
  async function loadWithoutStrays(): Promise<void> {
    if ((await loadAll([])) === undefined) return;
    const previews = await readPreviews();
    const names = [...previews.keys()];
    const kept = names.filter((name) => importable.test(name) && running?.get(name) === previews.get(name));
    // Ours before others', so that a stray copy of a site loses against the site.
    const others = names
      .filter((name) => !kept.includes(name))
      .sort((a, b) => Number(isOurs(previews.get(b))) - Number(isOurs(previews.get(a))));
    const pick = (chosen: string[]) => new Map(chosen.map((name) => [name, previews.get(name) ?? '']));
    const adapt = async (chosen: string[]) => (await admin.adapt(withImports(await mainText(), chosen))).refused;

    const mainWords = await adapt(kept);
    if (mainWords !== undefined) throw failure('CaddyRefused', `Caddy refuses ${layout.caddyfile}: ${mainWords}`);
    // Adapting disturbs nobody, and catches nearly everything.
    const admitted = await admit(kept, others, adapt);
    if ((await load(pick(admitted), false)) === undefined) return;
    await admit(kept, others, (chosen) => load(pick(chosen), false));

    async function admit(
      base: string[],
      more: string[],
      test: (chosen: string[]) => Promise<string | undefined>,
    ): Promise<string[]> {
      if (more.length === 0) return base;
      const strange = more.find((name) => !importable.test(name));
      const reason =
        strange === undefined ? await test([...base, ...more]) : `the name of the file ${JSON.stringify(strange)}`;
      if (reason === undefined) return [...base, ...more];
      const [first = '', ...rest] = more;
      if (rest.length === 0) {
        refused.set(first, { text: previews.get(first) ?? '', words: reason });
        logger?.error(`${join(layout.caddyPreviews, first)} is left out, because Caddy refuses it: ${reason}`);
        return base;
      }
      const half = more.length >> 1;
      return admit(await admit(base, more.slice(0, half), test), more.slice(half), test);
    }
  }

  async function loadText(caddyfile: string): Promise<{ refused?: string }> {
    const answer = await admin.load(caddyfile);
    // Caddy answers when its old servers have been told to stop, not when they have: for a moment a new connection can still
    // meet the old configuration.
    if (answer.refused === undefined) await new Promise((resolve) => setTimeout(resolve, oldListenersMs));
    return answer;
  }

  async function mainText(): Promise<string> {
    const text = await readOrUndefined(layout.caddyfile);
    if (text === undefined) throw failure('CaddyRefused', `there is no main Caddyfile at ${layout.caddyfile}`);
    return text;
  }

  /** The main Caddyfile with these previews instead of all. */
  function withImports(main: string, names: string[]): string {
    const all = importLine(layout);
    if (!main.includes(all)) throw failure('CaddyRefused', `${layout.caddyfile} has no line "${all}"`);
    const lines = names.map((name) => importLine(layout, name));
    return main.replace(all, () => lines.join('\n'));
  }

  /** A fragment with the main Caddyfile and nothing else: what is wrong then is wrong with it. */
  async function validateAlone(slug: string, fragment: string): Promise<void> {
    const main = withImports(await mainText(), []);
    try {
      const { refused: words } = await admin.adapt(`${main}\n${fragment}`);
      if (words !== undefined) throw failure('CaddyRefused', `Caddy refused the route of ${slug}: ${words}`);
    } catch (error) {
      if (error instanceof CaddyDown) throw failure('CaddyUnavailable', error.message, { cause: error });
      throw error;
    }
  }

  const publisher: CaddyPublisher = {
    ...addresses,

    async publish(slug, fragment) {
      if (await publisher.isPublished(slug, fragment)) return false;
      await validateAlone(slug, fragment);
      await enqueue({ slug, fragment });
      return true;
    },

    async withdraw(slug) {
      const onDisk = await readOrUndefined(fileOf(slug));
      const gone = running !== undefined && !running.has(slug + suffix);
      if (onDisk === undefined && gone && !pending.has(slug)) return false;
      await enqueue({ slug });
      return true;
    },

    async isPublished(slug, fragment) {
      if (running?.get(slug + suffix) !== fragment || pending.has(slug)) return false;
      return (await readOrUndefined(fileOf(slug))) === fragment;
    },

    async reload() {
      await enqueue({});
    },

    async sync() {
      await enqueue({});
      logger?.info(`Caddy has ${running?.size ?? 0} previews`);
    },

    refusedFiles: () => new Map([...refused].map(([name, { words }]) => [name, words])),

    async close() {
      closed = true;
      stopSettling();
      await working;
    },
  };
  return publisher;
}

/** Folders and main Caddyfile, as Caddy needs them before it starts. True when the text has changed. */
export async function writeMainCaddyfile(
  layout: Pick<HostLayout, 'caddyfile' | 'caddyPreviews' | 'live' | 'progress'>,
  text: string,
): Promise<boolean> {
  for (const folder of [layout.caddyPreviews, layout.live, layout.progress]) await mkdir(folder, { recursive: true });
  if ((await readOrUndefined(layout.caddyfile)) === text) return false;
  await writeAtomic(layout.caddyfile, text);
  return true;
}

function isOurs(text: string | undefined): boolean {
  return text?.startsWith('# Preview ') ?? false;
}

function checkedSlug(slug: string): string {
  if (!labelPattern.test(slug)) throw new Error(`not a slug: ${JSON.stringify(slug.slice(0, 80))}`);
  return slug;
}
