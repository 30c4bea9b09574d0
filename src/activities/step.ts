import { Context } from '@temporalio/activity';
import type { Step } from '../runtime/runtime.ts';

/**
 * How long what an activity says of itself may stay unsaid: most steps are over by then, and every heartbeat costs Temporal a write
 * to the very workflow that waits for the step.
 */
const sayAfterMs = 300;

interface Teller {
  /** What the activity last said of itself; the worker repeats it with every heartbeat. */
  said?: string;
  timer?: NodeJS.Timeout;
  over?: true;
}

const tellers = new WeakMap<Context, Teller>();

function tellerOf(context: Context): Teller {
  const teller = tellers.get(context) ?? {};
  tellers.set(context, teller);
  return teller;
}

/**
 * The running activity as the host port sees it: when to stop, and where to say how far it is. The text becomes the heartbeat's
 * detail, so that the Temporal web UI shows it among the pending activities.
 */
export function currentStep(): Step {
  const context = Context.current();
  const teller = tellerOf(context);
  return {
    signal: context.cancellationSignal,
    progress: (text) => {
      teller.said = text;
      if (teller.over) return;
      teller.timer ??= setTimeout(() => {
        teller.timer = undefined;
        context.heartbeat(teller.said);
      }, sayAfterMs).unref();
    },
  };
}

/** Heartbeats for the activity until the answer is called; without it a killed worker would be noticed only by a timeout. */
export function keepHeartbeating(context: Context, everyMs: number): () => void {
  const teller = tellerOf(context);
  const timer = setInterval(() => context.heartbeat(teller.said), everyMs);
  return () => {
    teller.over = true;
    clearTimeout(teller.timer);
    clearInterval(timer);
  };
}
