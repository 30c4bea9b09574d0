import { Context } from '@temporalio/activity';
import type { Step } from '../runtime/runtime.ts';

/**
 * The running activity as the host port sees it: when to stop, and where to say how far it is. The text becomes the heartbeat's
 * detail, so that the Temporal web UI shows it among the pending activities.
 */
export function currentStep(): Step {
  const context = Context.current();
  return {
    signal: context.cancellationSignal,
    progress: (text) => {
      context.heartbeat(text);
    },
  };
}
