/** One place for how activities are retried. Durations are Temporal's strings; `policies.test.ts` checks that each one parses. */
import type { ActivityOptions } from '@temporalio/common';
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { BuildActivities, GitHubActivities, HostActivities } from '../activities/contract.ts';
import { buildTaskQueue, hostTaskQueue, taskQueue } from './messages.ts';

/**
 * The worker heartbeats for every activity (see `worker/interceptors.ts`), so a killed worker is noticed within this time and
 * `startToCloseTimeout` only has to bound work that hangs. WAIT_CANCELLATION_COMPLETED has to be said: with the default a
 * superseding build starts while the old one still runs.
 */
const common = {
  heartbeatTimeout: '10 seconds',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
} as const satisfies ActivityOptions;

/** About five minutes of attempts, then the deployment fails with a reason and is tried again later. */
const patient = {
  initialInterval: '250 milliseconds',
  backoffCoefficient: 2,
  maximumInterval: '30 seconds',
  maximumAttempts: 14,
};

export const policies = {
  /** A step of a deployment: seconds of work. */
  step: { ...common, startToCloseTimeout: '5 minutes', retry: patient },
  /** A step that runs the repo's own program. Builds have a limit of their own. */
  slow: { ...common, startToCloseTimeout: '2 hours', retry: { ...patient, maximumAttempts: 5 } },
  /** May wait for its turn: for a slot, or for a build place. */
  waiting: { ...common, startToCloseTimeout: '30 days', retry: { ...patient, maximumAttempts: 20 } },
  /** Ensure absent: until it is. */
  undo: {
    ...common,
    startToCloseTimeout: '5 minutes',
    retry: { initialInterval: '250 milliseconds', backoffCoefficient: 2, maximumInterval: '30 seconds' },
  },
  /** Nobody's preview waits for GitHub. */
  github: {
    ...common,
    startToCloseTimeout: '30 seconds',
    scheduleToCloseTimeout: '10 minutes',
    retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute', maximumAttempts: 5 },
  },
} as const satisfies Record<string, ActivityOptions>;

/** The activities of one host, by how they are retried. */
export function activitiesOf(host: string) {
  const onHost = { taskQueue: hostTaskQueue(host) };
  return {
    host: proxyActivities<HostActivities>({ ...policies.step, ...onHost }),
    slow: proxyActivities<HostActivities>({ ...policies.slow, ...onHost }),
    waiting: proxyActivities<HostActivities>({ ...policies.waiting, ...onHost }),
    undo: proxyActivities<HostActivities>({ ...policies.undo, ...onHost }),
    build: proxyActivities<BuildActivities>({ ...policies.waiting, taskQueue: buildTaskQueue(host) }),
    github: proxyActivities<GitHubActivities>({ ...policies.github, taskQueue }),
  };
}

export type Activities = ReturnType<typeof activitiesOf>;
