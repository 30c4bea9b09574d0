import { appendFile, mkdtemp, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseLogName, readLogs } from '../../src/cli/log-reader.ts';
import { trimLog } from '../../src/runtime/local/logs.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-logs-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const app = (container: string, service: string) => join(folder, `${container}-${service}.log`);
const one = 'p0000000001';
const two = 'p0000000002';

async function write(path: string, text: string, age: number): Promise<void> {
  await writeFile(path, text);
  const time = new Date(Date.now() - age * 1000);
  await utimes(path, time, time);
}

test("a log's name says whose it is", () => {
  expect(parseLogName(`/l/${one}-my-web.log`, false)).toMatchObject({ container: one, service: 'my-web' });
  expect(parseLogName(`/l/build-${one}.log`, true)).toMatchObject({ container: one, service: 'build' });
  expect(parseLogName(`/l/build-${one}.log`, false)).toBeUndefined();
  expect(parseLogName(`/l/${one}-web.log`, true)).toBeUndefined();
});

test("the newest deployment's log alone; services told apart; no terminal codes; the last line though it has no end", async () => {
  await write(app(one, 'web'), 'old\n', 60);
  await write(app(two, 'web'), 'a\n\x1b[31mb\x1b[0m\nunfinished', 20);
  await write(app(two, 'api'), 'c\n', 10);
  const lines: string[] = [];
  const signal = new AbortController().signal;
  expect(await readLogs(folder, { build: false, follow: false, signal }, (line) => lines.push(line))).toBe(3);
  expect(lines).toEqual(['web | a', 'web | b', 'api | c', 'unfinished']);
});

test("a build's log", async () => {
  await write(app(one, 'web'), 'app\n', 60);
  await write(join(folder, `build-${one}.log`), 'npm ci\n', 70);
  const lines: string[] = [];
  const signal = new AbortController().signal;
  await readLogs(folder, { build: true, follow: false, signal }, (line) => lines.push(line));
  expect(lines).toEqual(['npm ci']);
});

test('no logs at all', async () => {
  const signal = new AbortController().signal;
  expect(await readLogs(join(folder, 'none'), { build: false, follow: false, signal }, () => {})).toBe(0);
});

test('following: what is added, a log that was cut, emptied or replaced, and the next deployment', async () => {
  const lines: string[] = [];
  const stop = new AbortController();
  const path = app(one, 'web');
  await writeFile(path, 'first\n');
  const print = (line: string) => lines.push(line);
  const following = readLogs(folder, { build: false, follow: true, signal: stop.signal, intervalMs: 10 }, print);
  const see = async (line: string) => {
    for (let i = 0; i < 300 && lines.at(-1) !== line; i++) await sleep(10);
    expect(lines.at(-1)).toBe(line);
  };
  await see('first');
  await appendFile(path, `${'x'.repeat(2000)}\nkept\n`);
  await see('kept');
  await appendFile(path, 'half');
  await sleep(50);
  await appendFile(path, ' and half\n');
  await see('half and half');

  expect(await trimLog(path, 1500)).toBe(true);
  expect(await readFile(path, 'utf8')).toContain('half and half');
  await appendFile(path, 'after the cut\n');
  await see('after the cut');

  await truncate(path, 0);
  await sleep(50);
  await appendFile(path, 'anew\n');
  await see('anew');

  await writeFile(app(two, 'web'), 'second deployment\n');
  await see('second deployment');
  await appendFile(path, 'the first drains\n');
  await see('the first drains');
  stop.abort();
  await following;
  expect(lines).toEqual([
    `==> deployment ${one}`,
    'first',
    'x'.repeat(2000),
    'kept',
    'half and half',
    'after the cut',
    'anew',
    `==> deployment ${two}`,
    'second deployment',
    `==> deployment ${one}`,
    'the first drains',
  ]);
});
