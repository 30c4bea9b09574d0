import type { Command } from 'commander';
import { destroyUpdate } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { CliError, isNotFound } from '../errors.ts';
import { renderAgent } from '../render.ts';
import { parseAgentName } from '../target.ts';
import { agentWorkflowId, waitForAgent } from './create.ts';

/** `tekton agent destroy`. */
export function destroyAgentCommand(): Command {
  return dataCommand('destroy', 'take the container of an agent away')
    .argument('<name>', 'the name given to create')
    .action(async (name: string, options: DataOptions) => {
      parseAgentName(name);
      await withTemporal(options, async ({ client }) => {
        const handle = client.workflow.getHandle(agentWorkflowId(name));
        try {
          await client.withDeadline(Date.now() + 15_000, () => handle.executeUpdate(destroyUpdate));
        } catch (error) {
          if (isNotFound(error)) throw new CliError(`there is no agent "${name}"`, 'See them all: tekton agent list.');
          throw error;
        }
        const status = await waitForAgent(client, handle, ({ phase }) => phase === 'gone' || phase === 'stuck');
        if (status.phase === 'gone')
          return print(options, status, [`${name} is gone; nothing is left on ${status.host}.`]);
        note(...renderAgent(status));
        process.exitCode = 1;
      });
    });
}
