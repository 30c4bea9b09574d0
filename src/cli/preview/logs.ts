import type { Command } from 'commander';
import { logFolder } from '../../runtime/local/paths.ts';
import { dataCommand } from '../command.ts';
import { type ConnectionOptions, type Machine, thisMachine, withTemporal } from '../connection.ts';
import { CliError } from '../errors.ts';
import { findLogs, readLogs } from '../log-reader.ts';
import { readStatus, resolvePreview } from '../resolve.ts';
import { parseTarget } from '../target.ts';

interface LogOptions extends ConnectionOptions {
  follow?: boolean;
  build?: boolean;
}

/** `tekton preview logs`: what the app, or its build, wrote. Logs never pass through Temporal: they are read from this host's files. */
export function logsCommand(): Command {
  return dataCommand('logs', 'what the app (or its build) wrote; read on the host it runs on')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .option('-f, --follow', 'go on with what is added, later deployments too')
    .option('--build', "the build's log instead of the app's")
    .action(logs);
}

async function logs(typed: string, options: LogOptions & { json?: boolean }): Promise<void> {
  const machine = await thisMachine(options);
  const { slug, host } = await whereIs(typed, options, machine);
  mustBeHere(typed, host, machine, `tekton preview logs ${slug}`);
  const { signal } = stopOnInterrupt();
  // `| head` closes the pipe: that is an end, not a failure.
  process.stdout.on('error', () => process.exit(0));
  const build = options.build === true;
  const follow = options.follow === true;
  const print = (line: string) => process.stdout.write(`${options.json ? JSON.stringify({ slug, line }) : line}\n`);
  const found = await readLogs(logFolder(machine.layout, slug), { build, follow, signal }, print);
  if (found === 0 && !follow) {
    const what = build ? 'build' : 'app';
    throw new CliError(`${slug} has no ${what} log on ${host}`, `What it is doing: tekton preview status ${typed}.`);
  }
}

/**
 * Logs and shells are of the host that runs the container.
 *
 * @throws CliError that names that host
 */
export function mustBeHere(typed: string, host: string, machine: Machine, command: string): void {
  if (host !== machine.host) {
    throw new CliError(`${typed} runs on host ${host}, not here (${machine.host})`, `There: ssh ${host} ${command}`);
  }
  if (machine.runtime === 'nixos') {
    throw new CliError(
      'this command reads the local runtime only',
      'On nixos: machinectl list, journalctl -M <container>.',
    );
  }
}

/** Slug and host of a preview. A plain slug that has logs here needs no Temporal. */
async function whereIs(
  typed: string,
  options: ConnectionOptions,
  machine: Machine,
): Promise<{ slug: string; host: string }> {
  try {
    return await withTemporal(options, async ({ client }) =>
      readStatus(client, (await resolvePreview(client, typed, true)).handle),
    );
  } catch (error) {
    const target = parseTarget(typed);
    if (target.kind !== 'label') throw error;
    const folder = logFolder(machine.layout, target.label);
    const kept = [...(await findLogs(folder, true)), ...(await findLogs(folder, false))];
    if (kept.length === 0) throw error;
    return { slug: target.label, host: machine.host };
  }
}

function stopOnInterrupt(): AbortController {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort());
  return controller;
}
