import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readOrUndefined, withLock, writeAtomic } from '../../src/host/files.ts';
import { createMachineClaims, portRange } from '../../src/host/machine-claims.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-claims-test-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const owner = async (name: string) => {
  const path = join(folder, name);
  await mkdir(path, { recursive: true });
  return path;
};

describe('machine claims', () => {
  test('one owner at a time; the same owner may ask again; release lets the next one in', async () => {
    const claims = createMachineClaims(join(folder, 'claims'));
    const [a, b] = [await owner('a'), await owner('b')];
    expect(await claims.claim('subnet', '127.100.0.0/24', a)).toBe(true);
    expect(await claims.claim('subnet', '127.100.0.0/24', a)).toBe(true);
    expect(await claims.claim('subnet', '127.100.0.0/24', b)).toBe(false);
    expect(await claims.claimedBy('subnet', a)).toEqual(['127.100.0.0/24']);
    await claims.release('subnet', '127.100.0.0/24', b);
    expect(await claims.claim('subnet', '127.100.0.0/24', b)).toBe(false);
    await claims.release('subnet', '127.100.0.0/24', a);
    expect(await claims.claim('subnet', '127.100.0.0/24', b)).toBe(true);
  });

  test('a claim whose owner path is gone is taken over', async () => {
    const claims = createMachineClaims(join(folder, 'claims'));
    const [a, b] = [await owner('a'), await owner('b')];
    await claims.claim('subnet', 'x', a);
    await rm(a, { recursive: true });
    const takers = await Promise.all([claims.claim('subnet', 'x', b), claims.claim('subnet', 'x', await owner('c'))]);
    expect(takers.filter(Boolean)).toHaveLength(1);
  });

  test('a sweep removes the claims of owners that are gone, and no others', async () => {
    const claims = createMachineClaims(join(folder, 'claims'));
    const [a, b] = [await owner('a'), await owner('b')];
    await claims.claimPort(a);
    const kept = await claims.claimPort(b);
    await rm(a, { recursive: true });
    await claims.sweep();
    expect(await readdir(join(folder, 'claims'))).toEqual([`port-${kept}`]);
    await claims.releaseAll('port', b);
    expect(await readdir(join(folder, 'claims'))).toEqual([]);
  });

  test('ports are unique across stacks, in range, and never one that somebody listens on', async () => {
    const one = createMachineClaims(join(folder, 'claims'));
    const two = createMachineClaims(join(folder, 'claims'));
    const [a, b] = [await owner('a'), await owner('b')];
    const ports = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? one : two).claimPort(i % 2 ? a : b)));
    expect(new Set(ports).size).toBe(20);
    for (const port of ports) {
      expect(port).toBeGreaterThanOrEqual(portRange.first);
      expect(port).toBeLessThanOrEqual(portRange.last);
    }
    expect((await one.claimedBy('port', a)).length).toBe(10);
    // Nothing but claims lies there.
    expect((await readdir(join(folder, 'claims'))).every((name) => name.startsWith('port-'))).toBe(true);
  });

  test('a listener on one loopback address is enough to pass a port over', async () => {
    const claims = createMachineClaims(join(folder, 'claims'));
    const a = await owner('a');
    const server = createServer().listen(await claims.claimPort(a), '127.0.0.7');
    await once(server, 'listening');
    const taken = (server.address() as { port: number }).port;
    await claims.release('port', String(taken), a);
    const random = Math.random;
    Math.random = () => (taken - portRange.first) / (portRange.last - portRange.first + 1) + 1e-9;
    try {
      expect(await claims.claimPort(a)).not.toBe(taken);
    } finally {
      Math.random = random;
      server.close();
    }
  });
});

describe('files', () => {
  test('written whole, with the mode asked for, and nothing is left beside it', async () => {
    const path = join(folder, 'deep', 'file');
    expect(await readOrUndefined(path)).toBeUndefined();
    await writeAtomic(path, 'one', { mode: 0o600, sync: true });
    await Promise.all(Array.from({ length: 10 }, (_, i) => writeAtomic(path, `two${i}`)));
    expect(await readOrUndefined(path)).toMatch(/^two\d$/);
    expect(await readdir(join(folder, 'deep'))).toEqual(['file']);
  });

  test('a lock is held by one at a time, within a process and by abort left alone', async () => {
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 10 }, () =>
        withLock(folder, async () => {
          most = Math.max(most, ++inside);
          await sleep(2);
          inside--;
        }),
      ),
    );
    expect(most).toBe(1);
    const abort = new AbortController();
    await withLock(folder, async () => {
      const waiting = withLock(folder, async () => 'never', { signal: abort.signal });
      abort.abort(new Error('enough'));
      await expect(waiting).rejects.toThrow('enough');
    });
    expect(await withLock(folder, async () => 'free again')).toBe('free again');
  });

  test('a lock dies with its holder, even by SIGKILL', async () => {
    const files = new URL('../../src/host/files.ts', import.meta.url).pathname;
    const code = `import { withLock } from ${JSON.stringify(files)};
      await withLock(${JSON.stringify(folder)}, async () => { console.log('held'); setInterval(() => {}, 1000); await new Promise(() => {}); });`;
    const holder = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    let got = false;
    const waiting = withLock(folder, async () => {
      got = true;
    });
    await sleep(150);
    expect(got).toBe(false);
    holder.kill('SIGKILL');
    await waiting;
    expect(got).toBe(true);
  });
});
