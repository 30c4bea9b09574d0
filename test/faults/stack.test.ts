/** The stack as a whole: stopped and started, killed with its supervisor, its apps killed by hand, two of it side by side. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectFolder } from '../../src/components/cache.ts';
import { containerPaths } from '../../src/runtime/local/paths.ts';
import { isAlive, readProc } from '../../src/runtime/local/proc.ts';
import type { ContainerFile } from '../../src/runtime/local/record.ts';
import { readStack, type ServiceName, serviceNames } from '../../src/stack/record.ts';
import { textApp } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import {
  appProcesses,
  backAgain,
  deliverUntilAccepted,
  expectOneEach,
  expectServed,
  isGone,
  killService,
  pendingActivities,
  settledOn,
  slowApp,
  statusNow,
  waitUntil,
} from './faults.ts';

interface Open {
  pr: PullRequest;
  sha: string;
  text: string;
}

async function openThree(rig: RealStack): Promise<Open[]> {
  const open = [
    { repo: 'one', files: textApp('one'), text: 'one /\n' },
    { repo: 'two', files: textApp('two'), text: 'two /\n' },
    { repo: 'three', files: slowApp('three', 0.1), text: 'three\n' },
  ];
  return await Promise.all(
    open.map(async ({ repo, files, text }) => {
      const pr = { owner: 'acme', repo, number: 1 };
      const sha = await rig.git.push(`acme/${repo}`, files, { pull: 1 });
      await rig.deliver(pr, 'opened', sha);
      await settledOn(rig, pr, sha);
      return { pr, sha, text };
    }),
  );
}

const slugOf = ({ pr }: Open) => `${pr.repo}-${pr.number}`;

async function expectAllServed(rig: RealStack, open: Open[]): Promise<void> {
  for (const one of open) await expectServed(rig, slugOf(one), one.sha, one.text);
}

/** When each closure was built: a rebuild makes another. */
async function closureTimes(rig: RealStack, open: Open[]): Promise<number[]> {
  return await Promise.all(
    open.map(
      async ({ pr, sha }) =>
        (await stat(join(rig.layout.closures, pr.owner, pr.repo, sha, 'closure.json'))).birthtimeMs,
    ),
  );
}

async function closeAll(rig: RealStack, open: Open[]): Promise<void> {
  for (const { pr, sha } of open) await deliverUntilAccepted(rig, pr, 'closed', sha);
  await Promise.all(open.map(({ pr }) => isGone(rig, pr)));
  expect(await rig.left()).toEqual([]);
}

