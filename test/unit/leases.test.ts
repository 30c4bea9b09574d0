import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type HostLayout, hostLayout } from '../../src/host/layout.ts';
import { createLeases, LeaseRecordError } from '../../src/host/leases.ts';

let root: string;
let layout: HostLayout;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tekton-leases-'));
  layout = hostLayout(root);
});
afterEach(() => rm(root, { recursive: true }));

const owner = 'preview/acme/shop/1';

describe('a lease', () => {
  it('is the same for the same container, and written where anyone can read it', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/24' });
    const slot = await leases.lease({ container: 'pabc', owner, purpose: 'new' });
    expect(slot).toEqual({ number: 1, hostAddress: '10.100.0.2', address: '10.100.0.3' });
    expect(await leases.lease({ container: 'pabc', owner, purpose: 'update' })).toEqual(slot);
    expect(await readdir(layout.leases)).toEqual(['pabc.json']);
    expect(JSON.parse(await readFile(join(layout.leases, 'pabc.json'), 'utf8'))).toEqual({
      container: 'pabc',
      owner,
      slot,
      leasedAt: expect.stringMatching(/^20.*Z$/),
    });
    expect(await readFile(layout.nextSlot, 'utf8')).toBe('2\n');
    // Another worker, later.
    expect((await createLeases({ layout, subnet: '10.100.0.0/24' }).find('pabc'))?.slot).toEqual(slot);
    await expect(leases.lease({ container: 'pabc', owner: 'preview/acme/shop/2', purpose: 'new' })).rejects.toThrow(
      'Slot of pabc belongs to preview/acme/shop/1',
    );
  });

  it('ends when released, twice even, and its address comes back last', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/28' });
    const number = async (container: string) => {
      const slot = await leases.lease({ container, owner, purpose: 'update' });
      return slot === 'full' ? slot : slot.number;
    };
    expect([await number('a'), await number('b')]).toEqual([1, 2]);
    await leases.release('a');
    await leases.release('a');
    expect(await leases.find('a')).toBeUndefined();
    expect([await number('c'), await number('d'), await number('e'), await number('f')]).toEqual([3, 4, 5, 6]);
    expect(await number('g')).toBe(1);
    expect(await number('h')).toBe('full');
  });

  it('leaves the last slots to updates', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/29' });
    expect(await leases.lease({ container: 'a', owner, purpose: 'new' })).toMatchObject({ number: 1 });
    expect(await leases.lease({ container: 'b', owner: 'other', purpose: 'new' })).toBe('full');
    expect(await leases.lease({ container: 'c', owner, purpose: 'update' })).toMatchObject({ number: 2 });
    expect((await leases.ofOwner(owner)).map((lease) => lease.container)).toEqual(['a', 'c']);
    expect(await leases.ofOwner('other')).toEqual([]);
  });

  it('goes on with the counter it finds, and without one never collides', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/24' });
    await leases.lease({ container: 'a', owner, purpose: 'new' });
    await writeFile(layout.nextSlot, '130\n');
    expect(await leases.lease({ container: 'b', owner, purpose: 'new' })).toMatchObject({ number: 4 });
    await writeFile(layout.nextSlot, '');
    expect(await leases.lease({ container: 'c', owner, purpose: 'new' })).toMatchObject({ number: 5 });
    await writeFile(layout.nextSlot, '1\n');
    expect(await leases.lease({ container: 'd', owner, purpose: 'new' })).toMatchObject({ number: 2 });
  });

  it('holds its addresses when another subnet is configured', async () => {
    await createLeases({ layout, subnet: '10.100.0.0/24' }).lease({ container: 'a', owner, purpose: 'new' });
    await writeFile(layout.nextSlot, '1\n');
    const inside = createLeases({ layout, subnet: '10.100.0.0/28' });
    expect(await inside.lease({ container: 'b', owner, purpose: 'new' })).toMatchObject({ hostAddress: '10.100.0.4' });
    await writeFile(layout.nextSlot, '1\n');
    const elsewhere = createLeases({ layout, subnet: '10.200.0.0/24' });
    expect(await elsewhere.lease({ container: 'c', owner, purpose: 'new' })).toMatchObject({
      hostAddress: '10.200.0.2',
    });
    expect(await elsewhere.lease({ container: 'a', owner, purpose: 'new' })).toMatchObject({
      hostAddress: '10.100.0.2',
    });
  });

  it('that is torn is named, and no slot is handed out until it is gone', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/24' });
    await leases.lease({ container: 'a', owner, purpose: 'new' });
    await leases.lease({ container: 'b', owner, purpose: 'new' });
    const file = join(layout.leases, 'a.json');
    for (const text of [
      '',
      '{"container":"a"',
      '{"container":"b","owner":"x"}',
      await readFile(join(layout.leases, 'b.json'), 'utf8'),
    ]) {
      await writeFile(file, text);
      await expect(leases.lease({ container: 'c', owner, purpose: 'new' })).rejects.toThrow(LeaseRecordError);
      await expect(leases.find('a')).rejects.toThrow(file);
    }
    expect(await leases.invalid()).toEqual([file]);
    // Others are none the worse.
    expect(await leases.lease({ container: 'b', owner, purpose: 'new' })).toMatchObject({ number: 2 });
    expect((await leases.list()).map((lease) => lease.container)).toEqual(['b']);
    await leases.release('a');
    expect(await leases.lease({ container: 'c', owner, purpose: 'new' })).toMatchObject({ number: 3 });
  });

  it('is only for container names', async () => {
    const leases = createLeases({ layout, subnet: '10.100.0.0/24' });
    for (const container of ['', '../x', 'a/b', 'twelve-chars', 'A', '.json', '-a']) {
      await expect(leases.lease({ container, owner, purpose: 'new' })).rejects.toThrow('not a container name');
      await expect(leases.release(container)).rejects.toThrow('not a container name');
    }
  });
});

describe('several processes', () => {
  const started: ChildProcess[] = [];
  afterEach(() => {
    for (const child of started.splice(0)) child.kill('SIGKILL');
  });

  function hammer(name: string): ChildProcess {
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', join(import.meta.dirname, 'leases.hammer.ts'), root, name],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    started.push(child);
    return child;
  }

  const ended = (child: ChildProcess) =>
    new Promise<{ code: number | null; out: string }>((resolve) => {
      let out = '';
      child.stdout?.on('data', (chunk) => {
        out += chunk;
      });
      child.on('close', (code) => resolve({ code, out }));
    });

  it('never share a slot, also when some are killed at any moment', async () => {
    const survivors = ['a', 'b', 'c'].map((name) => ended(hammer(name)));
    for (let round = 0; round < 4; round++) {
      const victim = hammer(`v${round}`);
      // Once it is at work, at a moment of chance.
      await new Promise((resolve) => victim.stdout?.once('data', resolve));
      await sleep(Math.random() * 30);
      victim.kill('SIGKILL');
    }
    for (const { code, out } of await Promise.all(survivors)) {
      expect(code).toBe(0);
      expect(out.trim().split('\n').at(-1)).toBe('done');
    }
    const leases = createLeases({ layout, subnet: '10.100.0.0/24' });
    expect(await leases.invalid()).toEqual([]);
    const left = await leases.list();
    expect(new Set(left.map((lease) => lease.slot.number)).size).toBe(left.length);
    // Only what the killed ones held is left; the lock is free.
    expect(left.every((lease) => lease.owner.startsWith('v'))).toBe(true);
    expect(await leases.lease({ container: 'z', owner: 'z', purpose: 'new' })).not.toBe('full');
  }, 30_000);
});
