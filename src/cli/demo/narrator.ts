import { setTimeout as sleep } from 'node:timers/promises';
import { duration } from '../render.ts';

/** Tells what happens, with the seconds since the beginning, and remembers whether everything held. */
export interface Narrator {
  /** A new chapter. */
  chapter(title: string): void;
  say(text: string): void;
  /** Something that must hold; a false one makes the demo fail at its end. */
  check(holds: boolean, text: string): void;
  /** What did not hold. */
  readonly broken: string[];
}

export function createNarrator(print: (line: string) => void, started = Date.now()): Narrator {
  const broken: string[] = [];
  const clock = () => `${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s`;
  const say = (text: string) => print(`${clock()}  ${text}`);
  return {
    broken,
    say,
    chapter: (title) => print(`\n${title}`),
    check(holds, text) {
      if (!holds) broken.push(text);
      say(`${holds ? '✓' : '✗'} ${text}`);
    },
  };
}

/** Waiting longer won't help. */
export class Hopeless extends Error {}

/**
 * Asks again and again until there is an answer.
 *
 * @param what names what is waited for, and `log` where to read why it doesn't come
 * @throws Error that names both, after `limitMs`; `Hopeless` at once; the signal's reason when it aborts
 */
export async function until<T>(
  wait: { what: string; log: string; limitMs: number; signal: AbortSignal; everyMs?: number },
  ask: () => Promise<T | undefined>,
): Promise<T> {
  const end = Date.now() + wait.limitMs;
  let trouble: unknown;
  for (;;) {
    wait.signal.throwIfAborted();
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      trouble = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      trouble = error;
    }
    if (Date.now() > end) {
      const why = trouble instanceof Error ? ` (${trouble.message})` : '';
      throw new Error(`waited ${duration(wait.limitMs)} for ${wait.what}, in vain${why}. Read ${wait.log}`);
    }
    await sleep(wait.everyMs ?? 100, undefined, { signal: wait.signal });
  }
}
