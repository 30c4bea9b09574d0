import type { Command } from 'commander';
import { type AgentStatus, agentStatusQuery, agentWorkflowType } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { workerSilent } from '../errors.ts';
import { renderAgents } from '../render.ts';

/** `tekton agent list`: every agent that is not gone. */
export function listAgentsCommand(): Command {
  return dataCommand('list', 'every agent that is not gone').action(async (options: DataOptions) => {
    await withTemporal(options, async ({ client }) => {
      const rows: { name: string; phase: string; host?: string; startedAt: string; address?: string }[] = [];
      let silent = false;
      const query = `WorkflowType = "${agentWorkflowType}" AND ExecutionStatus = "Running"`;
      for await (const info of client.workflow.list({ query })) {
        const row = {
          name: info.workflowId.replace(/^agent\//, ''),
          phase: '-',
          startedAt: info.startTime.toISOString(),
        };
        const handle = client.workflow.getHandle(info.workflowId);
        const status: AgentStatus | undefined = silent
          ? undefined
          : await client.withDeadline(Date.now() + 5000, () => handle.query(agentStatusQuery)).catch(() => undefined);
        silent ||= status === undefined;
        rows.push(status ? { ...row, phase: status.phase, host: status.host, address: status.address } : row);
      }
      if (silent) note(`${workerSilent.message}: phases are missing. ${workerSilent.next}`);
      rows.sort((a, b) => a.name.localeCompare(b.name));
      print(options, rows, renderAgents(rows, Date.now()));
    });
  });
}