describe.concurrent('a stack', () => {
  it('stopped and started: every preview is found again, without a rebuild', async () => {
    const rig = await startRealStack();
    try {
      const open = await openThree(rig);
      const before = await Promise.all(open.map(({ pr, sha }) => settledOn(rig, pr, sha)));
      const [built, apps, ports] = [await closureTimes(rig, open), await appProcesses(rig), rig.stack.record.ports];
      const logs = async () =>
        (await Promise.all(open.map((one) => readdir(join(rig.layout.logs, slugOf(one)))))).flat();
      const logsBefore = await logs();
      expect(apps.length).toBe(3);

      await rig.restart();
      expect(rig.stack.record.ports).toEqual(ports);
      for (const one of open) {
        let last = '';
        await waitUntil(
          async () => {
            const answer = await rig.visit(slugOf(one)).catch((error: Error) => error);
            last = answer instanceof Error ? answer.message : `${answer.status} ${answer.body.slice(0, 200)}`;
            return !(answer instanceof Error) && answer.status === 200;
          },
          () => `${slugOf(one)} never answered after the restart: ${last}`,
          30,
        );
      }
      await expectAllServed(rig, open);
      const after = await Promise.all(open.map(({ pr, sha }) => settledOn(rig, pr, sha)));
      expect(after.map((s) => [s.url, s.servedSha, s.attempt, s.deployments])).toEqual(
        before.map((s) => [s.url, s.servedSha, s.attempt, s.deployments]),
      );
      expect(await closureTimes(rig, open)).toEqual(built);
      expect(await logs()).toEqual(logsBefore);
      const now = await appProcesses(rig);
      expect(now.map(({ container }) => container)).toEqual(apps.map(({ container }) => container));
      for (const { pid } of now) expect(apps.map((app) => app.pid)).not.toContain(pid);
      await expectOneEach(rig, after);

      // And once more in the middle of a deployment.
      const one = open[0] as Open;
      one.text = 'pushed\n';
      one.sha = await rig.git.push('acme/one', slowApp('pushed', 1), { pull: 1 });
      await rig.deliver(one.pr, 'synchronize', one.sha);
      await waitUntil(
        async () => (await pendingActivities(rig, one.pr)).includes('buildClosure'),
        async () => `no build: ${JSON.stringify(await statusNow(rig, one.pr))}`,
      );
      await rig.restart();
      await expectOneEach(rig, await Promise.all(open.map(({ pr, sha }) => settledOn(rig, pr, sha))));
      await expectAllServed(rig, open);
      await closeAll(rig, open);
    } finally {
      await rig.close();
    }
  });

  it('whose `tekton up` is killed, alone and with everything: the next one takes over', async () => {
    const rig = await startRealStack();
    const ups: ChildProcess[] = [];
    const up = async () => {
      const child = startUp(rig);
      ups.push(child);
      await serves(child);
      return child;
    };
    try {
      const open = await openThree(rig);
      await rig.stack.stop();
      const first = await up();
      await expectAllServed(rig, open);

      // Alone: its services know nothing of it, and do their work.
      await kill(first);
      const [one, two] = open as [Open, Open];
      one.text = 'one again /\n';
      one.sha = await rig.git.push('acme/one', textApp('one again'), { pull: 1 });
      await deliverUntilAccepted(rig, one.pr, 'synchronize', one.sha);
      await settledOn(rig, one.pr, one.sha);
      await expectAllServed(rig, open);
      const orphans = await servicePids(rig);
      const second = await up();
      for (const [name, pid] of orphans) expect(readProc(pid), `the ${name} of the dead tekton up`).toBeUndefined();
      await expectAllServed(rig, open);

      // With everything, while something is under way; the apps go on.
      two.text = 'two again\n';
      two.sha = await rig.git.push('acme/two', slowApp('two again', 1), { pull: 1 });
      await deliverUntilAccepted(rig, two.pr, 'synchronize', two.sha);
      await waitUntil(
        async () => (await pendingActivities(rig, two.pr)).includes('buildClosure'),
        async () => `no build: ${JSON.stringify(await statusNow(rig, two.pr))}`,
      );
      const pids = await servicePids(rig);
      await kill(second);
      for (const [, pid] of pids) process.kill(pid, 'SIGKILL');
      const third = await up();
      await expectOneEach(rig, await Promise.all(open.map(({ pr, sha }) => settledOn(rig, pr, sha))));
      await expectAllServed(rig, open);
      await closeAll(rig, open);
      third.kill('SIGINT');
      const [code] = await once(third, 'exit');
      expect(code).toBe(0);
    } finally {
      for (const child of ups) if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      for (const child of ups) if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await rig.close();
    }
  });

  it('whose app is killed by hand: it comes back, each time a little later', async () => {
    const rig = await startRealStack();
    try {
      const pr = { owner: 'acme', repo: 'app', number: 1 };
      const sha = await rig.git.push('acme/app', textApp('app'), { pull: 1 });
      await rig.deliver(pr, 'opened', sha);
      const { deployments } = await settledOn(rig, pr, sha);
      const container = deployments[0]?.container as string;
      const waits: number[] = [];
      for (let round = 0; round < 3; round++) {
        const [app] = await appProcesses(rig);
        const proc = readProc(app?.pid as number);
        expect(proc, 'the app runs').toBeDefined();
        process.kill(app?.pid as number, 'SIGKILL');
        const killedAt = Date.now();
        await waitUntil(
          () => readProc(app?.pid as number) === undefined,
          () => 'the app survives SIGKILL',
          5,
        );
        // Somebody who looks now is told to come again.
        const meanwhile = await rig.visit('app-1');
        expect(meanwhile).toMatchObject({ status: 503, headers: { 'retry-after': expect.any(String) } });
        let last = '';
        await waitUntil(
          async () => {
            const answer = await rig.visit('app-1');
            last = `${answer.status} ${answer.body.slice(0, 200)}`;
            return answer.status === 200 && answer.body === 'app /\n' && answer.headers['x-tekton-sha'] === sha;
          },
          () => `the app never came back: ${last}`,
          30,
        );
        waits.push(Date.now() - killedAt);
        expect(proc && isAlive(proc)).toBe(false);
      }
      expect(waits[0], `waits: ${waits}`).toBeGreaterThanOrEqual(500);
      expect(waits[2], `waits: ${waits}`).toBeGreaterThan((waits[0] as number) + 500);

      // It dies while the worker is dead: the next worker sees to it.
      const dead = killService(rig, 'worker');
      const [orphan] = await appProcesses(rig);
      process.kill(orphan?.pid as number, 'SIGKILL');
      await backAgain(rig, 'worker', dead);
      let seen = '';
      await waitUntil(
        async () => {
          const answer = await rig.visit('app-1');
          seen = `${answer.status} ${answer.body.slice(0, 200)}`;
          return answer.body === 'app /\n';
        },
        () => `the app never came back with its worker: ${seen}`,
        30,
      );
      const record = JSON.parse(await readFile(containerPaths(rig.layout, container).record, 'utf8')) as ContainerFile;
      expect(record.processes.web?.restarts).toBe(3);
      expect((await appProcesses(rig)).map((app) => app.container)).toEqual([container]);
      await rig.deliver(pr, 'closed', sha);
      await isGone(rig, pr);
      expect(await rig.left()).toEqual([]);
    } finally {
      await rig.close();
    }
  });
});

