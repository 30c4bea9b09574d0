import type { Command } from 'commander';
import { dataCommand } from '../command.ts';

/** `tekton preview build`: builds what a preview of the branch would run, without a preview. */
export function buildCommand(): Command {
  return dataCommand('build', 'build what a preview of the branch would run, without a preview; on this host')
    .argument('<owner/repo>', 'the repository')
    .argument('<branch>', 'the branch');
}
