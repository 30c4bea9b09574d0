import { Command } from 'commander';
import { buildAgentCommand } from './build.ts';
import { createAgentCommand } from './create.ts';
import { destroyAgentCommand } from './destroy.ts';
import { listAgentsCommand } from './list.ts';
import { sshCommand } from './ssh.ts';

/** `tekton agent …`. */
export function agentCommand(): Command {
  const agent = new Command('agent').description('containers for AI agents');
  for (const command of [
    createAgentCommand(),
    destroyAgentCommand(),
    sshCommand(),
    listAgentsCommand(),
    buildAgentCommand(),
  ]) {
    agent.addCommand(command);
  }
  return agent;
}
