/** Brings one commit up beside what serves. Each undo is registered before its step. */
import { ApplicationFailure } from '@temporalio/common';
import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { containerName } from '../domain/container-name.ts';
import { previewRef, type RouteRecord } from '../domain/preview.ts';
import { watcher } from './destroy.ts';
import type { Activities } from './policies.ts';
import {
  beginStep,
  type Deployment,
  enterOnTheWay,
  type PreviewState,
  previewRefOf,
  reasonOf,
  tell,
} from './preview-state.ts';
import { Saga } from './saga.ts';

/** A replaced deployment may finish its requests this long. */
const drainMs = 10_000;

/** Brings one commit up beside what serves, switches, and lets the old one drain. A failure unwinds this deployment alone. */
export async function deploy(s: PreviewState, activities: Activities): Promise<void> {
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
