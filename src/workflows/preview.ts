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
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { CommentState } from '../activities/contract.ts';
import { containerName } from '../domain/container-name.ts';
import {
  applyApproval,
  applyDestroy,
  applyPullRequest,
  applyRedeploy,
  attemptWanted,
  isWanted,
  needsApproval,
} from '../domain/desired.ts';
import { failures, nonRetryableTypes } from '../domain/failures.ts';
import type { RouteRecord } from '../domain/preview.ts';
import { previewRef } from '../domain/preview.ts';
import type { PullRequestState } from '../domain/pull-request.ts';
import { candidateSlug } from '../domain/slug.ts';
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
import { type Activities, activitiesOf } from './policies.ts';
import {
  beginStep,
  type Deployment,
  enter,
  enterOnTheWay,
  freshState,
  type PreviewState,
  previewRefOf,
  reasonOf,
  showAttributes,
  statusOf,
  tell,
} from './preview-state.ts';
import { Saga, type Undo, type UndoWatcher, untilDone } from './saga.ts';

/** A replaced deployment may finish its requests this long. */
const drainMs = 10_000;
/** How often GitHub is asked without cause: webhooks are hints, and hints get lost. */
const truthEvery = '30 minutes';
/** How long a preview that is gone stays to hear what was sent before its close. */
const lingerFor = '10 seconds';
/** A failure that may pass is tried again after a minute, then two, at most half an hour. */
const retryAfterMs = (failuresInARow: number) => Math.min(60_000 * 2 ** (failuresInARow - 1), 30 * 60_000);

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

