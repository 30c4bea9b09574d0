/** What the workflow keeps up with beside its loop: GitHub's truth, the one comment, and how an earlier run ended. */
import { condition, isCancellation, workflowInfo } from '@temporalio/workflow';
import type { CommentState } from '../activities/contract.ts';
import { applyPullRequest } from '../domain/desired.ts';
import type { PullRequestState } from '../domain/pull-request.ts';
import type { Activities } from './policies.ts';
import { type PreviewState, showAttributes, tell } from './preview-state.ts';

/** How often GitHub is asked without cause: webhooks are hints, and hints get lost. */
const truthEvery = '30 minutes';

export function hear(s: PreviewState, told: PullRequestState): void {
  const { desired, changed, ask, because } = applyPullRequest(s.desired, told);
  s.desired = desired;
  s.ask ||= ask;
  if (changed || told.action !== 'truth') tell(s, because);
  if (changed) showAttributes(s);
}

/** Nothing is left to say in the comment, or there is nobody to say it to. */
export function hasCommented(s: PreviewState): boolean {
  return !s.github || s.comment.wanted === s.comment.posted;
}

/** Looks once for an earlier run of this pull request: one that was closed later than this run's message ends it. */
export async function acquaint(s: PreviewState, { github }: Activities): Promise<void> {
  if (s.acquainted || s.source.number === undefined) return;
  try {
    const { previousRun, github: known } = await github.readBackground({
      workflowId: s.workflowId,
      runId: workflowInfo().runId,
    });
    s.github = known;
    if (previousRun && !previousRun.open && s.desired.redeploys === 0 && s.desired.updatedAt <= previousRun.updatedAt) {
      s.desired = { ...s.desired, open: false, updatedAt: previousRun.updatedAt };
      tell(s, 'an earlier run knows that the pull request was closed later than this message');
    }
  } catch (error) {
    if (isCancellation(error)) throw error;
  }
  s.acquainted = true;
}

/** Asks GitHub when a message left a doubt, and on a slow timer; the answer goes the way of every message. */
export async function keepTruth(s: PreviewState, { github }: Activities): Promise<void> {
  const { owner, repo, number } = s.source;
  if (number === undefined) return;
  for (;;) {
    await condition(() => s.github);
    await condition(() => s.ask, s.missing > 0 ? '1 minute' : truthEvery, { summary: 'until GitHub is asked again' });
    s.ask = false;
    s.asking = true;
    try {
      const truth = await github.readPullRequest({ owner, repo, number });
      s.missing = truth.kind === 'missing' ? s.missing + 1 : 0;
      if (truth.kind === 'known') hear(s, truth.state);
      // One 404 may be a hiccup of permissions; the second, a minute later and with the repo still readable, is an answer.
      if (s.missing >= 2 && s.desired.open && s.desired.sha) {
        hear(s, { ...s.desired, sha: s.desired.sha, open: false, action: 'truth' });
      }
    } catch (error) {
      if (isCancellation(error)) throw error;
      // An error is never read as "closed": nothing changes, and the timer asks again.
    } finally {
      s.asking = false;
    }
  }
}

/** Keeps the one sticky comment true; only the newest state is posted. */
export async function keepComment(s: PreviewState, { github }: Activities): Promise<void> {
  const { owner, repo, number } = s.source;
  if (number === undefined) return;
  for (;;) {
    await condition(() => s.github && s.comment.wanted !== s.comment.posted);
    const wanted = s.comment.wanted as string;
    const state = JSON.parse(wanted) as CommentState;
    try {
      const { commentId } = await github.upsertComment({
        owner,
        repo,
        number,
        workflowId: s.workflowId,
        commentId: s.comment.id,
        state,
      });
      s.comment.id = commentId;
    } catch (error) {
      if (isCancellation(error)) throw error;
    }
    s.comment.posted = wanted;
  }
}
