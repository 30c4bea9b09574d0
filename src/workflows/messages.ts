/** Names and shapes of everything that goes into or out of the workflows; imported by workflow, webhook, worker and CLI alike. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { Phase } from '../domain/phase.ts';
import type { PreviewSource } from '../domain/preview.ts';
import type { PullRequestEvent } from '../domain/pull-request.ts';

export const taskQueue = 'tekton';
export const hostTaskQueue = (host: string) => `tekton-host-${host}`;
export const buildTaskQueue = (host: string) => `tekton-build-${host}`;

export const previewWorkflowType = 'previewWorkflow';
export const agentWorkflowType = 'agentWorkflow';

/** Starts `previewWorkflow`. The rest arrives as messages. */
export interface PreviewInput {
  source: PreviewSource;
  host: string;
  /** `--slug`, when made by hand. */
  slug?: string;
  /** Set by continue-as-new only. */
  carried?: unknown;
}

/** What a finished `previewWorkflow` leaves behind, so that a stale webhook can't bring the preview back. */
export interface PreviewResult {
  phase: 'gone';
  slug: string;
  open: boolean;
  updatedAt: string;
}

/** Somebody waits in a queue of this host: 0 means "your turn has come". */
export interface PlaceNotice {
  container: string;
  queue: 'slot' | 'build';
  place: number;
}

/** A failure as a person meets it. */
export interface FailureReason {
  /** A key of `domain/failures.ts`, or Temporal's own type. */
  type: string;
  message: string;
  /** What to do next. */
  next?: string;
  /** The last lines of the log it points to. */
  tail?: string[];
}

export interface StepStatus {
  /** The activity's type: `buildClosure`, `writeRoute`, … */
  name: string;
  /** What a person reads: "build closure". */
  title: string;
  state: 'running' | 'done' | 'failed' | 'undoing' | 'undone';
  startedAt: string;
  /** Milliseconds, once ended. */
  ms?: number;
  note?: string;
}

export interface DeploymentStatus {
  container: string;
  number: number;
  sha: string;
  address?: string;
  state: 'coming' | 'serving' | 'draining' | 'failed';
}

export interface PreviewStatus {
  workflowId: string;
  runId: string;
  source: PreviewSource;
  host: string;
  slug: string;
  /** Absent until the slug is claimed. */
  url?: string;
  phase: Phase;
  /** Why it failed, waits or is stuck. */
  reason?: FailureReason;
  /** Place in the queue while `queued`, from 1. */
  place?: number;
  desired: { open: boolean; sha?: string; updatedAt: string; heldDown: boolean; approvedSha?: string };
  /** The three fields: wanted, built, and what the public address answers with. */
  desiredSha?: string;
  builtSha?: string;
  servedSha?: string;
  deployments: DeploymentStatus[];
  /** Steps of the attempt in flight, or of the last one. */
  steps: StepStatus[];
  /** Counts attempts; `redeploy` returns the number that will carry it out. */
  attempt: number;
  /**
   * How the newest ended attempt ended. A failed update leaves the previous commit serving: `phase` is `live` then, and this says
   * `failed`. The CLI follows until `lastAttempt.number` reaches the number `redeploy` gave.
   */
  lastAttempt?: {
    number: number;
    sha?: string;
    outcome: 'live' | 'failed' | 'superseded';
    reason?: FailureReason;
  };
  /** Log of the last build, on the host. */
  buildLog?: string;
  /** Newest last; bounded. */
  story: { at: string; text: string }[];
}

export interface AgentInput {
  name: string;
  host: string;
}

export interface AgentStatus {
  workflowId: string;
  name: string;
  host: string;
  phase: Phase;
  container?: string;
  address?: string;
  reason?: FailureReason;
}

export const pullRequestSignal = defineSignal<[PullRequestEvent]>('pullRequest');
export const resyncSignal = defineSignal('resync');
/** From the host's own waiting rooms to the workflow that waits there. */
export const placeSignal = defineSignal<[PlaceNotice]>('place');

/** Returns once accepted; the caller then follows `status` until `attempt` reaches the number given. */
export const redeployUpdate = defineUpdate<{ attempt: number }, [{ resetDatabase?: boolean }]>('redeploy');
export const destroyUpdate = defineUpdate<{ accepted: true }>('destroy');
export const approveUpdate = defineUpdate<{ attempt: number }, [{ sha: string }]>('approve');
export const statusQuery = defineQuery<PreviewStatus>('status');
export const agentStatusQuery = defineQuery<AgentStatus>('agentStatus');
