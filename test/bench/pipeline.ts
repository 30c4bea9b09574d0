/**
 * Bench (a): from a signed webhook to an answering URL, on the whole stack as `tekton up` starts it: an app with a trivial build
 * (`npm run build` that writes one file), and one with nothing to build at all.
 *
 * What Tekton adds is measured against the preview's own activities. Their sum counts each activity from its start to its end in
 * the workflow's history, in full however many run beside each other, and of what still runs when the URL first answers only the part
 * before that. GitHub's own (comment, asking for the truth) are no part of the way there and are left out.
 *
 * Alone: `npm run bench -- --only a`.
 */
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { previewWorkflowId } from '../../src/domain/preview.ts';
import { type Files, textApp } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import { type BenchRow, median } from './row.ts';

const rounds = 7;
/** A reload shares one with those of the second before it: what is measured is a pull request that comes by itself. */
const betweenRoundsMs = 1500;
const pollMs = 5;
const giveUpMs = 60_000;
/** Nothing waits for these. */
const beside = ['upsertComment', 'readPullRequest'];

/** One activity as the workflow's history has it; times in ms since 1970. */
export interface ActivityTime {
  name: string;
  scheduled: number;
  started: number;
  completed: number;
}

interface Run {
  /** When the delivery was sent and when the URL first answered with its commit, in ms since 1970. */
  sent: number;
  answered: number;
  activities: ActivityTime[];
}

/** Measures opens and pushes, each a few times, and gives the rows of the table. About a minute on two cores. */
export async function benchPipeline(): Promise<BenchRow[]> {
  const rig = await startRealStack();
  try {
    const several = async (from: number, action: string, app: (text: string) => Files) => {
      const runs: Run[] = [];
      for (let number = from; number < from + rounds; number++) {
        await sleep(betweenRoundsMs);
        const pr = { owner: 'bench', repo: 'app', number };
        runs.push(await bringUp(rig, pr, action, app(`${action} ${number}`)));
      }
      return runs;
    };
    // Not counted: code is compiled, the mirror is made, Caddy has loaded once.
    await bringUp(rig, { owner: 'bench', repo: 'app', number: 1 }, 'opened', builtApp('warm'));
    const opens = await several(100, 'opened', builtApp);
    const pushes = await several(100, 'synchronize', builtApp);
    const bare = await several(200, 'opened', textApp);
    return [
      ...rows('open, trivial build', opens, { totalMs: 2500, ratio: 1.25 }),
      ...rows('push, trivial build', pushes, {}),
      ...rows('open, nothing to build', bare, {}),
      ...parts('open, nothing to build', bare),
    ];
  } finally {
    agent.destroy();
    await rig.close();
  }
}

/** An app whose build writes the one file that it serves. */
function builtApp(text: string): Files {
  return {
    ...textApp(text),
    'package.json': JSON.stringify({ name: 'built', version: '1.0.0', scripts: { build: 'node build.js' } }),
    'build.js': `require('node:fs').writeFileSync('built.txt', ${JSON.stringify(text)});\n`,
  };
}

/** Pushes a commit, tells of it as GitHub does, and asks its address until it answers with that commit. */
async function bringUp(rig: RealStack, pr: PullRequest, action: string, app: Files): Promise<Run> {
  const sha = await rig.git.push(`${pr.owner}/${pr.repo}`, app, {
    branch: `change-${pr.number}`,
    pull: pr.number,
  });
  const url = rig.url(`${pr.repo}-${pr.number}`);
  const sent = Date.now();
  const { status } = await rig.deliver(pr, action, sha);
  if (status !== 202) throw new Error(`the webhook answered ${status}`);
  for (;;) {
    if ((await servedBy(url)) === sha) break;
    if (Date.now() - sent > giveUpMs)
      throw new Error(`${url} does not answer: ${JSON.stringify(await rig.status(pr), null, 1)}`);
    await sleep(pollMs);
  }
  const answered = Date.now();
  await rig.live(pr, sha);
  const all = await activityTimes(rig, previewWorkflowId(pr));
  const activities = all.filter(({ name, started }) => started >= sent && started < answered && !beside.includes(name));
  return { sent, answered, activities };
}

