import { Command, CommanderError } from 'commander';
import { agentCommand } from './agent/index.ts';
import { note } from './command.ts';
import { doctorCommand } from './doctor.ts';
import { explainError } from './errors.ts';
import { previewCommand } from './preview/index.ts';
import { serviceCommand } from './services.ts';
import { upCommand } from './up.ts';

/** The whole `tekton` command line. */
export function buildProgram(): Command {
  const program = new Command('tekton')
    .description('A pull request is opened and a working copy of the app stands at its own address.')
    .version(version, '--version')
    .option('--verbose', 'show where an error came from')
    .addHelpText('after', examples);
  program.addCommand(upCommand());
  program.addCommand(doctorCommand());
  program.addCommand(previewCommand());
  program.addCommand(agentCommand());
  program.addCommand(serviceCommand('webhook', "receive GitHub's webhooks (what systemd runs)"));
  program.addCommand(serviceCommand('worker', 'work on the previews of this host (what systemd runs)'));
  everyCommand(program, strict);
  return program;
}

/**
 * Runs one command line.
 *
 * @returns the exit code: 0 done, 1 it failed, 2 wrong usage
 */
export async function runProgram(args: string[]): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const { message, next, exitCode } = explainError(error);
    note(message.startsWith('tekton ') ? message : `tekton: ${message}`, ...(next ? [next] : []));
    if (args.includes('--verbose') || process.env.DEBUG)
      note(error instanceof Error ? String(error.stack) : String(error));
    return exitCode;
  }
}

const version = '0.1.0';

const examples = `
Try:
  tekton up                                  the whole stack on this machine
  tekton preview create acme/shop main       a preview of a branch
  tekton preview explain shop-42             why a preview is as it is
  tekton doctor                              what is missing on this machine

A preview is named by its slug, owner/repo#42, owner/repo@branch, or its URL.
`;

/** Wrong usage throws instead of exiting, names the thing, and points at the help of the very command. */
function strict(command: Command): void {
  command.exitOverride().showSuggestionAfterError();
  command.showHelpAfterError(`Run "${path(command)} --help" to see what is right.`);
  if (command.parent && !command.options.some((option) => option.long === '--verbose')) {
    command.option('--verbose', 'show where an error came from');
  }
  // A group alone ("tekton preview") is wrong usage too: its help says what may follow.
}

function path(command: Command): string {
  return command.parent ? `${path(command.parent)} ${command.name()}` : command.name();
}

function everyCommand(command: Command, act: (command: Command) => void): void {
  act(command);
  for (const child of command.commands) everyCommand(child, act);
}
