import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Machine } from './connection.ts';
import { CliError } from './errors.ts';

/**
 * Opens an interactive shell in a container of this host, on the person's own terminal.
 *
 * @returns the shell's exit code
 */
export async function openShell(machine: Machine, container: string): Promise<number> {
  const { withLocalRuntime } = await import('./local-runtime.ts');
  const { argv, cwd, env } = await withLocalRuntime(machine, (runtime) => runtime.shell(container));
  const [program, ...args] = argv;
  if (program === undefined) throw new CliError(`container ${container} has no shell`);
  // Ctrl-C is the shell's: it must not end us before it.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  const child = spawn(program, args, { cwd, env, stdio: 'inherit' });
  const [code] = (await once(child, 'exit')) as [number | null];
  process.off('SIGINT', ignore);
  return code ?? 1;
}
