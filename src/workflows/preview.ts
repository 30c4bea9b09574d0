/**
 * One pull request's owner. Messages only change what is *desired*; one loop drives what *is* there to it, one step at a time, so
 * that updates of one pull request can never overlap.
 */
import { ApplicationFailure } from '@temporalio/common';
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import {
  applyApproval,
  applyDestroy,
  applyRedeploy,
  attemptWanted,
  isWanted,
  needsApproval,
} from '../domain/desired.ts';
import { candidateSlug } from '../domain/slug.ts';
import { attempt, awaitApproval } from './attempt.ts';
import { collectRetired, destroy, toCollect } from './destroy.ts';
import { acquaint, hasCommented, hear, keepComment, keepTruth } from './github.ts';
import {
  approveUpdate,
  destroyUpdate,
  type PreviewInput,
  type PreviewResult,
  placeSignal,
  pullRequestSignal,
  redeployUpdate,
  resyncSignal,
  statusQuery,
} from './messages.ts';
import { activitiesOf } from './policies.ts';
import {
  enter,
  enterOnTheWay,
  freshState,
  type PreviewState,
  showAttributes,
  statusOf,
  tell,
} from './preview-state.ts';

/** How long a preview that is gone stays to hear what was sent before its close. */
const lingerFor = '10 seconds';

export async function previewWorkflow(input: PreviewInput): Promise<PreviewResult> {
  const s = (input.carried as PreviewState | undefined) ?? freshState(input, candidateSlug(input.source, input.slug));
  const activities = activitiesOf(input.host);
  listen(s);
  showAttributes(s);

  const background = new CancellationScope();
  const keepers = background.run(async () => {
    await acquaint(s, activities);
    await Promise.all([keepTruth(s, activities), keepComment(s, activities)]);
  });
  keepers.catch(() => undefined);

  try {
    // What starts the workflow brings the first message; both arrive in the same task.
    await condition(() => s.desired.updatedAt !== '' || s.desired.redeploys > 0);
    for (;;) {
      if (!isWanted(s.desired) && !s.stands && s.phase !== 'gone') enter(s, 'gone');
      const goal = nextGoal(s);
      if (goal === 'attempt') await attempt(s, activities);
      else if (goal === 'await-approval') await awaitApproval(s, activities);
      else if (goal === 'collect') await collectRetired(s, activities);
      else if (goal === 'destroy') await destroy(s, activities);
      else if (goal === 'rest') await rest(s);
      else if (goal === 'continue-as-new') break;
      else {
        await condition(allHandlersFinished);
        if (nextGoal(s) !== 'finish') continue;
        await condition(() => hasCommented(s), '1 minute', {
          summary: 'for the last comment',
        });
        // A message that was overtaken by the close still finds this run; a later one finds its end in Temporal's visibility store,
        // which lags behind.
        if (await condition(() => nextGoal(s) !== 'finish', lingerFor, { summary: 'for messages that were overtaken' }))
          continue;
        return { phase: 'gone', slug: s.slug, open: false, updatedAt: s.desired.updatedAt };
      }
    }
  } catch (error) {
    // "Cancel" in the Temporal web UI: take everything away, then end as cancelled.
    if (isCancellation(error)) await CancellationScope.nonCancellable(() => destroy(s, activities));
    throw error;
  } finally {
    background.cancel();
  }
  return continueAsNew<typeof previewWorkflow>({ ...input, carried: s });
}

type Goal = 'attempt' | 'await-approval' | 'collect' | 'destroy' | 'rest' | 'finish' | 'continue-as-new';

/** What to do next, from what is desired and what is there. */
function nextGoal(s: PreviewState): Goal {
  if (!isWanted(s.desired)) {
    if (s.stands) return 'destroy';
    return s.desired.open ? 'rest' : 'finish';
  }
  const due = s.retryAt !== undefined && Date.now() >= s.retryAt;
  if (due || attemptWanted(s.desired, s.attempted)) {
    if (!needsApproval(s.desired)) return 'attempt';
    if (s.awaiting !== s.desired.sha) return 'await-approval';
  }
  if (toCollect(s)) return 'collect';
  return workflowInfo().continueAsNewSuggested && isQuiet(s) ? 'continue-as-new' : 'rest';
}

/** Nothing is under way that a new run would not know of. */
function isQuiet(s: PreviewState): boolean {
  return s.retired.length === 0 && !s.asking && hasCommented(s);
}

/** Waits until there is something to do: a message, a drain's end, a retry's time. */
async function rest(s: PreviewState): Promise<void> {
  const times = [s.retryAt, ...s.retired.map((d) => d.drainUntil)].filter((t) => t !== undefined);
  const something = () => nextGoal(s) !== 'rest';
  if (times.length === 0) await condition(something);
  else {
    const summary = s.retired.length > 0 ? 'until the previous deployment has drained' : 'until it is tried again';
    await condition(something, Math.max(1, Math.min(...times) - Date.now()), { summary });
  }
}

/** Messages only change what is desired. Handlers are total: what could be wrong was refused at the edge. */
function listen(s: PreviewState): void {
  setHandler(pullRequestSignal, (event) => hear(s, event));
  setHandler(resyncSignal, () => {
    s.ask = s.source.number !== undefined;
    s.github = true;
  });
  setHandler(placeSignal, (notice) => {
    if (notice.container !== s.current?.ref.container) return;
    const inside = notice.queue === 'build' ? 'building' : 'starting';
    enterOnTheWay(s, notice.place > 0 ? 'queued' : inside, notice.place);
  });
  setHandler(redeployUpdate, (options) => {
    s.desired = applyRedeploy(s.desired, options);
    s.ask = s.source.number !== undefined;
    tell(
      s,
      options.resetDatabase
        ? 'a new deployment with an empty database was asked for'
        : 'a new deployment was asked for',
    );
    return { attempt: s.attempt + 1 };
  });
  setHandler(destroyUpdate, () => {
    s.desired = applyDestroy(s.desired, s.source.number === undefined);
    tell(
      s,
      s.desired.heldDown
        ? 'destroyed by hand; held down until it is pushed to, reopened or created'
        : 'destroyed by hand',
    );
    return { accepted: true as const };
  });
  setHandler(
    approveUpdate,
    ({ sha }) => {
      s.desired = applyApproval(s.desired, sha);
      tell(s, `${sha.slice(0, 7)} was approved`);
      return { attempt: s.attempt + 1 };
    },
    { validator: ({ sha }) => refuseApproval(s, sha) },
  );
  setHandler(statusQuery, () => statusOf(s));
}

function refuseApproval(s: PreviewState, sha: string): void {
  const refuse = (message: string) => {
    throw ApplicationFailure.nonRetryable(message, 'NotApprovable');
  };
  if (!/^[0-9a-f]{40}$/.test(sha)) refuse(`${sha} is not a full commit of 40 hex digits.`);
  if (!s.desired.fork) refuse(`${s.slug} does not come from a fork; nothing waits for approval.`);
  if (s.desired.sha !== sha)
    refuse(`The head of ${s.slug} is ${s.desired.sha}, not ${sha}; approval is for the head only.`);
}
