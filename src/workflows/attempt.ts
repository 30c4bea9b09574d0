/** One attempt to bring the wanted commit up, and what becomes of it. */
import { ApplicationFailure } from '@temporalio/common';
import { CancellationScope, condition, isCancellation } from '@temporalio/workflow';
import { isWanted, needsApproval } from '../domain/desired.ts';
import { failures, nonRetryableTypes } from '../domain/failures.ts';
import { candidateSlug } from '../domain/slug.ts';
import { deploy } from './deploy.ts';
import { hear } from './github.ts';
import type { Activities } from './policies.ts';
import {
  enter,
  enterOnTheWay,
  type PreviewState,
  previewRefOf,
  reasonOf,
  showAttributes,
  tell,
} from './preview-state.ts';

/** A failure that may pass is tried again after a minute, then two, at most half an hour. */
const retryAfterMs = (failuresInARow: number) => Math.min(60_000 * 2 ** (failuresInARow - 1), 30 * 60_000);

/** One attempt to bring the wanted commit up; a newer desire cancels it, and it has unwound before this returns. */
export async function attempt(s: PreviewState, activities: Activities): Promise<void> {
  const goal = { ...s.desired };
  const stillWanted = () =>
    isWanted(s.desired) &&
    s.desired.redeploys === goal.redeploys &&
    s.desired.sha === goal.sha &&
    !needsApproval(s.desired);
  const number = ++s.attempt;
  s.steps = [];
  s.retryAt = undefined;
  s.schemaTouched = false;

  const scope = new CancellationScope();
  let ended = false;
  const work = scope
    .run(async () => {
      await introduce(s, activities);
      await resolveHead(s, activities, (sha) => {
        goal.sha = sha;
      });
      await deploy(s, activities);
    })
    .finally(() => {
      ended = true;
      s.current = undefined;
    });
  // The outcome is read below, after a supersede; until then a rejection must not count as unhandled.
  work.catch(() => undefined);

  // Rejects when the whole workflow is cancelled; `scope` is then cancelled too.
  await condition(() => ended || !stillWanted()).catch(() => undefined);
  const superseded = !ended;
  if (superseded) scope.cancel();
  try {
    await work;
    if (!isWanted(s.desired) && !s.serving) return;
    s.failures = 0;
    s.attempted = { sha: goal.sha ?? '', redeploys: goal.redeploys };
    s.lastAttempt = { number, sha: goal.sha, outcome: 'live' };
    settle(s);
  } catch (error) {
    if (superseded || CancellationScope.current().consideredCancelled) {
      s.lastAttempt = { number, sha: goal.sha, outcome: 'superseded' };
      if (goal.sha) tell(s, `${goal.sha.slice(0, 7)} was superseded`);
      if (CancellationScope.current().consideredCancelled) throw error;
      settle(s);
      return;
    }
    const reason = reasonOf(error);
    // Setup ran against the database that the previous deployment serves from; nothing can take that back, so it is said.
    if (s.schemaTouched)
      reason.message += ' Setup had run: the schema may have changed; `tekton preview reset-db` starts afresh.';
    s.attempted = { sha: goal.sha ?? '', redeploys: goal.redeploys };
    s.lastAttempt = { number, sha: goal.sha, outcome: 'failed', reason };
    s.failures += 1;
    if (mayPass(reason.type)) s.retryAt = Date.now() + retryAfterMs(s.failures);
    tell(s, `${goal.sha?.slice(0, 7) ?? 'the commit'} failed: ${reason.message}`);
    settle(s);
    await showOnPage(s, activities);
  }
}

/** A failure that a person has to mend is not tried again by itself; any other is. */
function mayPass(type: string): boolean {
  return !(type in failures) || !(nonRetryableTypes as string[]).includes(type);
}

/** After an attempt: what serves decides the phase, and the last attempt's reason is shown beside it. */
export function settle(s: PreviewState): void {
  const failed = s.lastAttempt?.outcome === 'failed' ? s.lastAttempt.reason : undefined;
  if (s.serving) enter(s, 'live', failed);
  else if (failed) enter(s, 'failed', failed);
  else enter(s, 'queued');
}

/** Claims the slug, so that the address shows progress from the first second. */
async function introduce(s: PreviewState, { host }: Activities): Promise<void> {
  enterOnTheWay(s, 'building');
  if (s.url) return;
  s.stands = true;
  const { workflowId, source } = s;
  const candidate = candidateSlug(source, s.chosenSlug);
  const { slug, url } = await host.claimSlug({ workflowId, source, candidate, fork: s.desired.fork });
  s.slug = slug;
  s.url = url;
  showAttributes(s);
}

/** The commit to deploy: a branch's head is read from git, a pull request's was told by GitHub. */
async function resolveHead(
  s: PreviewState,
  { host, github }: Activities,
  resolved: (sha: string) => void,
): Promise<void> {
  const { owner, repo, number } = s.source;
  if (number === undefined) {
    const { sha } = await host.resolveBranch({ source: s.source });
    resolved(sha);
    s.desired = { ...s.desired, sha };
  } else if (s.desired.sha === undefined) {
    const truth = await github.readPullRequest({ owner, repo, number });
    if (truth.kind !== 'known') {
      const why = truth.kind === 'missing' ? 'GitHub does not know it' : truth.reason;
      throw ApplicationFailure.nonRetryable(
        `The head of ${owner}/${repo}#${number} is not known: ${why}.`,
        'PullRequestUnknown',
      );
    }
    resolved(truth.state.sha);
    hear(s, truth.state);
  }
  if (s.desired.sha) showAttributes(s);
}

/** A fork's commit runs only once somebody has read it. */
export async function awaitApproval(s: PreviewState, activities: Activities): Promise<void> {
  try {
    await introduce(s, activities);
    s.awaiting = s.desired.sha;
    // What was to be tried again was another commit; this one waits for a person, not for a time.
    s.retryAt = undefined;
    enter(s, 'awaiting-approval');
    tell(
      s,
      `${s.desired.sha?.slice(0, 7)} comes from a fork and waits: tekton preview approve ${s.slug} --sha ${s.desired.sha}`,
    );
    await showOnPage(s, activities);
  } catch (error) {
    if (isCancellation(error)) throw error;
    const reason = reasonOf(error);
    s.attempted = { sha: s.desired.sha ?? '', redeploys: s.desired.redeploys };
    s.lastAttempt = { number: ++s.attempt, sha: s.desired.sha, outcome: 'failed', reason };
    tell(s, reason.message);
    settle(s);
  }
}

/** While nothing serves, a visitor sees why. */
async function showOnPage(s: PreviewState, { host }: Activities): Promise<void> {
  if (s.serving || !s.url) return;
  const page = { preview: previewRefOf(s), phase: s.phase, sha: s.desired.sha ?? '', reason: s.reason?.message };
  await host.writeProgressPage(page).catch((error) => {
    if (isCancellation(error)) throw error;
  });
}