/** One visitor keeps its connection: a thousand new ones would cost the machine more than what is measured. */
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** The commit that an address serves with status 200, if it serves one. `*.localhost` is this machine, whatever the resolver says. */
function servedBy(url: string): Promise<string | undefined> {
  const { host, port } = new URL(url);
  return new Promise((resolve) => {
    const asked = request({ host: '127.0.0.1', port, headers: { host }, agent }, (response) => {
      response.resume();
      response.on('close', () =>
        resolve(response.statusCode === 200 ? String(response.headers['x-tekton-sha']) : undefined),
      );
    });
    asked.on('error', () => resolve(undefined));
    asked.end();
  });
}

/** The completed activities of a workflow, in the order they were scheduled. */
async function activityTimes(rig: RealStack, workflowId: string): Promise<ActivityTime[]> {
  const { events } = await rig.temporal.client.workflow.getHandle(workflowId).fetchHistory();
  const times = new Map<string, ActivityTime>();
  for (const { eventId, eventTime, ...event } of events ?? []) {
    const at = Number(eventTime?.seconds ?? 0) * 1000 + (eventTime?.nanos ?? 0) / 1e6;
    const { activityTaskScheduledEventAttributes: scheduled, activityTaskStartedEventAttributes: started } = event;
    const ended = event.activityTaskCompletedEventAttributes;
    const of = times.get(String(started?.scheduledEventId ?? ended?.scheduledEventId));
    if (scheduled) {
      const name = scheduled.activityType?.name ?? '';
      times.set(String(eventId), { name, scheduled: at, started: Number.NaN, completed: Number.NaN });
    }
    if (of && started) of.started = at;
    if (of && ended) of.completed = at;
  }
  return [...times.values()].filter(({ completed }) => !Number.isNaN(completed));
}

function rows(what: string, runs: Run[], aims: { totalMs?: number; ratio?: number }): BenchRow[] {
  const own = ({ answered, activities }: Run) =>
    sum(activities.map(({ started, completed }) => Math.min(completed, answered) - started));
  const total = median(runs.map(({ sent, answered }) => answered - sent));
  const ratio = median(runs.map((run) => (run.answered - run.sent) / own(run)));
  const row = (name: string, value: number, unit: string, aim?: number): BenchRow => ({
    name: `${what}: ${name}`,
    value: unit === 'ms' ? Math.round(value) : Math.round(value * 100) / 100,
    unit,
    aim: aim === undefined ? '' : `≤ ${aim}${unit === 'ms' ? ' ms' : ''}`,
    ok: aim === undefined || value <= aim,
  });
  return [
    row('webhook to answering URL', total, 'ms', aims.totalMs),
    row("its activities' own time", median(runs.map(own)), 'ms'),
    row("against its activities' own time", ratio, '×', aims.ratio),
  ];
}

/** Where the time goes: each activity, what lies before the first, and what no activity accounts for. Medians. */
function parts(what: string, runs: Run[]): BenchRow[] {
  const names = [...new Set(runs.flatMap(({ activities }) => activities.map(({ name }) => name)))];
  const firstStart = ({ activities }: Run) => Math.min(...activities.map(({ started }) => started));
  const took = (name: string) => (run: Run) =>
    sum(run.activities.filter((a) => a.name === name).map(({ started, completed }) => completed - started));
  const row = (name: string, of: (run: Run) => number): BenchRow => {
    return { name: `${what}: · ${name}`, value: Math.round(median(runs.map(of))), unit: 'ms', aim: '', ok: true };
  };
  return [
    row('webhook to first activity', (run) => firstStart(run) - run.sent),
    ...names.map((name) => row(name, took(name))),
    row('an activity waits for a worker', ({ activities }) => sum(activities.map((a) => a.started - a.scheduled))),
    row('no activity runs', idle),
  ];
}

/** Time between webhook and answer in which no activity ran at all: Temporal, the workflow, the webhook. */
function idle({ sent, answered, activities }: Run): number {
  let until = sent;
  let ms = 0;
  for (const { started, completed } of [...activities].sort((a, b) => a.started - b.started)) {
    ms += Math.max(0, started - until);
    until = Math.max(until, completed);
  }
  return ms + Math.max(0, answered - until);
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
