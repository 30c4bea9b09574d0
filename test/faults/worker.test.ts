/** SIGKILL of the worker: whatever it was at, the next one carries it to its end, and nothing is there twice. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keepVisiting } from '../../src/cli/demo/visitor.ts';
import { readProc } from '../../src/runtime/local/proc.ts';
import { type Files, textApp } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import {
  backAgain,
  deliverUntilAccepted,
  expectOneEach,
  expectServed,
  handedOutAgain,
  isGone,
  killAt,
  killDuring,
  killService,
  liveOn,
  settledOn,
  slowApp,
  slowAppPrefix,
  traces,
  waitUntil,
} from './faults.ts';

let gates: string;
/** Activities that had to be handed out again. */
const met = new Set<string>();
beforeAll(async () => {
  gates = await mkdtemp(join(tmpdir(), 'tekton-faults-'));
});
afterAll(() => rm(gates, { recursive: true, force: true }));

async function withRig(work: (rig: RealStack) => Promise<void>): Promise<void> {
  const rig = await startRealStack();
  try {
    await work(rig);
  } finally {
    await rig.close();
  }
}

/** An app whose build says which process it is, tells of any other that is at it too, and waits for the gate. */
function gatedBuild(text: string, gate: string): Files {
  return {
    ...textApp(text),
    'package.json': JSON.stringify({ name: 'gated', scripts: { build: 'node build.js' } }),
    'build.js': `
const fs = require('node:fs');
const gate = ${JSON.stringify(gate)};
const others = fs.existsSync(gate + '.pids') ? fs.readFileSync(gate + '.pids', 'utf8').trim().split('\\n') : [];
for (const pid of others) if (fs.existsSync('/proc/' + pid)) fs.appendFileSync(gate + '.overlap', pid + '\\n');
fs.appendFileSync(gate + '.pids', process.pid + '\\n');
const waiting = setInterval(() => { if (fs.existsSync(gate)) clearInterval(waiting); }, 20);
`,
  };
}

