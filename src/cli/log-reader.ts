import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as sleep } from 'node:timers/promises';
import { listLogs } from '../runtime/local/logs.ts';
import { printable } from './render.ts';

export interface LogName {
  path: string;
  container: string;
  /** The service that wrote it; `build` for a build. */
  service: string;
}

/** What a log's file name says (see `runtime/local/paths.ts`); undefined for a file that is no log of the wanted kind. */
export function parseLogName(path: string, build: boolean): LogName | undefined {
  const name = basename(path);
  const found = build ? /^build-([a-z0-9-]+)\.log$/.exec(name) : /^([a-z0-9]{11})-(.+)\.log$/.exec(name);
  if (!found) return undefined;
  return { path, container: found[1] as string, service: build ? 'build' : (found[2] as string) };
}

/** The wanted logs of a label's folder, the least recently written first. */
export async function findLogs(folder: string, build: boolean): Promise<LogName[]> {
  return (await listLogs(folder)).flatMap(({ path }) => parseLogName(path, build) ?? []);
}

/**
 * Prints the log of the newest deployment and, when `follow` is set, what is added to it and to every later deployment's, until the
 * signal aborts.
 *
 * @param print gets whole lines
 * @returns how many logs were found
 */
export async function readLogs(
  folder: string,
  options: { build: boolean; follow: boolean; signal: AbortSignal; intervalMs?: number },
  print: (line: string) => void,
): Promise<number> {
  const readers = new Map<string, LogReader>();
  let shown: string | undefined;
  const first = await findLogs(folder, options.build);
  const newest = first.at(-1)?.container;
  // What older deployments wrote is history; it is skipped, and what they still write while they drain isn't.
  for (const log of first) readers.set(log.path, new LogReader(log, log.container === newest ? 0 : 'end'));

  const round = async (logs: LogName[]) => {
    const many = new Set(logs.map(({ service }) => service)).size > 1;
    for (const log of logs) {
      const reader = readers.get(log.path) ?? new LogReader(log, 0);
      readers.set(log.path, reader);
      for (const line of await reader.read()) {
        if (options.follow && shown !== log.container) print(`==> deployment ${log.container}`);
        shown = log.container;
        print(many ? `${log.service} | ${line}` : line);
      }
    }
  };
  await round(first);
  while (options.follow && !options.signal.aborted) {
    await sleep(options.intervalMs ?? 300, undefined, { signal: options.signal }).catch(() => undefined);
    await round(await findLogs(folder, options.build));
  }
  if (!options.follow) for (const reader of readers.values()) for (const line of reader.rest()) print(line);
  return first.length;
}

/** How much of what was printed is remembered, to find the place again in a log that was cut. */
const memory = 512;

/** Reads one log from where it was left; a log that was cut (its older half removed) goes on after the last line that was read. */
class LogReader {
  readonly #log: LogName;
  #offset: number | 'end';
  /** Keeps a character whose bytes have not all been written yet. */
  readonly #decoder = new StringDecoder('utf8');
  #unfinished = '';
  #last = '';
  /** It shrank, and what it holds now has not been seen yet. */
  #cut = false;

  constructor(log: LogName, offset: number | 'end') {
    this.#log = log;
    this.#offset = offset;
  }

  /** The lines that were added, without terminal codes. */
  async read(): Promise<string[]> {
    const file = await open(this.#log.path, 'r').catch(() => undefined);
    if (!file) return [];
    try {
      const { size } = await file.stat();
      if (this.#offset === 'end') this.#offset = size;
      if (size < this.#offset) {
        this.#cut = true;
        this.#offset = 0;
      }
      const start = this.#offset;
      const buffer = Buffer.alloc(size - start);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
      this.#offset = start + bytesRead;
      const text = this.#decoder.write(buffer.subarray(0, bytesRead));
      return this.#lines(this.#cut ? this.#afterLast(text) : text);
    } finally {
      await file.close();
    }
  }

  /** What stands after the last line's end. */
  rest(): string[] {
    const line = this.#unfinished;
    this.#unfinished = '';
    return line ? [printable(line)] : [];
  }

  #lines(text: string): string[] {
    if (text === '') return [];
    this.#last = (this.#last + text).slice(-memory);
    const lines = (this.#unfinished + text).split('\n');
    this.#unfinished = lines.pop() ?? '';
    return lines.map(printable);
  }

  #afterLast(text: string): string {
    if (text === '') return '';
    this.#cut = false;
    const lastLine = this.#last.slice(this.#last.lastIndexOf('\n', this.#last.length - 2) + 1);
    for (const known of [this.#last, lastLine]) {
      const at = known ? text.lastIndexOf(known) : -1;
      if (at >= 0) return text.slice(at + known.length);
    }
    return text;
  }
}