describe('two stacks side by side', () => {
  let rigs: RealStack[] = [];
  beforeAll(async () => {
    rigs = await Promise.all([startRealStack(), startRealStack()]);
  });
  afterAll(async () => {
    for (const rig of rigs) await rig.close();
  });

  it('one of them starts although its PostgreSQL, killed, is still in the table of processes', async () => {
    const rig = rigs[0] as RealStack;
    await rig.stack.stop();
    // A dead child whose parent does not take its exit code, as PID 1 of a container without an init.
    // PostgreSQL only minds processes of its own user.
    const { uid, gid } = await stat(rig.stack.record.postgresData);
    const argv = ['-c', 'sleep 0 & echo $!; exec sleep 300'];
    const parent = spawn('sh', argv, { cwd: '/', uid, gid, stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const [line] = await once(parent.stdout, 'data');
      const zombie = Number(String(line));
      await waitUntil(
        () => readProc(zombie) === undefined,
        () => `${zombie} does not end`,
        5,
      );
      expect(existsSync(`/proc/${zombie}`), 'there is a zombie').toBe(true);
      const { postgresData, ports } = rig.stack.record;
      const lock = [zombie, postgresData, 1, ports.postgres, '', '127.0.0.1', '', 'ready', ''].join('\n');
      await writeFile(join(postgresData, 'postmaster.pid'), lock);
      await rig.restart();
    } finally {
      parent.kill('SIGKILL');
    }
  });

  it('share no port and no address, and both work', async () => {
    const [a, b] = rigs as [RealStack, RealStack];
    const pr = { owner: 'acme', repo: 'same', number: 1 };
    const shas = await Promise.all(
      rigs.map(async (rig, i) => {
        const sha = await rig.git.push('acme/same', textApp(`stack ${i}`), { pull: 1 });
        await rig.deliver(pr, 'opened', sha);
        return sha;
      }),
    );
    const live = await Promise.all(rigs.map((rig, i) => settledOn(rig, pr, shas[i] as string)));
    for (const [i, rig] of rigs.entries()) await expectServed(rig, 'same-1', shas[i] as string, `stack ${i} /\n`);

    const ports = rigs.flatMap((rig) => Object.values(rig.stack.record.ports));
    expect(new Set(ports).size).toBe(ports.length);
    expect(a.stack.record.subnet).not.toBe(b.stack.record.subnet);
    expect(live[0]?.deployments[0]?.address).not.toBe(live[1]?.deployments[0]?.address);
    const appPorts = await Promise.all(
      rigs.map(async (rig, i) => {
        const container = live[i]?.deployments[0]?.container as string;
        const text = await readFile(containerPaths(rig.layout, container).record, 'utf8');
        return Object.values((JSON.parse(text) as ContainerFile).ports);
      }),
    );
    expect(new Set(appPorts.flat()).size).toBe(2);

    // What one does to its preview is nothing to the other.
    await a.deliver(pr, 'closed', shas[0] as string);
    await isGone(a, pr);
    expect(await a.left()).toEqual([]);
    await expectServed(b, 'same-1', shas[1] as string, 'stack 1 /\n');
    await b.deliver(pr, 'closed', shas[1] as string);
    await isGone(b, pr);
    expect(await b.left()).toEqual([]);
  });
});

/** `tekton up` as somebody types it, on the state folder of the rig's stack: its ports are remembered there. */
function startUp(rig: RealStack): ChildProcess {
  const argv = ['bin/tekton.mjs', 'up', '--json', '--state-dir', rig.stateDir, '--git-base-url', rig.git.baseUrl];
  const child = spawn(process.execPath, argv, { cwd: projectFolder, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(rig.stateDir, 'up.log'), { flags: 'a' });
  child.stderr?.pipe(log);
  return child;
}

/** Until `tekton up` has printed that everything serves. */
async function serves(child: ChildProcess): Promise<void> {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  let record = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    record += text;
  });
  await waitUntil(
    () => {
      if (child.exitCode !== null) throw new Error(`tekton up ended with ${child.exitCode}:\n${said}`);
      return record.includes('\n');
    },
    () => `tekton up never served:\n${said}`,
    90,
  );
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** The services' processes, as `stack.json` tells. */
async function servicePids(rig: RealStack): Promise<[ServiceName, number][]> {
  const found = await readStack(rig.stateDir);
  return serviceNames.map((name) => {
    const pid = found?.services[name]?.pid;
    if (!pid || !readProc(pid)) throw new Error(`the ${name} (pid ${pid}) does not run`);
    return [name, pid];
  });
}
