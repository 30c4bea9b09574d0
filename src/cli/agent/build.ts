import type { Command } from 'commander';
import { dataCommand, note, print } from '../command.ts';
import { type ConnectionOptions, thisMachine } from '../connection.ts';
import { CliError } from '../errors.ts';

/** `tekton agent build`: the closure that agents run. */
export function buildAgentCommand(): Command {
  return dataCommand('build', 'build what agents run, ahead of the first one').action(
    async (options: ConnectionOptions & { json?: boolean }) => {
      const { runtime, host } = await thisMachine(options);
      if (runtime === 'nixos') {
        throw new CliError(
          "the nixos runtime's agents are not built by this command yet",
          'Make one: tekton agent create <name>.',
        );
      }
      // A container of the local runtime is a folder with a shell: all it needs is on the machine.
      print(options, { host, runtime, built: false }, []);
      note(
        'Nothing to build: on the local runtime an agent is a folder with a shell. Make one: tekton agent create <name>',
      );
    },
  );
}
