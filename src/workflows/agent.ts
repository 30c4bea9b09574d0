/** One agent's owner: a container with dev tools that somebody reaches by a shell, kept until it is destroyed. */
import {
  CancellationScope,
  condition,
  isCancellation,
  setCurrentDetails,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { agentContainerName } from '../domain/container-name.ts';
import { type Phase, phases } from '../domain/phase.ts';
import { searchAttributes } from '../domain/search-attributes.ts';
import { type AgentInput, type AgentStatus, agentStatusQuery, destroyUpdate } from './messages.ts';
import { type Activities, activitiesOf } from './policies.ts';
import { reasonOf } from './preview-state.ts';
import { Saga, type UndoWatcher } from './saga.ts';

export async function agentWorkflow(input: AgentInput): Promise<AgentStatus> {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  const activities = activitiesOf(input.host);
  const container = agentContainerName(workflowId, firstExecutionRunId);
  const status: AgentStatus = { workflowId, name: input.name, host: input.host, phase: 'queued', container };
  let unwanted = false;

  setHandler(agentStatusQuery, () => status);
  setHandler(destroyUpdate, () => {
    unwanted = true;
    return { accepted: true as const };
  });
  enter(status, 'starting');

  const saga = new Saga();
  const scope = new CancellationScope();
  const creating = scope.run(() => create(status, activities, saga));
  let created = false;
  creating.then(
    () => {
      created = true;
    },
    () => undefined,
  );
  try {
    await Promise.race([creating, condition(() => unwanted)]);
    if (created) enter(status, 'live');
    await condition(() => unwanted);
  } catch (error) {
    if (!isCancellation(error)) status.reason = reasonOf(error);
  }
  scope.cancel();
  await creating.catch(() => undefined);
  await CancellationScope.nonCancellable(async () => {
    enter(status, 'destroying');
    await saga.unwind(watcher(status));
    await untilEmpty(status, activities);
  });
  enter(status, status.reason ? 'failed' : 'gone');
  return status;
}

/** Slot, container, credentials, start; each undo is registered before its step. */
async function create(status: AgentStatus, { host, waiting, undo }: Activities, saga: Saga): Promise<void> {
  const { name, workflowId, container } = status;
  if (container === undefined) return;
  saga.add('release slot', () => undo.releaseSlot({ container }));
  const slot = await waiting.allocateSlot({ container, owner: workflowId, purpose: 'new' });
  status.address = slot.address;
  saga.add('destroy container', () => undo.destroyAgent({ name, container }));
  await host.createAgent({ name, workflowId, container, slot });
}

async function untilEmpty(status: AgentStatus, { undo }: Activities): Promise<void> {
  const { name, workflowId } = status;
  for (;;) {
    const left = await undo.readAgentInventory({ workflowId });
    if (left.length === 0) return;
    for (const item of left) {
      if (item.kind === 'container') await undo.destroyAgent({ name, container: item.name });
      await undo.releaseSlot({ container: item.name });
    }
    await sleep('5 seconds');
  }
}

function enter(status: AgentStatus, phase: Phase): void {
  status.phase = phase;
  upsertSearchAttributes([
    { key: searchAttributes.phase, value: phase },
    { key: searchAttributes.host, value: status.host },
  ]);
  setCurrentDetails(
    [
      `**${phase}** – ${phases[phase]}`,
      ...(status.reason ? [`**${status.reason.type}**: ${status.reason.message}`] : []),
    ].join('\n\n'),
  );
}

function watcher(status: AgentStatus): UndoWatcher {
  return { undoing: () => undefined, undone: () => undefined, stuck: () => enter(status, 'stuck') };
}
