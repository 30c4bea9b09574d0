/**
 * Bench (a): from a signed webhook to an answering URL, for an app without a build, on the whole stack as `tekton up` starts it.
 *
 * What Tekton adds is measured against the preview's own activities. Their sum counts each activity from its start to its end in
 * the workflow's history, in full however many run beside each other, and of what still runs when the URL first answers only the part
 * before that. GitHub's own (comment, asking for the truth) are no part of the way there and are left out.
 *
 * Alone: `npm run bench -- --only a`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { visit } from '../../src/cli/demo/visitor.ts';
import { previewWorkflowId } from '../../src/domain/preview.ts';
import { textApp } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import { type BenchRow, median } from './row.ts';

const rounds = 7;
/** A reload shares one with those of the second before it: what is measured is a pull request that comes by itself. */
const betweenRoundsMs = 1500;
const pollMs = 4;
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
    const pr = (number: number): PullRequest => ({ owner: 'bench', repo: 'app', number });
    // Not counted: code is compiled, the mirror is made, Caddy has loaded once.
    await bringUp(rig, pr(1), 'opened', 'zero');
    const opens: Run[] = [];
    const pushes: Run[] = [];
    for (let n = 2; n < 2 + rounds; n++) {
      await sleep(betweenRoundsMs);
      opens.push(await bringUp(rig, pr(n), 'opened', 'one'));
    }
    for (let n = 2; n < 2 + rounds; n++) {
      await sleep(betweenRoundsMs);
      pushes.push(await bringUp(rig, pr(n), 'synchronize', 'two'));
    }
    return [...rows('open', opens, { totalMs: 2500, ratio: 1.25 }), ...rows('push', pushes, {})];
  } finally {
    await rig.close();
  }
}

/** Pushes a commit, tells of it as GitHub does, and asks its address until it answers with that commit. */
async function bringUp(rig: RealStack, pr: PullRequest, action: string, text: string): Promise<Run> {
  const sha = await rig.git.push(`${pr.owner}/${pr.repo}`, textApp(`${text} ${pr.number}`), {
    branch: `change-${pr.number}`,
    pull: pr.number,
  });
  const url = rig.url(`${pr.repo}-${pr.number}`);
  const sent = Date.now();
  const { status } = await rig.deliver(pr, action, sha);
  if (status !== 202) throw new Error(`the webhook answered ${status}`);
  for (;;) {
    const answer = await visit(url).catch(() => undefined);
    if (answer?.status === 200 && answer.headers['x-tekton-sha'] === sha) break;
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
    ...parts(runs).map(({ name, ms }) => row(name, ms, 'ms')),
  ];
}

/** Where the time goes: each activity, and what lies before the first, between two, and after the last. Medians. */
function parts(runs: Run[]): { name: string; ms: number }[] {
  const names = [...new Set(runs.flatMap(({ activities }) => activities.map(({ name }) => name)))];
  const firstStart = ({ activities }: Run) => Math.min(...activities.map(({ started }) => started));
  /** From an activity's schedule to its start: a worker fetches it. */
  const fetched = ({ activities }: Run) => sum(activities.map(({ scheduled, started }) => started - scheduled));
  return [
    { name: '  webhook to first activity', ms: median(runs.map((run) => firstStart(run) - run.sent)) },
    ...names.map((name) => ({
      name: `  ${name}`,
      ms: median(
        runs.map(({ activities }) =>
          sum(activities.filter((a) => a.name === name).map(({ started, completed }) => completed - started)),
        ),
      ),
    })),
    { name: '  waiting for a worker, all activities', ms: median(runs.map(fetched)) },
    { name: '  no activity running', ms: median(runs.map(idle)) },
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
