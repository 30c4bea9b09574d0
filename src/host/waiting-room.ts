/**
 * Queues of this host: for a build place, for a slot. Each is first come, first served by the time the *workflow* began to wait, so
 * that the order survives a worker restart: whoever comes back finds its old place.
 */

import { AsyncResource } from 'node:async_hooks';

/** One who waits. */
export interface Wait {
  /** Who waits. Entering again under the same key replaces the earlier wait (an activity's next attempt). */
  key: string;
  /** When it began to wait, in milliseconds since 1970. */
  since: number;
  /** Leaves the queue when aborted; `enter` then rejects with its reason. */
  signal?: AbortSignal;
  /**
   * Told each time its place changes: 1 is next, 0 means "your turn has come". Never called for one who gets in at once. What it
   * throws is lost: the others must not wait for it.
   */
  onPlace?: (place: number) => void;
}

/** At most so many inside at once. */
export interface WaitingRoom {
  /**
   * Waits for a place. One whose key is inside already takes that place over: it is the same work, begun again.
   *
   * @returns what gives the place back; may be called more than once
   * @throws the signal's reason; `ReplacedError` when the same key entered again meanwhile
   */
  enter(wait: Wait): Promise<() => void>;
}

/** The wait ended because the same key entered again. */
export class ReplacedError extends Error {
  override readonly name = 'ReplacedError';
  constructor(key: string) {
    super(`${key} entered the queue again; this wait is over`);
  }
}

/** A queue for whatever `take` gives out. */
export interface Queue<T, W extends Wait = Wait> {
  /** Waits until `take` gives something to this one. Throws as `WaitingRoom.enter`, and what `take` throws. */
  enter(wait: W): Promise<T>;
  /** Something was given back: try again now. */
  wake(): void;
}

interface Entry<T, W> {
  wait: W;
  onPlace?: (place: number) => void;
  place?: number;
  /** `take` is running for it. */
  offered?: boolean;
  resolve(taken: T): void;
  reject(reason: unknown): void;
}

/**
 * A queue: only the first in line is offered what there is, and only when nothing is left do the others wait.
 *
 * @param take gives something to the one who waits, or undefined when there is nothing for it now
 * @param giveBack undoes a `take` whose taker has left meanwhile
 * @param before orders the line; by `since` unless told
 * @param pollMs tries again this often, for what others give back unseen
 */
export function createQueue<T, W extends Wait = Wait>(options: {
  take(wait: W): T | undefined | Promise<T | undefined>;
  giveBack?(taken: T): void;
  before?(a: W, b: W): boolean;
  pollMs?: number;
}): Queue<T, W> {
  const { take, giveBack, before = (a, b) => a.since < b.since, pollMs } = options;
  const line: Entry<T, W>[] = [];
  let pumping = false;
  let again = false;
  let poll: NodeJS.Timeout | undefined;

  function leave(entry: Entry<T, W>): boolean {
    const index = line.indexOf(entry);
    if (index >= 0) line.splice(index, 1);
    return index >= 0;
  }

  function tell(entry: Entry<T, W>, place: number): void {
    entry.place = place;
    try {
      entry.onPlace?.(place);
    } catch {
      // See `onPlace`.
    }
  }

  /** Offers to this one what there is; false when there is nothing and it still waits. */
  async function offer(entry: Entry<T, W>): Promise<boolean> {
    entry.offered = true;
    try {
      const taken = await take(entry.wait);
      if (taken === undefined) return line[0] !== entry;
      if (leave(entry)) {
        if (entry.place !== undefined) tell(entry, 0);
        entry.resolve(taken);
      } else giveBack?.(taken);
    } catch (error) {
      leave(entry);
      entry.reject(error);
    } finally {
      entry.offered = false;
      // One who left while `take` ran is let go only now: whoever undoes what was taken comes after it.
      if (entry.wait.signal?.aborted) entry.reject(entry.wait.signal.reason);
    }
    return true;
  }

  function tellPlaces(): void {
    line.forEach((entry, index) => {
      if (entry.place !== index + 1) tell(entry, index + 1);
    });
    if (line.length > 0 && pollMs !== undefined) poll ??= setInterval(wake, pollMs).unref();
    else {
      clearInterval(poll);
      poll = undefined;
    }
  }

  // One at a time: two offers at once could hand the same thing to the second in line.
  async function pump(): Promise<void> {
    if (pumping) {
      again = true;
      return;
    }
    pumping = true;
    do {
      again = false;
      while (line[0] && (await offer(line[0])));
    } while (again);
    pumping = false;
    tellPlaces();
  }

  function wake(): void {
    void pump();
  }

  return {
    wake,
    enter(wait) {
      return new Promise<T>((resolve, reject) => {
        // Whoever gives something back wakes the line: each is told in its own activity's context all the same.
        const onPlace = wait.onPlace && AsyncResource.bind(wait.onPlace);
        const { signal } = wait;
        if (signal?.aborted) return reject(signal.reason);
        const earlier = line.find((other) => other.wait.key === wait.key);
        if (earlier && leave(earlier)) earlier.reject(new ReplacedError(wait.key));

        const abort = () => {
          leave(entry);
          if (!entry.offered) entry.reject(signal?.reason);
          wake();
        };
        const entry: Entry<T, W> = {
          wait,
          onPlace,
          // The replaced one's place is this one's: it must hear 0 when its turn comes.
          place: earlier?.place,
          resolve: (taken) => {
            signal?.removeEventListener('abort', abort);
            resolve(taken);
          },
          reject: (reason) => {
            signal?.removeEventListener('abort', abort);
            reject(reason);
          },
        };
        signal?.addEventListener('abort', abort, { once: true });
        const behind = line.findIndex((other) => before(wait, other.wait));
        line.splice(behind < 0 ? line.length : behind, 0, entry);
        wake();
      });
    },
  };
}

/** A waiting room with so many places. */
export function createWaitingRoom(capacity: number): WaitingRoom {
  // Who holds each place; a new ticket when the same key takes the place over, so that the earlier release does nothing.
  const inside = new Map<string, symbol>();
  const queue = createQueue<() => void>({
    take: ({ key }) => (inside.size < capacity ? admit(key) : undefined),
    giveBack: (release) => release(),
  });

  function admit(key: string): () => void {
    const ticket = Symbol(key);
    inside.set(key, ticket);
    return () => {
      if (inside.get(key) !== ticket) return;
      inside.delete(key);
      queue.wake();
    };
  }

  return {
    async enter(wait) {
      wait.signal?.throwIfAborted();
      return inside.has(wait.key) ? admit(wait.key) : queue.enter(wait);
    },
  };
}