const linesOf = async (file: string) =>
  (await readFile(file, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');

describe.concurrent('SIGKILL of the worker', () => {
  it('in a build, in an update that people look at, in a destroy', () =>
    withRig(async (rig) => {
      const pr = { owner: 'acme', repo: 'killed', number: 1 };
      const gate = join(gates, 'first');
      const first = await rig.git.push('acme/killed', gatedBuild('first', gate), { pull: 1 });
      await rig.deliver(pr, 'opened', first);
      const builders = () => linesOf(`${gate}.pids`);
      await waitUntil(
        async () => (await builders()).length === 1,
        () => 'the build never began',
      );
      const killed = killService(rig, 'worker');
      await waitUntil(
        async () => (await builders()).length === 2,
        async () => `the build was never begun again: ${await builders()}`,
      );
      const [old = '', fresh = ''] = await builders();
      expect(readProc(Number(old)), 'the build process of the dead worker').toBeUndefined();
      expect(readProc(Number(fresh))).toBeDefined();
      expect(await linesOf(`${gate}.overlap`)).toEqual([]);
      await backAgain(rig, 'worker', killed);
      await writeFile(gate, '');
      await expectOneEach(rig, [await settledOn(rig, pr, first)]);
      await expectServed(rig, 'killed-1', first, 'first /\n');
      expect((await builders()).length, 'how often it was built').toBe(2);

      // Another one is closed while the worker that built it is dead: nobody builds it again, and nothing of the build stays.
      const other = { owner: 'acme', repo: 'given-up', number: 1 };
      const never = join(gates, 'never');
      const otherSha = await rig.git.push('acme/given-up', gatedBuild('never', never), { pull: 1 });
      await rig.deliver(other, 'opened', otherSha);
      await waitUntil(
        async () => (await linesOf(`${never}.pids`)).length === 1,
        () => 'the build to be given up never began',
      );
      const dead = killService(rig, 'worker');
      await deliverUntilAccepted(rig, other, 'closed', otherSha);
      await backAgain(rig, 'worker', dead);
      await isGone(rig, other);
      for (const pid of await linesOf(`${never}.pids`)) expect(readProc(Number(pid)), 'its build').toBeUndefined();
      expect(await readdir(join(rig.layout.closures, 'acme/given-up')), 'what was built of it').toEqual([]);

      // An update: killed in its build, and again while it is probed; nobody who looks at the old one notices.
      const crowd = keepVisiting(rig.url('killed-1'), 3);
      const gate2 = join(gates, 'second');
      const second = await rig.git.push('acme/killed', gatedBuild('second', gate2), { pull: 1 });
      await rig.deliver(pr, 'synchronize', second);
      await waitUntil(
        async () => (await linesOf(`${gate2}.pids`)).length === 1,
        () => 'the second build never began',
      );
      const again = killService(rig, 'worker');
      await sleep(500);
      expect((await rig.visit('killed-1')).body).toBe('first /\n');
      await writeFile(gate2, '');
      await backAgain(rig, 'worker', again);
      await killDuring(rig, 'worker', pr, ['writeEnvironment', 'startServices', 'probeContainer', 'writeRoute']);
      const updated = await settledOn(rig, pr, second);
      const visits = await crowd.stop();
      expect(visits.failed).toEqual([]);
      expect(visits.bySha.get(first)).toBeGreaterThan(0);
      expect(visits.bySha.get(second)).toBeGreaterThan(0);
      expect(await linesOf(`${gate2}.overlap`)).toEqual([]);
      await expectOneEach(rig, [updated]);

      // A destroy, killed twice: the app does not want to end, which gives us time.
      const third = await rig.git.push('acme/killed', stubborn('third'), { pull: 1 });
      await deliverUntilAccepted(rig, pr, 'synchronize', third);
      await liveOn(rig, pr, third);
      await rig.deliver(pr, 'closed', third);
      const inDestroy = await killDuring(rig, 'worker', pr, ['destroyContainer']);
      await backAgain(rig, 'worker', inDestroy);
      await killDuring(rig, 'worker', pr, ['releaseSlot', 'dropDatabase', 'releaseHostnames', 'readInventory']);
      await isGone(rig, pr);
      expect((await rig.visit('killed-1')).status).toBe(404);
      expect(await rig.left()).toEqual([]);
    }));

  /** Every step of a deployment; two stacks side by side, because a worker that dies often is started again ever later. */
  const groups = [
    ['claimSlug', 'allocateSlot', 'createContainer', 'writeEnvironment', 'runSetup', 'probeContainer', 'probePublic'],
    ['buildClosure', 'claimHostnames', 'createDatabase', 'startContainer', 'startServices', 'writeRoute'],
  ];

  it('is about every step', () => {
    expect(groups.flat().sort()).toEqual(Object.keys(traces).sort());
  });

  it.each(groups.map((steps) => ({ steps })))('at each of $steps', ({ steps }) =>
    withRig(async (rig) => {
      const open: { pr: PullRequest; sha: string; text: string }[] = [];
      // Each kill meets one pull request in the named step, and those before it wherever they are.
      for (const [i, step] of steps.entries()) {
        const pr = { owner: 'acme', repo: 'steps', number: i + 1 };
        const text = `killed at ${step}`;
        const sha = await rig.git.push('acme/steps', slowApp(text), { branch: `b${i}`, pull: pr.number });
        open.push({ pr, sha, text });
        const killing = killAt(rig, 'worker', `steps-${pr.number}`, step);
        await deliverUntilAccepted(rig, pr, 'opened', sha);
        await backAgain(rig, 'worker', await killing);
      }
      const live = await Promise.all(open.map(({ pr, sha }) => settledOn(rig, pr, sha)));
      for (const { pr, sha, text } of open) {
        await expectServed(rig, `steps-${pr.number}`, sha, `${text}\n`);
        await expectServed(rig, `${slowAppPrefix}-steps-${pr.number}`, sha, `${text}\n`);
      }
      await expectOneEach(rig, live);
      for (const { pr } of open) for (const name of await handedOutAgain(rig, pr)) met.add(name);

      await Promise.all(open.map(({ pr, sha }) => rig.deliver(pr, 'closed', sha)));
      await Promise.all(open.map(({ pr }) => isGone(rig, pr)));
      expect(await rig.left()).toEqual([]);
    }),
  );

  it('at any moment: six pushes of two pull requests, six kills', () =>
    withRig(async (rig) => {
      const prs = [1, 2].map((number) => ({ owner: 'acme', repo: 'moments', number }));
      const heads = new Map<number, string>();
      for (let round = 0; round < 3; round++) {
        for (const pr of prs) {
          const files = slowApp(`round ${round} of ${pr.number}`, 0.1);
          const sha = await rig.git.push('acme/moments', files, { branch: `b${pr.number}`, pull: pr.number });
          heads.set(pr.number, sha);
          await deliverUntilAccepted(rig, pr, round === 0 ? 'opened' : 'synchronize', sha);
          await sleep(Math.random() * 2000);
          await backAgain(rig, 'worker', killService(rig, 'worker'));
        }
      }
      const live = await Promise.all(prs.map((pr) => settledOn(rig, pr, heads.get(pr.number) as string)));
      for (const pr of prs) {
        const text = `round 2 of ${pr.number}\n`;
        await expectServed(rig, `moments-${pr.number}`, heads.get(pr.number) as string, text);
      }
      await expectOneEach(rig, live);
      await Promise.all(prs.map((pr) => rig.deliver(pr, 'closed', heads.get(pr.number) as string)));
      await Promise.all(prs.map((pr) => isGone(rig, pr)));
      expect(await rig.left()).toEqual([]);
    }));
});

it('the kills met steps at their work, not only between them', () => {
  expect(met.size, `met: ${[...met].join(', ')}`).toBeGreaterThanOrEqual(6);
});

/** An app that takes SIGTERM for no reason to end. */
function stubborn(text: string): Files {
  const app = textApp(text);
  return { ...app, 'server.js': `process.on('SIGTERM', () => {});\n${app['server.js']}` };
}
