import type { Context } from '@temporalio/activity';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { keepHeartbeating } from '../activities/step.ts';

/** Well below the policies' `heartbeatTimeout`; also how soon an activity hears that it was cancelled. */
const heartbeatEveryMs = 1000;

/** What the progress page is told of each activity that works for a preview. */
export interface StepObserver {
  started(activity: string, arg: unknown): void;
  ended(activity: string, arg: unknown, state: 'done' | 'failed', ms: number): void;
}

/** Heartbeats for every activity, and tells the observer of each step. */
export function activityInterceptors(observer?: StepObserver): ActivityInterceptorsFactory {
  return (context: Context) => ({
    inbound: {
      async execute(input, next) {
        const { activityType } = context.info;
        const [arg] = input.args;
        const stop = keepHeartbeating(context, heartbeatEveryMs);
        const startedAt = Date.now();
        const end = (state: 'done' | 'failed') => observer?.ended(activityType, arg, state, Date.now() - startedAt);
        observer?.started(activityType, arg);
        try {
          const result = await next(input);
          end('done');
          return result;
        } catch (error) {
          end('failed');
          throw error;
        } finally {
          stop();
        }
      },
    },
  });
}
