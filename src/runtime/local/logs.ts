/** Logs of containers and builds: appended to by the processes themselves, kept under a quota by the worker. */
import { appendFile, type FileHandle, mkdir, open, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isMissing } from '../../host/files.ts';

/** Bytes that one log file, and all of one label, may take. */
export interface LogQuota {
  perFile: number;
  perLabel: number;
}

export const logQuota: LogQuota = { perFile: 10 * 1024 * 1024, perLabel: 50 * 1024 * 1024 };

/** Bytes that the logs of all labels together may take: those of previews long gone go first. */
export const totalLogQuota = 1024 * 1024 * 1024;

/** Adds a line of the runtime's own to a log. */
export async function note(path: string, line: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await appendFile(path, `[tekton] ${line}\n`);
}

/** The text of a log from an offset on (at most its last 256 KiB), without colours and control characters. */
export async function readTail(path: string, from = 0): Promise<string> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return '';
    throw error;
  }
  try {
    const { size } = await file.stat();
    // A log that shrank was cut: all of it is new.
    const start = Math.max(from > size ? 0 : from, size - 256 * 1024);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    return plainText(buffer.subarray(0, bytesRead).toString('utf8'));
  } finally {
    await file.close();
  }
}

/** The text without terminal colours and other control characters; line ends stay. */
export function plainText(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one.
      .replace(/\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|.)/g, '')
      .replace(/\r\n?/g, '\n')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed.
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '')
  );
}

/** The last non-empty lines of a text, each cut to 500 characters. */
export function lastLines(text: string, count: number): string[] {
  if (count <= 0) return [];
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .slice(-count)
    .map((line) => (line.length > 500 ? `${line.slice(0, 499)}…` : line));
}

const noise = [
  /^npm (notice|warn|WARN|http|timing|info|verb)/,
  /^npm (error|ERR!)\s*$/,
  /^npm (error|ERR!) (A complete log of this run|This is probably not a problem with npm)/,
  /^npm (error|ERR!) (path|command|errno|signal|workspace|location|Lifecycle script|Exit status|code ELIFECYCLE|code \d+$|command failed)/,
  /^npm (error|ERR!)\s+\S*_logs\/\S+$/,
  /^> \S+/,
  /^\[tekton\] /,
];

/** The last lines of a command's output that tell why it failed: without npm's noise, if anything is left then. */
export function tellingLines(output: string, count: number): string[] {
  const telling = output.split('\n').filter((line) => !noise.some((pattern) => pattern.test(line.trim())));
  const lines = lastLines(telling.join('\n'), count);
  return lines.length > 0 ? lines : lastLines(output, count);
}

/**
 * Cuts a log that has grown past `max` bytes to its newest half, in place: the processes that hold it open append (O_APPEND), so
 * their next line goes to the new end. True when it was cut.
 */
export async function trimLog(path: string, max: number): Promise<boolean> {
  try {
    if ((await stat(path)).size <= max) return false;
    const file = await open(path, 'r+');
    try {
      const head = Buffer.from(`[tekton] older lines were removed (at most ${max} bytes are kept)\n`);
      let { size } = await file.stat();
      const kept = await readRange(file, Math.max(0, size - Math.floor(max / 2)), size);
      // Written over the beginning, so that lines never change their order; what arrives meanwhile is taken along, and only then is
      // the rest cut off.
      let end = 0;
      let part = Buffer.concat([head, kept.subarray(kept.indexOf(10) + 1)]);
      // A writer faster than this loop loses some lines rather than keeping it busy for ever.
      for (let round = 0; part.length > 0 && round < 10; round++) {
        end += (await file.write(part, 0, part.length, end)).bytesWritten;
        const grown = (await file.stat()).size;
        part = await readRange(file, size, grown);
        size = grown;
      }
      await file.truncate(end);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

async function readRange(file: FileHandle, from: number, to: number): Promise<Buffer<ArrayBuffer>> {
  const buffer = Buffer.alloc(Math.max(0, to - from));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
  return buffer.subarray(0, bytesRead);
}

export interface LogFile {
  path: string;
  name: string;
  size: number;
  mtimeMs: number;
}

/** The logs in a folder, oldest first; none when there is no folder. */
export async function listLogs(folder: string): Promise<LogFile[]> {
  const names = await readdir(folder).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const files: LogFile[] = [];
  for (const name of names) {
    if (!name.endsWith('.log')) continue;
    const path = join(folder, name);
    const info = await stat(path).catch(() => undefined);
    if (info?.isFile()) files.push({ path, name, size: info.size, mtimeMs: info.mtimeMs });
  }
  return files.sort((a, b) => a.mtimeMs - b.mtimeMs || a.name.localeCompare(b.name));
}

/**
 * Keeps a label's folder under its quota: logs in use are cut, then the oldest that no container uses any more are removed.
 *
 * @param inUse true for a file name that a container still writes to
 */
export async function enforceQuota(folder: string, inUse: (name: string) => boolean, quota = logQuota): Promise<void> {
  for (const file of await listLogs(folder)) await trimLog(file.path, quota.perFile);
  const files = await listLogs(folder);
  let total = files.reduce((sum, file) => sum + file.size, 0);
  for (const file of files) {
    if (total <= quota.perLabel) break;
    if (inUse(file.name)) continue;
    await rm(file.path, { force: true });
    total -= file.size;
  }
}

/** Keeps all labels together under a quota: the oldest logs that no container uses are removed, and folders that are empty then. */
export async function enforceTotal(logs: string, inUse: (name: string) => boolean, max = totalLogQuota): Promise<void> {
  const labels = await readdir(logs).catch(() => []);
  const files = (await Promise.all(labels.map((label) => listLogs(join(logs, label))))).flat();
  files.sort((a, b) => a.mtimeMs - b.mtimeMs);
  let total = files.reduce((sum, file) => sum + file.size, 0);
  for (const file of files) {
    if (total <= max) break;
    if (inUse(file.name)) continue;
    await rm(file.path, { force: true });
    // Only goes when nothing else is in it.
    await rmdir(dirname(file.path)).catch(() => {});
    total -= file.size;
  }
}
