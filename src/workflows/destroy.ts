/** Takes away what has drained, or everything, and shows the undos as steps. */
import { sleep } from '@temporalio/workflow';
import { settle } from './attempt.ts';
import type { Activities } from './policies.ts';
import { beginStep, type Deployment, enter, type PreviewState, previewRefOf, tell } from './preview-state.ts';
import { type Undo, type UndoWatcher, untilDone } from './saga.ts';

export function toCollect(s: PreviewState): boolean {
  const due = s.retired.some((d) => (d.drainUntil ?? 0) <= Date.now());
  const databaseLeft =
    s.retired.length === 0 && s.database !== undefined && s.serving?.closure?.meta.database === 'container';
  return due || databaseLeft;
}

/** Destroys what has drained, and the database when the repo no longer wants one. */
export async function collectRetired(s: PreviewState, activities: Activities): Promise<void> {
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
export async function destroy(s: PreviewState, activities: Activities): Promise<void> {
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

/** Shows undos among the steps, and `stuck` when one does not get through. */
export function watcher(s: PreviewState): UndoWatcher {
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
