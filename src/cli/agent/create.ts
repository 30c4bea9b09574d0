import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, WorkflowHandle } from '@temporalio/client';
import type { Command } from 'commander';
import {
  type AgentInput,
  type AgentStatus,
  agentStatusQuery,
  agentWorkflowType,
  taskQueue,
} from '../../workflows/messages.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { CliError, isSilentWorker, workerSilent } from '../errors.ts';
import { renderAgent } from '../render.ts';
import { parseAgentName } from '../target.ts';

/** `tekton agent create`. */
export function createAgentCommand(): Command {
  return dataCommand('create', 'make a container for an agent')
    .argument('<name>', 'lower-case letters, digits and hyphens')
    .action(async (name: string, options: DataOptions) => {
      parseAgentName(name);
      await withTemporal(options, async ({ client, host }) => {
        const input: AgentInput = { name, host };
        const handle = await client.workflow.start(agentWorkflowType, {
          workflowId: agentWorkflowId(name),
          taskQueue,
          args: [input],
          workflowIdConflictPolicy: 'USE_EXISTING',
          workflowIdReusePolicy: 'ALLOW_DUPLICATE',
          staticSummary: `agent ${name}`,
        });
        const status = await waitForAgent(client, handle, ({ phase }) => ['live', 'failed', 'gone'].includes(phase));
        if (status.phase === 'live') return print(options, status, renderAgent(status));
        note(...renderAgent(status));
        process.exitCode = 1;
      });
    });
}

/** `agent/<name>`. */
export const agentWorkflowId = (name: string) => `agent/${name}`;

/** Asks the agent's workflow until it is as wanted; at most five minutes. */
export async function waitForAgent(
  client: Client,
  handle: WorkflowHandle,
  over: (status: AgentStatus) => boolean,
): Promise<AgentStatus> {
  const until = Date.now() + 300_000;
  let heard = Date.now();
  for (;;) {
    try {
      const status = await client.withDeadline(Date.now() + 10_000, () => handle.query(agentStatusQuery));
      heard = Date.now();
      if (over(status)) return status;
      if (Date.now() > until) {
        throw new CliError(`agent ${status.name} is still ${status.phase}`, 'It goes on by itself: tekton agent list.');
      }
    } catch (error) {
      if (!isSilentWorker(error)) throw error;
      if (Date.now() - heard > 30_000) throw new CliError(workerSilent.message, workerSilent.next, error);
    }
    await sleep(200);
  }
}
