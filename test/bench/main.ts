/** `npm run bench -- [--only a,b,c,d] [--json FILE]`: the benchmark's parts one after the other, then one table. */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchRow } from './row.ts';
import { benchTable } from './row.ts';

/** Loaded when their turn comes: one part's memory and handles are none of another's. */
const parts: Record<string, { title: string; run: () => Promise<BenchRow[]> }> = {
  a: {
    title: 'from a signed webhook to an answering URL',
    run: async () => (await import('./pipeline.ts')).benchPipeline(),
  },
  b: {
    title: 'the webhook against a bare signalWithStart',
    run: async () => (await import('./webhook.ts')).benchWebhook(),
  },
  c: { title: 'publishing with 1,000 previews', run: async () => (await import('./routes.ts')).benchRoutes() },
  d: { title: 'memory with 200 idle previews', run: async () => (await import('./memory.ts')).benchMemory() },
};

const say = (text: string) => process.stderr.write(`${text}\n`);

/** Exit codes: 0 measured (an aim that was missed is said, and shown with ✗), 1 a part could not be measured, 2 wrong usage. */
async function main(): Promise<number> {
  let chosen: string[];
  let file: string | undefined;
  try {
    const options = { only: { type: 'string' }, json: { type: 'string' } } as const;
    const { values } = parseArgs({ args: process.argv.slice(2), options });
    chosen = values.only?.split(',').map((name) => name.trim()) ?? Object.keys(parts);
    const strange = chosen.find((name) => !(name in parts));
    if (strange !== undefined) throw new Error(`--only takes ${Object.keys(parts).join(',')}, not '${strange}'`);
    // npm runs this in the project's folder; a relative path means the folder that the person is in.
    file = values.json === undefined ? undefined : resolve(process.env.INIT_CWD ?? '.', values.json);
  } catch (error) {
    say(`bench: ${(error as Error).message}\nUsage: npm run bench -- [--only a,b,c,d] [--json FILE]`);
    return 2;
  }

  const rows: BenchRow[] = [];
  const failed: string[] = [];
  for (const name of chosen) {
    const part = parts[name];
    if (!part) continue;
    say(`(${name}) ${part.title} …`);
    const began = Date.now();
    try {
      rows.push(...(await part.run()));
      say(`(${name}) took ${Math.round((Date.now() - began) / 1000)} s`);
    } catch (error) {
      failed.push(name);
      say(`(${name}) could not be measured: ${(error as Error).stack ?? error}`);
    }
  }
  if (rows.length > 0) console.log(`\n${benchTable(rows)}\n`);
  if (file) {
    await writeFile(file, `${JSON.stringify(rows, null, 2)}\n`);
    say(`written to ${file}`);
  }
  const missed = rows.filter(({ ok }) => !ok);
  if (missed.length > 0) {
    say(`${missed.length} of ${rows.filter(({ aim }) => aim).length} aims missed:`);
    for (const { name, aim } of missed) say(`  ${name} (aim ${aim})`);
  } else if (rows.length > 0) say('Every aim is met.');
  if (failed.length > 0) say(`Not measured: ${failed.join(', ')}`);
  return failed.length > 0 ? 1 : 0;
}

process.exitCode = await main();
