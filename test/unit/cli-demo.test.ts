import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { type HostInventory, whatIsLeft } from '../../src/cli/demo/inventory.ts';
import { createNarrator, Hopeless, until } from '../../src/cli/demo/narrator.ts';
import { greetings, makeDemoRepository } from '../../src/cli/demo/repository.ts';
import { keepVisiting, visit } from '../../src/cli/demo/visitor.ts';

const example = fileURLToPath(new URL('../../examples/hello', import.meta.url));
const demo = fileURLToPath(new URL('../../src/cli/demo.ts', import.meta.url));

describe('waiting', () => {
  const signal = new AbortController().signal;
  const wait = { what: 'the moon', log: '/var/log/moon.log', limitMs: 60, signal, everyMs: 5 };

  test('has a limit, and says what was waited for, why in vain, and where to read more', async () => {
    const asked = until(wait, async () => {
      throw new Error('clouds');
    });
    await expect(asked).rejects.toThrow('waited 60 ms for the moon, in vain (clouds). Read /var/log/moon.log');
  });

  test('ends at once when it is hopeless, or interrupted', async () => {
    const never = until({ ...wait, limitMs: 60_000 }, async () => {
      throw new Hopeless('new moon');
    });
    await expect(never).rejects.toThrow('new moon');
    const interrupted = AbortSignal.abort(new Error('interrupted'));
    await expect(until({ ...wait, signal: interrupted }, async () => undefined)).rejects.toThrow('interrupted');
  });
});

test('what does not hold is remembered', () => {
  const lines: string[] = [];
  const narrator = createNarrator((line) => lines.push(line));
  narrator.check(true, 'good');
  narrator.check(false, 'bad');
  expect(narrator.broken).toEqual(['bad']);
  expect(lines.map((line) => line.slice(10))).toEqual(['✓ good', '✗ bad']);
});

test('what is left is what was not there before, by kind', () => {
  const empty: HostInventory = {
    containers: [],
    leases: [],
    routes: [],
    addresses: [],
    pages: [],
    hostnames: [],
    databases: ['postgres'],
    roles: ['tekton'],
    processes: [],
  };
  expect(whatIsLeft(empty, { ...empty, leases: ['p1'], databases: ['postgres', 'x'] })).toEqual([
    'leases: p1',
    'databases: x',
  ]);
});

test('people who look: every failed request is counted, with its reason', async () => {
  let asked = 0;
  const server = createServer((request, response) => {
    asked += 1;
    expect(request.headers.host).toMatch(/^hello-1\.preview\.localhost:/);
    if (asked === 3) return response.writeHead(502).end('bad gateway');
    if (asked === 5) return request.socket.destroy();
    response.writeHead(200, { 'x-tekton-sha': asked < 8 ? 'one' : 'two' }).end('hello');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://hello-1.preview.localhost:${(server.address() as AddressInfo).port}/`;
  const crowd = keepVisiting(url, 2);
  while (asked < 20) await new Promise((resolve) => setTimeout(resolve, 5));
  const { served, failed, bySha } = await crowd.stop();
  expect(failed).toHaveLength(2);
  expect(failed).toContain('status 502 from none: bad gateway');
  expect(served).toBe(asked - 2);
  expect([...bySha.keys()]).toEqual(['one', 'two']);
  expect((await visit(url)).body).toBe('hello');
  await new Promise((resolve) => server.close(resolve));
  await expect(visit(url)).rejects.toThrow('ECONNREFUSED');
});

test('the repository: two commits of the example, reached as GitHub gives them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tekton-demo-repo-'));
  try {
    const { baseUrl, commits, push } = await makeDemoRepository(folder, example);
    const git = async (...args: string[]) =>
      (await execa('git', [`--git-dir=${join(baseUrl, 'acme/hello.git')}`, ...args])).stdout;
    expect(await git('rev-parse', 'refs/pull/1/head')).toBe(commits[0]);
    expect(await git('show', `${commits[0]}:page.js`)).toContain(`const greeting = '${greetings[0]}'`);
    await push(commits[1]);
    expect(await git('rev-parse', 'refs/pull/1/head')).toBe(commits[1]);
    expect(await git('show', `${commits[1]}:page.js`)).toContain(`const greeting = '${greetings[1]}'`);
    expect(await git('ls-tree', '--name-only', 'main')).not.toContain('node_modules');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('an unknown option of the demo is wrong usage', async () => {
  const { exitCode, stderr } = await execa(process.execPath, ['--import', 'tsx', demo, '--kep'], { reject: false });
  expect(exitCode).toBe(2);
  expect(stderr).toContain('--keep');
});