/** Nothing is left to say in the comment, or there is nobody to say it to. */
function hasCommented(s: PreviewState): boolean {
  return !s.github || s.comment.wanted === s.comment.posted;
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

function hear(s: PreviewState, told: PullRequestState): void {
  const { desired, changed, ask, because } = applyPullRequest(s.desired, told);
  s.desired = desired;
  s.ask ||= ask;
  if (changed || told.action !== 'truth') tell(s, because);
  if (changed) showAttributes(s);
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

/** One attempt to bring the wanted commit up; a newer desire cancels it, and it has unwound before this returns. */
async function attempt(s: PreviewState, activities: Activities): Promise<void> {
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
function settle(s: PreviewState): void {
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

/** Brings one commit up beside what serves, switches, and lets the old one drain. A failure unwinds this deployment alone. */
async function deploy(s: PreviewState, activities: Activities): Promise<void> {
  const { host, slow, waiting, undo, build } = activities;
  const deployment = nextDeployment(s);
  const previous = s.serving;
  const { ref } = deployment;
  const { container, sha } = ref;
  const preview = ref.preview;
  const saga = new Saga();
  try {
    saga.add('end the build', () => undo.abortBuild({ container }));
    const closure = await step(s, 'buildClosure', 'build closure', () => build.buildClosure({ deployment: ref }));
    const { meta } = closure;
    deployment.closure = closure;
    s.builtSha = sha;
    s.buildLog = closure.logPath;

    enterOnTheWay(s, 'starting');
    saga.add('release slot', () => undo.releaseSlot({ container }));
    const purpose = previous ? 'update' : 'new';
    const prefixes = meta.extraHosts.map((extra) => extra.prefix);
    const [slot, hosts] = await together(
      () =>
        step(s, 'allocateSlot', 'allocate slot', () =>
          waiting.allocateSlot({ container, owner: s.workflowId, purpose }),
        ),
      () => step(s, 'claimHostnames', 'claim hostnames', () => host.claimHostnames({ preview, prefixes })),
    );
    deployment.slot = slot;

    saga.add('destroy container', () => undo.destroyContainer({ preview, container }));
    await step(s, 'createContainer', 'create container', () =>
      host.createContainer({ deployment: ref, closure, slot }),
    );

    const database = meta.database === 'host' ? await ensureDatabase(s, activities, saga) : undefined;
    await step(s, 'writeEnvironment', 'write environment', () =>
      host.writeEnvironment({ deployment: ref, closure, slot, database }),
    );
    await step(s, 'startContainer', 'start container', () => host.startContainer({ deployment: ref }));
    if (meta.setupService) {
      s.schemaTouched = previous !== undefined && database !== undefined;
      await step(s, 'runSetup', 'run setup', () => slow.runSetup({ deployment: ref, meta }));
    }
    await step(s, 'startServices', 'start services', () => host.startServices({ deployment: ref, meta }));
    const { upstreams } = await step(s, 'probeContainer', 'probe container', () =>
      slow.probeContainer({ deployment: ref, meta }),
    );

    const route: RouteRecord = { container, sha, hosts, meta, upstreams };
    deployment.route = route;
    saga.add(previous ? 'put the previous route back' : 'remove route', () =>
      previous?.route ? undo.writeRoute({ preview, route: previous.route }) : undo.removeRoute({ preview }),
    );
    await step(s, 'writeRoute', 'write route', () => host.writeRoute({ preview, route }));
    await step(s, 'probePublic', 'probe the public address', () => host.probePublic({ preview, route }));
  } catch (error) {
    await saga.unwind(watcher(s));
    throw error;
  }
  s.serving = deployment;
  s.desired = { ...s.desired, resetDatabase: false };
  if (previous) s.retired.push({ ...previous, drainUntil: Date.now() + drainMs });
  tell(s, `${sha.slice(0, 7)} answers at ${s.url}`);
}

/** The deployment's names; the counter only grows, so a container's name is never used twice. */
function nextDeployment(s: PreviewState): Deployment {
  const number = ++s.deploymentCount;
  const sha = s.desired.sha;
  if (sha === undefined) throw ApplicationFailure.nonRetryable('There is no commit to deploy.', 'PullRequestUnknown');
  const container = containerName(s.workflowId, s.firstRunId, number);
  const ref = { preview: previewRefOf(s), container, sha, ref: previewRef(s.source), fork: s.desired.fork };
  s.current = { number, ref };
  return s.current;
}

/** The preview's database: made once and kept across updates; made by a deployment that fails, it goes with it. */
async function ensureDatabase(s: PreviewState, { host, undo }: Activities, saga: Saga): Promise<string> {
  const preview = previewRefOf(s);
  const drop = async () => {
    await undo.dropDatabase({ preview });
    s.database = undefined;
  };
  if (s.desired.resetDatabase) await step(s, 'dropDatabase', 'drop database', drop);
  if (!s.database) saga.add('drop database', drop);
  const { database } = await step(s, 'createDatabase', 'create database', () => host.createDatabase({ preview }));
  s.database = database;
  return database;
}

/** Two steps at once. When one fails the other is cancelled, and has ended before this throws: an undo must not overtake its step. */
async function together<A, B>(one: () => Promise<A>, other: () => Promise<B>): Promise<[A, B]> {
  const scope = new CancellationScope();
  let failed: { reason: unknown } | undefined;
  const cancelOther = (reason: unknown) => {
    failed ??= { reason };
    scope.cancel();
    throw reason;
  };
  const [a, b] = await scope.run(() => Promise.allSettled([one().catch(cancelOther), other().catch(cancelOther)]));
  if (a.status === 'rejected' || b.status === 'rejected') throw failed?.reason;
  return [a.value, b.value];
}

/** Shows a step while it runs. */
async function step<T>(s: PreviewState, name: string, title: string, run: () => Promise<T>): Promise<T> {
  const end = beginStep(s, name, title);
  try {
    const result = await run();
    end('done');
    return result;
  } catch (error) {
    end('failed', isCancellation(error) ? 'superseded' : reasonOf(error).message);
    throw error;
  }
}

function toCollect(s: PreviewState): boolean {
  const due = s.retired.some((d) => (d.drainUntil ?? 0) <= Date.now());
  const databaseLeft =
    s.retired.length === 0 && s.database !== undefined && s.serving?.closure?.meta.database === 'container';
  return due || databaseLeft;
}

/** Destroys what has drained, and the database when the repo no longer wants one. */
async function collectRetired(s: PreviewState, activities: Activities): Promise<void> {
  const { undo } = activities;
  const preview = previewRefOf(s);
  for (const old of s.retired.filter((d) => (d.drainUntil ?? 0) <= Date.now())) {
    await undoDeployment(s, activities, old);
    s.retired = s.retired.filter((d) => d !== old);
  }
  if (toCollect(s)) {
    await untilDone({ title: 'drop database', run: () => undo.dropDatabase({ preview }) }, watcher(s));
    s.database = undefined;
  }
  if (s.phase === 'stuck') settle(s);
}

async function undoDeployment(s: PreviewState, { undo }: Activities, { ref, drainUntil }: Deployment): Promise<void> {
  const { container, preview } = ref;
  const which = drainUntil === undefined ? '' : 'previous ';
  const destroyContainer = () => undo.destroyContainer({ preview, container });
  await untilDone({ title: `destroy the ${which}container`, run: destroyContainer }, watcher(s));
  await untilDone({ title: `release the ${which}slot`, run: () => undo.releaseSlot({ container }) }, watcher(s));
}

/** Takes everything away, newest first, and reads the host back until nothing is left. */
async function destroy(s: PreviewState, activities: Activities): Promise<void> {
  const { undo } = activities;
  const preview = previewRefOf(s);
  const run = (title: string, undoing: () => Promise<unknown>) => untilDone({ title, run: undoing }, watcher(s));
  s.steps = [];
  enter(s, 'destroying');
  await run('remove route', () => undo.removeRoute({ preview }));
  for (const deployment of [s.serving, ...[...s.retired].reverse()]) {
    if (deployment) await undoDeployment(s, activities, deployment);
  }
  await run('drop database', () => undo.dropDatabase({ preview }));
  await run('release hostnames', () => undo.releaseHostnames({ preview }));
  await run('read the inventory until it is empty', () => untilEmpty(s, activities));
  s.serving = undefined;
  s.retired = [];
  s.database = undefined;
  s.attempted = undefined;
  s.awaiting = undefined;
  s.retryAt = undefined;
  s.builtSha = undefined;
  s.url = undefined;
  s.stands = false;
  enter(s, 'gone');
}

/** Reads back what the host still has of this preview and undoes that too, until there is nothing. */
async function untilEmpty(s: PreviewState, { undo }: Activities): Promise<void> {
  const preview = previewRefOf(s);
  for (let round = 1; ; round++) {
    const left = await undo.readInventory({ preview });
    if (left.length === 0) return;
    tell(s, `still there: ${left.map((item) => `${item.kind} ${item.name}`).join(', ')}`);
    for (const item of left) {
      if (item.kind === 'build') await undo.abortBuild({ container: item.name });
      if (item.kind === 'container') await undo.destroyContainer({ preview, container: item.name });
      if (item.kind === 'slot' || item.kind === 'container') await undo.releaseSlot({ container: item.name });
    }
    await undo.removeRoute({ preview });
    await undo.dropDatabase({ preview });
    await undo.releaseHostnames({ preview });
    await sleep(Math.min(round, 30) * 1000);
  }
}

/** A fork's commit runs only once somebody has read it. */
async function awaitApproval(s: PreviewState, activities: Activities): Promise<void> {
  try {
    await introduce(s, activities);
    s.awaiting = s.desired.sha;
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

/** Looks once for an earlier run of this pull request: one that was closed later than this run's message ends it. */
async function acquaint(s: PreviewState, { github }: Activities): Promise<void> {
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
async function keepTruth(s: PreviewState, { github }: Activities): Promise<void> {
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
async function keepComment(s: PreviewState, { github }: Activities): Promise<void> {
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

/** Shows undos among the steps, and `stuck` when one does not get through. */
function watcher(s: PreviewState): UndoWatcher {
  const ends = new Map<Undo, ReturnType<typeof beginStep>>();
  return {
    undoing: (undo) => ends.set(undo, beginStep(s, 'undo', undo.title, 'undoing')),
    undone: (undo) => ends.get(undo)?.('undone'),
    stuck: (undo, message) =>
      enter(s, 'stuck', {
        type: 'Stuck',
        message: `"${undo.title}" has not got through for 10 minutes${message ? `: ${message}` : ''}.`,
        next: 'It is still retried. Read the pending activity in the Temporal web UI, and tekton doctor.',
      }),
  };
}
