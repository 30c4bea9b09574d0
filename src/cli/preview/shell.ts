import type { Command } from 'commander';
import { dataCommand } from '../command.ts';
import { type ConnectionOptions, withTemporal } from '../connection.ts';
import { CliError } from '../errors.ts';
import { readStatus, resolvePreview } from '../resolve.ts';
import { openShell } from '../shell.ts';
import { mustBeHere } from './logs.ts';

/** `tekton preview shell`: a shell in the container that serves, with the app's own environment. */
export function shellCommand(): Command {
  return dataCommand('shell', 'a shell in the container that serves; on the host it runs on')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action(async (typed: string, options: ConnectionOptions) => {
      const { container, machine } = await withTemporal(options, async ({ client, ...machine }) => {
        const { slug, host, phase, deployments } = await readStatus(
          client,
          (await resolvePreview(client, typed, false)).handle,
        );
        mustBeHere(typed, host, machine, `tekton preview shell ${slug}`);
        const deployment = deployments.find(({ state }) => state === 'serving') ?? deployments.at(-1);
        if (!deployment)
          throw new CliError(`${slug} has no container: it is ${phase}`, `tekton preview explain ${slug}`);
        return { container: deployment.container, machine };
      });
      process.exitCode = await openShell(machine, container);
    });
}
