/** The address files, `<live>/<slug>`: where each preview's live deployment is. Caddy reads them on every request. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type AddressLine, addressFile, parseAddressFile } from '../domain/caddy.ts';
import { labelPattern } from '../domain/slug.ts';
import { readOrUndefined, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

export interface Addresses {
  readAddress(slug: string): Promise<AddressLine[]>;
  /** One rename; the next request reads it. */
  writeAddress(slug: string, lines: AddressLine[]): Promise<void>;
  /** Takes the lines of other shapes away, a while after a change of shape. Whatever is written meanwhile comes instead. */
  settleAddress(slug: string, shape: string): void;
  removeAddress(slug: string): Promise<void>;
}

/** @param settleMs how long the lines of an old shape stay: connections of the old configuration may still ask */
export function createAddresses(
  layout: Pick<HostLayout, 'live'>,
  settleMs: number,
  onError: (text: string) => void,
): Addresses & { close(): void } {
  const settling = new Map<string, NodeJS.Timeout>();
  const fileOf = (slug: string) => {
    if (!labelPattern.test(slug)) throw new Error(`not a slug: ${JSON.stringify(slug.slice(0, 80))}`);
    return join(layout.live, slug);
  };

  /**
   * One writer at a time for each preview, so that settling never brings back what was read before a push. Within the process is
   * enough, because only the worker writes here; a push is to cost little more than its rename.
   */
  const writers = new Map<string, Promise<void>>();
  function exclusively(slug: string, work: () => Promise<void>): Promise<void> {
    const turn = (writers.get(slug) ?? Promise.resolve()).then(work);
    const after = turn.catch(() => {}).then(() => void (writers.get(slug) === after && writers.delete(slug)));
    writers.set(slug, after);
    return turn;
  }

  function stopSettling(slug: string): void {
    clearTimeout(settling.get(slug));
    settling.delete(slug);
  }

  async function read(slug: string): Promise<AddressLine[]> {
    return parseAddressFile((await readOrUndefined(fileOf(slug))) ?? '');
  }

  async function dropOtherShapes(slug: string, shape: string): Promise<void> {
    settling.delete(slug);
    const lines = await read(slug);
    const settled = lines.filter((line) => line.shape === shape);
    if (settled.length === 0 || settled.length === lines.length) return;
    await writeAtomic(fileOf(slug), addressFile(settled), { sync: true });
  }

  return {
    readAddress: read,

    async writeAddress(slug, lines) {
      const text = addressFile(lines);
      await exclusively(slug, async () => {
        stopSettling(slug);
        await writeAtomic(fileOf(slug), text, { sync: true });
      });
    },

    settleAddress(slug, shape) {
      stopSettling(slug);
      const timer = setTimeout(() => {
        exclusively(slug, async () => {
          if (settling.get(slug) === timer) await dropOtherShapes(slug, shape);
        }).catch((error) => onError(`${fileOf(slug)} keeps lines of an old shape until the next push: ${error}`));
      }, settleMs);
      timer.unref();
      settling.set(slug, timer);
    },

    removeAddress: (slug) =>
      exclusively(slug, async () => {
        stopSettling(slug);
        await rm(fileOf(slug), { force: true });
      }),

    close() {
      for (const timer of settling.values()) clearTimeout(timer);
      settling.clear();
    },
  };
}
