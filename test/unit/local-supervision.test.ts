import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hostLayout } from '../../src/host/layout.ts';
import { enforceQuota, enforceTotal, trimLog } from '../../src/runtime/local/logs.ts';
import { appLogPath } from '../../src/runtime/local/paths.ts';
import { isAlive, readProc } from '../../src/runtime/local/proc.ts';
import { restartDelay } from '../../src/runtime/local/supervisor.ts';
import { ask, createRig, marked, type Rig, server, step, until, upstream } from './local-rig.ts';

let rig: Rig;
const workers: ChildProcess[] = [];
beforeEach(async () => {
  rig = await createRig();
});
afterEach(async () => {
  for (const worker of workers.splice(0)) worker.kill('SIGKILL');
  await rig.close();
});

function startWorker(deployment: unknown): { child: ChildProcess; says: (word: string) => Promise<void> } {
  const path = new URL('./local-worker.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--import', 'tsx', path, rig.root, JSON.stringify(deployment)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  workers.push(child);
  let heard = '';
  child.stdout?.on('data', (data) => {
    heard += data;
  });
  return { child, says: async (word) => void (await until(() => heard.includes(word), `the worker's "${word}"`)) };
}

async function killWorker(child: ChildProcess) {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

const logOf = (container: string, service = 'web') => appLogPath(hostLayout(rig.state), 'shop-42', container, service);

describe('services', () => {
  test('one that crashes is started again, later each time, and each time is a line in its log', async () => {
    expect([0, 1, 2, 3, 6, 7, 1000].map(restartDelay)).toEqual([500, 1000, 2000, 4000, 30_000, 30_000, 30_000]);
    const deployment = await rig.commit({ Procfile: 'web: echo tried; sleep 1000 & exit 7\nother: sleep 1000' });
    await rig.up(rig.runtime, deployment);
    const name = deployment.container;
    const service = async () => (await rig.runtime.services(name))[0];
    await until(async () => ((await service())?.restarts ?? 0) >= 2);
    const log = await readFile(logOf(name), 'utf8');
    expect(log).toMatch(
      /tried\n\[tekton\] web ended \(exit code 7\) after 0\.\d s; starting it again in 0\.5 s \(restart 1\)\ntried\n\[tekton\] .* in 1\.0 s \(restart 2\)\n/,
    );
    // What a dead start left behind does not pile up.
    expect(marked(`/${name}`).length).toBeLessThanOrEqual(4);
    expect((await rig.runtime.services(name))[1]).toEqual({ name: 'other', running: true, restarts: 0 });
    expect(await rig.runtime.status(name)).toBe('up');
  });

  test('killed from outside, it comes back at the same port', async () => {
    const deployment = await rig.commit({ Procfile: 'web: exec node s.js', 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const before = await ask(await upstream(rig.runtime, deployment.container));
    process.kill(before.pid, 'SIGKILL');
    await until(() => !readProc(before.pid));
    const after = await ask(await upstream(rig.runtime, deployment.container));
    expect(after.pid).not.toBe(before.pid);
    expect(after.env.PORT).toBe(before.env.PORT);
  });

  test('one that goes to the background is followed there, adopted there, and started again when it dies', async () => {
    const deployment = await rig.commit({ Procfile: 'web: setsid --fork node s.js', 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const name = deployment.container;
    const before = await ask(await upstream(rig.runtime, name));
    await sleep(400);
    expect(await rig.runtime.services(name)).toEqual([{ name: 'web', running: true, restarts: 0 }]);
    await rig.runtime.close();
    const next = rig.open();
    await next.recover();
    expect((await ask(await upstream(next, name))).pid).toBe(before.pid);
    process.kill(before.pid, 'SIGKILL');
    await until(async () => (await next.services(name))[0]?.restarts === 1);
    expect((await ask(await upstream(next, name))).pid).not.toBe(before.pid);
  });
});

describe('the worker', () => {
  test('dies by SIGKILL: apps live on, the next worker adopts what runs and starts what does not, without a rebuild', async () => {
    const deployment = await rig.commit({
      Procfile: 'setup: echo once >> setups\nweb: exec node s.js\nweak: exec node w.js',
      's.js': server(),
      'w.js': `require('fs').appendFileSync('weak', process.pid + '\\n'); setInterval(() => {}, 1000)`,
      'package.json': { scripts: { build: 'echo built >> built' } },
    });
    const worker = startWorker(deployment);
    await worker.says('up');
    const name = deployment.container;
    const before = await ask(await upstream(rig.runtime, name));
    const weakFile = join(before.cwd, 'weak');
    const weak = async () => (await readFile(weakFile, 'utf8')).trim().split('\n').map(Number);
    await until(() => weak().catch(() => undefined));
    await killWorker(worker.child);
    expect((await ask(await upstream(rig.runtime, name))).pid).toBe(before.pid);
    const [first = 0] = await weak();
    process.kill(first, 'SIGKILL');
    await until(() => !readProc(first));

    const next = rig.open();
    await next.recover();
    expect((await ask(await upstream(next, name))).pid).toBe(before.pid);
    await until(async () => (await weak()).length === 2);
    expect((await next.services(name)).map((s) => s.running)).toEqual([true, true]);
    expect(await readFile(join(before.cwd, 'setups'), 'utf8')).toBe('once\n');
    expect(await readFile(join(before.cwd, 'built'), 'utf8')).toBe('built\n');
    // The adopted one is watched as well.
    process.kill(before.pid, 'SIGKILL');
    await until(() => !readProc(before.pid));
    const after = await ask(await upstream(next, name));
    expect(after.env).toMatchObject({ PORT: before.env.PORT, GREETING: 'hi' });
  });

  test('dies during a build: the next one kills what is left of it and builds anew', async () => {
    const deployment = await rig.commit({
      Procfile: 'web: sleep 1000',
      'package.json': {
        scripts: { build: `(setsid sleep 1000 &) ; test -e ${rig.root}/go && exit 0; echo waiting; sleep 1000` },
      },
    });
    const worker = startWorker(deployment);
    const building = () => marked(`/${deployment.container}:build`);
    await until(() => building().length >= 3);
    await killWorker(worker.child);
    const orphans = building();
    expect(orphans.length).toBeGreaterThanOrEqual(3);
    expect((await rig.runtime.inventory('preview/acme/shop/42')).some((item) => item.kind === 'build')).toBe(true);

    await writeFile(join(rig.root, 'go'), '');
    await rig.open().recover();
    expect(building()).toEqual([]);
    const closure = await rig.runtime.buildClosure(deployment, step());
    expect(closure.cached).toBe(false);
    expect(building()).toEqual([]);
    expect(await rig.runtime.inventory('preview/acme/shop/42')).toEqual([]);
  });

  test('dies during setup: a retry kills what is left of it, and what has been done once is not done again', async () => {
    const deployment = await rig.commit({
      Procfile: `setup: echo setup >> ${rig.root}/ran\nrelease: echo release >> ${rig.root}/ran; test -e ${rig.root}/go || sleep 1000\nweb: sleep 1000`,
    });
    const ran = () => readFile(join(rig.root, 'ran'), 'utf8').catch(() => '');
    const worker = startWorker(deployment);
    await until(async () => (await ran()) === 'setup\nrelease\n');
    await killWorker(worker.child);
    const left = marked(`/${deployment.container}`);
    expect(left.length).toBeGreaterThan(0);
    await writeFile(join(rig.root, 'go'), '');
    const next = rig.open();
    await next.recover();
    const { meta } = await next.buildClosure(deployment, step());
    await next.runSetup(deployment.container, meta, step());
    expect(await ran()).toBe('setup\nrelease\nrelease\n');
    expect(marked(`/${deployment.container}`)).toEqual([]);
    await next.runSetup(deployment.container, meta, step());
    expect(await ran()).toBe('setup\nrelease\nrelease\n');
  });

  test('stops everything and, told to recover, brings everything back at the same ports', async () => {
    const deployment = await rig.commit({ Procfile: 'web: exec node s.js', 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const name = deployment.container;
    const before = await ask(await upstream(rig.runtime, name));
    await rig.runtime.stopAll();
    expect(readProc(before.pid)).toBeUndefined();
    expect(await rig.runtime.status(name)).toBe('down');
    expect((await rig.runtime.services(name))[0]?.running).toBe(false);
    await sleep(700);
    expect(marked(`/${name}`)).toEqual([]);
    await rig.runtime.close();

    const next = rig.open();
    await next.recover();
    const after = await ask(await upstream(next, name));
    expect(after.env.PORT).toBe(before.env.PORT);
    expect(await next.status(name)).toBe('up');
    expect((await next.services(name))[0]?.restarts).toBe(0);
  });

  test('stops what is half-way too: that is no failure of the app, it may be tried again', async () => {
    const slow = await rig.commit({ 'package.json': { scripts: { build: 'echo; sleep 1000', start: 'x' } } });
    const setup = await rig.commit({ Procfile: 'setup: echo begun; sleep 1000\nweb: sleep 1000' });
    const reasons = [rig.runtime.buildClosure(slow, step()), rig.up(rig.runtime, setup)].map((promise) =>
      promise.then(
        () => 'done',
        (error) => [error.type, error.nonRetryable],
      ),
    );
    await until(() => marked(`/${slow.container}:build`).length > 0);
    await until(async () => (await rig.runtime.tail(setup.container, 5)).includes('begun'));
    await rig.runtime.stopAll();
    expect(await Promise.all(reasons)).toEqual([
      ['ContainerFailed', false],
      ['ContainerFailed', false],
    ]);
    expect([...marked(`/${slow.container}:build`), ...marked(`/${setup.container}`)]).toEqual([]);
  });

  test('what an attempt left that belongs to no service is killed when services start; a shell stays', async () => {
    const deployment = await rig.commit({ Procfile: 'web: exec node s.js', 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const name = deployment.container;
    const { pid } = await ask(await upstream(rig.runtime, name));
    const { env, cwd } = await rig.runtime.shell(name);
    const shell = spawn('sleep', ['1000'], { env, cwd, stdio: 'ignore', detached: true });
    const stray = spawn('sleep', ['1000'], {
      env: { ...env, TEKTON_SPAWN: 'web-old' },
      cwd,
      stdio: 'ignore',
      detached: true,
    });
    const gone = once(stray, 'exit');
    await rig.runtime.close();
    const next = rig.open();
    await next.recover();
    expect(await gone).toEqual([null, 'SIGTERM']);
    expect(readProc(shell.pid ?? 0)).toBeDefined();
    expect((await ask(await upstream(next, name))).pid).toBe(pid);
  });

  test('a process of another start under a used-again pid is never taken for the service', async () => {
    const deployment = await rig.commit({ Procfile: 'web: exec node s.js', 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const name = deployment.container;
    const before = await ask(await upstream(rig.runtime, name));
    await rig.runtime.close();
    process.kill(before.pid, 'SIGKILL');
    await until(() => !readProc(before.pid));
    const stranger = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const path = join(rig.layout.containers, name, 'container.json');
    const record = JSON.parse(await readFile(path, 'utf8'));
    record.processes.web.pid = stranger.pid;
    await writeFile(path, JSON.stringify(record));
    const next = rig.open();
    await next.recover();
    expect((await ask(await upstream(next, name))).pid).not.toBe(stranger.pid);
    await next.destroyContainer(name, step());
    const proc = readProc(stranger.pid ?? 0);
    expect(proc && isAlive(proc)).toBe(true);
    stranger.kill('SIGKILL');
  });
});

describe('logs', () => {
  test('a log that grows is cut to its newest part while its writer keeps writing', async () => {
    const deployment = await rig.commit({
      Procfile: 'web: i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.001; done',
    });
    await rig.up(rig.runtime, deployment);
    const path = logOf(deployment.container);
    await until(async () => (await stat(path)).size > 4000);
    expect(await trimLog(path, 4000)).toBe(true);
    const { size } = await stat(path);
    expect(size).toBeLessThan(4000);
    await until(async () => (await stat(path)).size > size + 500);
    const numbers = [...(await readFile(path, 'utf8')).matchAll(/^line (\d+)$/gm)].map((match) => Number(match[1]));
    expect(numbers.length).toBeGreaterThan(50);
    expect(numbers[0]).toBeGreaterThan(1);
    // Appended after the cut, in order, without holes of zero bytes.
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(await readFile(path, 'utf8')).not.toContain('\0');
  });

  test('a label over its quota loses the oldest logs that no container uses', async () => {
    const deployment = await rig.commit({ Procfile: 'web: echo hello; sleep 1000' });
    await rig.up(rig.runtime, deployment);
    const folder = join(rig.layout.logs, 'shop-42');
    expect((await rig.runtime.logFiles('shop-42', 'build')).map((path) => path.slice(folder.length + 1))).toEqual([
      `build-${deployment.container}.log`,
    ]);
    for (const old of ['pa-web.log', 'pb-web.log', 'pc-web.log']) {
      await writeFile(join(folder, old), 'x'.repeat(1000));
      await sleep(5);
    }
    await enforceQuota(folder, (name) => name.startsWith(`${deployment.container}-`), {
      perFile: 10_000,
      perLabel: 2500,
    });
    const left = (await rig.runtime.logFiles('shop-42', 'app')).map((path) => path.slice(folder.length + 1));
    expect(left).toContain(`${deployment.container}-web.log`);
    expect(left).not.toContain('pa-web.log');
    expect(left).toContain('pc-web.log');
    expect(await rig.runtime.tail(deployment.container, 1)).toEqual(['hello']);
  });

  test('all labels together lose the oldest logs of previews that are gone, and their empty folders', async () => {
    for (const label of ['old', 'mid', 'new']) {
      await mkdir(join(rig.layout.logs, label), { recursive: true });
      await writeFile(join(rig.layout.logs, label, 'p-web.log'), 'x'.repeat(1000));
      await sleep(5);
    }
    await enforceTotal(rig.layout.logs, () => false, 2000);
    expect((await readdir(rig.layout.logs)).sort()).toEqual(['mid', 'new']);
    await enforceTotal(rig.layout.logs, () => true, 0);
    expect((await readdir(rig.layout.logs)).sort()).toEqual(['mid', 'new']);
  });
});
