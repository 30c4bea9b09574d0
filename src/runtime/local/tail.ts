/** The last lines that a container wrote, also after it is gone. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostLayout } from '../../host/layout.ts';
import { lastLines, listLogs, readTail } from './logs.ts';
import { logFolder } from './paths.ts';
import { readRecord } from './record.ts';

/** At most `lines` lines; each with its service's name in front when more than one wrote, the one that wrote last at the end. */
export async function tailOf(layout: HostLayout, name: string, lines: number): Promise<string[]> {
  const label = (await readRecord(layout, name))?.label ?? (await labelOfLogs(layout, name));
  if (label === undefined) return [];
  const files = (await listLogs(logFolder(layout, label))).filter(
    (file) => file.name.startsWith(`${name}-`) && file.size > 0,
  );
  const texts: string[] = [];
  for (const file of files) {
    const service = file.name.slice(name.length + 1, -'.log'.length);
    const last = lastLines(await readTail(file.path), lines);
    texts.push(...(files.length > 1 ? last.map((line) => `${service} | ${line}`) : last));
  }
  return lastLines(texts.join('\n'), lines);
}

/** The label under which a container that is gone has left logs. */
async function labelOfLogs(layout: HostLayout, name: string): Promise<string | undefined> {
  const labels = await readdir(layout.logs).catch(() => []);
  for (const label of labels) {
    if ((await listLogs(join(layout.logs, label))).some((file) => file.name.startsWith(`${name}-`))) return label;
  }
  return undefined;
}
