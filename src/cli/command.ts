import { Command } from 'commander';
import type { ConnectionOptions } from './connection.ts';

export interface DataOptions extends ConnectionOptions {
  json?: boolean;
}

/** A command that talks to Temporal and prints data: with `--state-dir` and `--json`. */
export function dataCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--state-dir <folder>', 'the state folder of the `tekton up` to talk to')
    .option('--json', 'print data as JSON');
}

/** Prints the result on stdout: the value as JSON, or the lines. */
export function print(options: DataOptions, value: unknown, lines: string[]): void {
  process.stdout.write(
    options.json ? `${JSON.stringify(value, null, 2)}\n` : lines.map((line) => `${line}\n`).join(''),
  );
}

/** A note for the person; stdout stays the result's alone. */
export function note(...lines: string[]): void {
  process.stderr.write(lines.map((line) => `${line}\n`).join(''));
}
