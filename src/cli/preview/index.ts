import { Command } from 'commander';
import { buildCommand } from './build.ts';
import { createCommand } from './create.ts';
import { destroyCommand } from './destroy.ts';
import { listCommand } from './list.ts';
import { logsCommand } from './logs.ts';
import { openCommand } from './open.ts';
import { shellCommand } from './shell.ts';
import { explainCommand, statusCommand } from './status.ts';
import { approveCommand, resetDbCommand, updateCommand } from './update.ts';

/** `tekton preview …`. */
export function previewCommand(): Command {
  const preview = new Command('preview').description('previews of pull requests and branches');
  for (const command of [
    createCommand(),
    updateCommand(),
    destroyCommand(),
    statusCommand(),
    explainCommand(),
    openCommand(),
    logsCommand(),
    shellCommand(),
    resetDbCommand(),
    approveCommand(),
    listCommand(),
    buildCommand(),
  ]) {
    preview.addCommand(command);
  }
  return preview;
}
