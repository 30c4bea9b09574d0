/** Undo steps, registered before what they undo, run newest first and until done. */
import { rootCause } from '@temporalio/common';
import { CancellationScope, condition, sleep } from '@temporalio/workflow';

export interface Undo {
  /** What a person reads: "destroy container". */
  title: string;
  /** Ensure absent; safe to run again and when there is nothing to undo. */
  run(): Promise<unknown>;
}

/** How an unwinding tells what it does. */
export interface UndoWatcher {
  undoing(undo: Undo): void;
  undone(undo: Undo): void;
  /** It has not got through for `stuckAfter`; `reason` is the last error, if one was seen. */
  stuck(undo: Undo, reason: string | undefined): void;
}

/** After this long an undo that does not get through makes the preview `stuck`. It is still retried. */
export const stuckAfter = '10 minutes';

export class Saga {
  readonly #undos: Undo[] = [];

  /** Registers an undo; call it before the step that it undoes. */
  add(title: string, run: () => Promise<unknown>): void {
    this.#undos.push({ title, run });
  }

  /** Runs the undos newest first, each until it is done, whatever is cancelled meanwhile. */
  async unwind(watcher: UndoWatcher): Promise<void> {
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) await untilDone(undo, watcher);
  }
}

/** Runs one undo until it is done. Not cancellable: what was begun is taken back, whatever else happens. */
export async function untilDone(undo: Undo, watcher: UndoWatcher): Promise<void> {
  await CancellationScope.nonCancellable(async () => {
    let done = false;
    let reason: string | undefined;
    watcher.undoing(undo);
    const work = (async () => {
      for (;;) {
        try {
          await undo.run();
          break;
        } catch (error) {
          // Temporal retries what a retry can mend; this loop is for what somebody has to mend by hand first.
          reason = rootCause(error) ?? String(error);
          await sleep('15 seconds');
        }
      }
      done = true;
    })();
    if (!(await condition(() => done, stuckAfter, { summary: `stuck, unless "${undo.title}" gets through` })))
      watcher.stuck(undo, reason);
    await work;
    watcher.undone(undo);
  });
}
