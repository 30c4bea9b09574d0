import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { readProc } from '../../src/runtime/local/proc.ts';
import { keepQuota, tailLog } from '../../src/stack/service-log.ts';
import {
  type Service,
  type ServiceEvent,
  type ServiceFolders,
  type ServiceSpec,
  stopLeftover,
  supervise,
} from '../../src/stack/supervise.ts';

let folder: string;
let folders: ServiceFolders;
const started: Service[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-supervise-'));
  folders = { logs: join(folder, 'logs'), records: join(folder, 'records') };
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((service) => service.stop()));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function spec(name: string, script: string, more: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    name,
    argv: ['/bin/sh', '-c', script],
    env: { PATH: process.env.PATH ?? '' },
    stopSignal: 'SIGTERM',
    stopTimeout: 500,
    ready: async () => true,
    readyTimeout: 5_000,
    ...more,
  };
}

function start(service: ServiceSpec): { service: Service; events: ServiceEvent[] } {
  const events: ServiceEvent[] = [];
  const running = supervise(service, folders, (event) => events.push(event));
  started.push(running);
  return { service: running, events };
}

describe('a supervised service', () => {
  test('comes back after it was killed', async () => {
    const { service, events } = start(spec('again', 'exec sleep 1000'));
    await service.ready();
    const first = service.pid as number;
    process.kill(first, 'SIGKILL');
    await vi.waitFor(() => expect(events.filter(({ kind }) => kind === 'ready')).toHaveLength(2), 5_000);
    expect(service.pid).not.toBe(first);
    expect(service.restarts).toBe(1);
    expect(events.map(({ kind }) => kind)).toEqual(['started', 'ready', 'died', 'started', 'ready']);
    expect(events[2]).toEqual({ kind: 'died', how: 'killed by SIGKILL', restartMs: 200 });
  });

  test('has a session of its own, and nothing of our environment', async () => {
    const { service } = start(spec('alone', 'env; exec sleep 1000', { env: { ONLY: 'this' } }));
    await service.ready();
    expect(readProc(service.pid as number)?.sid).toBe(service.pid);
    await vi.waitFor(async () => expect(await tailLog(service.log, 5)).toContain('ONLY=this'));
    expect((await tailLog(service.log, 50)).filter((line) => !/^(PWD|ONLY|_|SHLVL|OLDPWD)=/.test(line))).toEqual([]);
  });

  test('is told to stop, and killed with its helpers when it does not listen', async () => {
    const { service } = start(spec('deaf', "trap '' TERM; sleep 1000 & echo helper $!; while :; do sleep 1; done"));
    await service.ready();
    await vi.waitFor(async () => expect((await tailLog(service.log, 1))[0]).toMatch(/^helper \d+$/));
    const helper = Number((await tailLog(service.log, 1))[0]?.split(' ')[1]);
    const { pid } = service;
    await service.stop();
    expect(readProc(pid as number)).toBeUndefined();
    await vi.waitFor(() => expect(readProc(helper)).toBeUndefined());
  });

  test('that keeps dying before it serves is given up, with its last lines', async () => {
    const { service } = start(spec('broken', 'echo no such thing >&2; exit 3', { ready: async () => false }));
    await expect(service.ready()).rejects.toThrow(
      /^broken did not start: it ended \(exit code 3\)\. Its log, .*broken\.log, ends:\n {2}no such thing\n/,
    );
  });

  test('that never serves is given up in time', async () => {
    const { service } = start(spec('mute', 'exec sleep 1000', { ready: async () => false, readyTimeout: 300 }));
    await expect(service.ready()).rejects.toThrow('mute did not start: it did not serve within 0.3 s');
  });

  test('whose program is missing is given up with the reason', async () => {
    const { service } = start(spec('absent', '', { argv: [join(folder, 'nothing-here')] }));
    await expect(service.ready()).rejects.toThrow(/absent did not start: it ended \(it could not be started: .*ENOENT/);
  });
});

describe('what a killed supervisor left', () => {
  test('is stopped by its record; a pid used by another process is left alone', async () => {
    const { service } = start(spec('left', 'exec sleep 1000'));
    await service.ready();
    const record = join(folders.records, 'left.json');
    const text = await readFile(record, 'utf8');
    const other = { ...(JSON.parse(text) as { start: number }), start: 1 };
    await writeFile(record, JSON.stringify(other));
    expect(await stopLeftover('left', folders)).toBeUndefined();
    expect(readProc(service.pid as number)).toBeDefined();

    await writeFile(record, text);
    const { pid } = service;
    expect(await stopLeftover('left', folders)).toBe(pid);
    await expect(stat(record)).rejects.toThrow('ENOENT');
    expect(await stopLeftover('left', folders)).toBeUndefined();
  });
});

describe('a log', () => {
  test('that outgrows its quota is put aside once, and the service goes on writing into a new one', async () => {
    const { service } = start(spec('chatty', 'while :; do echo 0123456789; sleep 0.02; done'));
    await service.ready();
    await vi.waitFor(async () => expect((await stat(service.log)).size).toBeGreaterThan(50));
    keepQuota(service.log, 50);
    expect((await stat(`${service.log}.1`)).size).toBeGreaterThan(50);
    await vi.waitFor(async () => expect(await tailLog(service.log, 1)).toEqual(['0123456789']));
    // Appended from the start: a service that kept its old offset would leave a hole of zeros.
    expect((await readFile(service.log)).includes(0)).toBe(false);
  });
});
