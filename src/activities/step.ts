import { Context } from '@temporalio/activity';
import type { Step } from '../runtime/runtime.ts';

/** What each running activity last said of itself; the worker repeats it with every heartbeat. */
const lastSaid = new WeakMap<Context, string>();

/**
 * The running activity as the host port sees it: when to stop, and where to say how far it is. The text becomes the heartbeat's
 * detail, so that the Temporal web UI shows it among the pending activities.
 */
export function currentStep(): Step {
  const context = Context.current();
  return {
    signal: context.cancellationSignal,
    progress: (text) => {
      lastSaid.set(context, text);
      context.heartbeat(text);
    },
  };
}

/** Heartbeats for the activity until the answer is called; without it a killed worker would be noticed only by a timeout. */
export function keepHeartbeating(context: Context, everyMs: number): () => void {
  const timer = setInterval(() => context.heartbeat(lastSaid.get(context)), everyMs);
  return () => clearInterval(timer);
}
