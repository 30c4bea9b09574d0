import type { Command } from 'commander';
import { agentStatusQuery } from '../../workflows/messages.ts';
import { dataCommand } from '../command.ts';
import { type ConnectionOptions, withTemporal } from '../connection.ts';
import { CliError, isNotFound } from '../errors.ts';
import { mustBeHere } from '../preview/logs.ts';
import { openShell } from '../shell.ts';
import { parseAgentName } from '../target.ts';
import { agentWorkflowId } from './create.ts';

/** `tekton agent ssh`: into the container of an agent; on the local runtime a shell there. */
export function sshCommand(): Command {
  return dataCommand('ssh', 'into the container of an agent')
    .argument('<name>', 'the name given to create')
    .action(async (name: string, options: ConnectionOptions) => {
      parseAgentName(name);
      const { container, machine } = await withTemporal(options, async ({ client, ...machine }) => {
        const handle = client.workflow.getHandle(agentWorkflowId(name));
        const status = await client
          .withDeadline(Date.now() + 10_000, () => handle.query(agentStatusQuery))
          .catch((error) => {
            if (isNotFound(error))
              throw new CliError(`there is no agent "${name}"`, 'See them all: tekton agent list.', error);
            throw error;
          });
        mustBeHere(name, status.host, machine, `tekton agent ssh ${name}`);
        if (status.phase !== 'live' || !status.container) {
          throw new CliError(`agent ${name} is ${status.phase}`, 'See them all: tekton agent list.');
        }
        return { container: status.container, machine };
      });
      process.exitCode = await openShell(machine, container);
    });
}
