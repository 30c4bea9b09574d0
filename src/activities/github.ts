import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { commentBody, deservesComment } from '../domain/comment.ts';
import { upsertStickyComment } from '../github/comment.ts';
import { describeRefusal, rateLimitDelay, statusOf } from '../github/errors.ts';
import type { GitHub } from '../github/github.ts';
import { readPullRequest } from '../github/pull-request.ts';
import type { GitHubActivities } from './contract.ts';
import { failure } from './failure.ts';
import { currentStep } from './step.ts';

/** Below the activities' `startToCloseTimeout`, so that the reason is ours and no late request follows. */
const withinMs = 20_000;

/** What GitHub is asked and told. Without credentials both are left out at once. */
export function githubActivities({
  github,
}: {
  github: GitHub | undefined;
}): Pick<GitHubActivities, 'readPullRequest' | 'upsertComment'> {
  return {
    async readPullRequest(input) {
      if (github === undefined) return { kind: 'unavailable', reason: 'there are no GitHub credentials' };
      try {
        return await inTime((signal) => readPullRequest(github, input, signal));
      } catch (error) {
        if (isCancelled(error)) throw error;
        return { kind: 'unavailable', reason: describeRefusal(error) };
      }
    },

    async upsertComment({ state, ...input }) {
      if (github === undefined) return {};
      const repoUrl = `${github.webUrl}/${input.owner}/${input.repo}`;
      const body = commentBody(state, { workflowId: input.workflowId, repoUrl });
      const comment = { ...input, body, create: deservesComment(state) };
      try {
        return { commentId: await inTime((signal) => upsertStickyComment(github, comment, signal)) };
      } catch (error) {
        throw commentFailure(error, `${input.owner}/${input.repo}#${input.number}`);
      }
    },
  };
}

/**
 * Runs `work` until the activity is cancelled or its time is up. Octokit's queues don't look at the signal while a request waits in
 * them; the request then fails instead of being sent, but only once its turn has come: hence the race.
 */
async function inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const cancelled = currentStep().signal;
  const signal = AbortSignal.any([cancelled, AbortSignal.timeout(withinMs)]);
  const over = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  over.catch(() => undefined);
  const answer = work(signal);
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, over]);
  } catch (error) {
    cancelled.throwIfAborted();
    throw error;
  }
}

/** As Temporal should see it: refused for good, or to be tried again, after the rate limit where that is the reason. */
function commentFailure(error: unknown, pullRequest: string): unknown {
  if (isCancelled(error)) return error;
  const message = `The comment on ${pullRequest} was not written: ${describeRefusal(error)}`;
  const delay = rateLimitDelay(error, Date.now());
  if (delay !== undefined) {
    return ApplicationFailure.create({ type: 'GitHubUnavailable', message, nextRetryDelay: delay });
  }
  const status = statusOf(error);
  const refused = status !== undefined && [401, 403, 404, 410, 422, 451].includes(status);
  return failure(refused ? 'GitHubRefused' : 'GitHubUnavailable', message);
}

function isCancelled(error: unknown): boolean {
  return error instanceof CancelledFailure;
}
