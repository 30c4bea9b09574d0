import { Context } from '@temporalio/activity';
import { type PlaceNotice, placeSignal } from '../workflows/messages.ts';

/** A line that moves fast would fill the workflow's history: at most one notice in this many milliseconds, the latest. */
const interval = 1000;

interface Teller {
  latest?: PlaceNotice;
  sending?: Promise<void>;
  /** Ends the pause between two notices: its turn has come, or the activity is cancelled. */
  hurry: () => void;
  hurried: Promise<void>;
}

const tellers = new WeakMap<Context, Teller>();

/**
 * Tells the activity's own workflow its place in a queue of this host (signal `place`). Best effort: notices go out one after the
 * other, only the latest of those that pile up, "your turn has come" without delay; one that can't be sent is dropped, and the
 * activity goes on.
 *
 * Call it in the activity's own context (`onPlace` of the waiting rooms is).
 */
export function notifyPlace(notice: PlaceNotice): void {
  const context = Context.current();
  const teller = tellers.get(context) ?? newTeller(context);
  teller.latest = notice;
  if (notice.place === 0) teller.hurry();
  teller.sending ??= send(context, teller).finally(() => {
    teller.sending = undefined;
  });
}

/**
 * Waits until what `notifyPlace` was last told has been sent, at most a second, so that "your turn has come" reaches the workflow
 * before the activity's result.
 */
export async function placeToldLast(): Promise<void> {
  const sending = tellers.get(Context.current())?.sending;
  if (sending) await Promise.race([sending, delay(1000)]);
}

function newTeller(context: Context): Teller {
  let hurry = () => {};
  const hurried = new Promise<void>((resolve) => {
    hurry = resolve;
  });
  context.cancellationSignal.addEventListener('abort', hurry, { once: true });
  const teller = { hurry, hurried };
  tellers.set(context, teller);
  return teller;
}

async function send(context: Context, teller: Teller): Promise<void> {
  const { workflowExecution } = context.info;
  while (teller.latest && workflowExecution) {
    const notice = teller.latest;
    teller.latest = undefined;
    // One who was cancelled has left the queue.
    if (context.cancellationSignal.aborted && notice.place !== 0) return;
    try {
      const handle = context.client.workflow.getHandle(workflowExecution.workflowId, workflowExecution.runId);
      await handle.signal(placeSignal, notice);
    } catch (error) {
      context.log.debug('the workflow was not told its place', { ...notice, error });
    }
    await Promise.race([delay(interval), teller.hurried]);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
