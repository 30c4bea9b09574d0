import { copyFileSync, mkdirSync, openSync, statSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';

/** A service's log never takes more than twice this: the file, and the one before it (`.1`). */
export const logQuota = 5 * 1024 * 1024;

/**
 * Opens a log for a service to write into by itself: unlike a pipe, it outlives us. Appending, so that truncation by `keepQuota`
 * is safe while the service writes.
 */
export function openLog(path: string): number {
  mkdirSync(dirname(path), { recursive: true });
  return openSync(path, 'a', 0o600);
}

/** Puts a log that has outgrown the quota aside and starts it anew. What is written between the two steps is lost. */
export function keepQuota(path: string, quota = logQuota): void {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) <= quota) return;
  copyFileSync(path, `${path}.1`);
  truncateSync(path, 0);
}

/** The last lines of a log, at most `lines`; of a long one only its end is read. */
export async function tailLog(path: string, lines: number): Promise<string[]> {
  const file = await open(path, 'r').catch(() => undefined);
  if (!file) return [];
  try {
    const { size } = await file.stat();
    const length = Math.min(size, 64 * 1024);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8').trimEnd().split('\n').slice(-lines);
  } finally {
    await file.close();
  }
}
