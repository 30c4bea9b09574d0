/** What one preview's workflow remembers, and how it is told to people. All of it is plain data: continue-as-new carries it. */
import {
  ActivityFailure,
  ApplicationFailure,
  type SearchAttributeUpdatePair,
  TimeoutFailure,
} from '@temporalio/common';
import { setCurrentDetails, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow';
import { type Attempted, type Desired, nothingDesired } from '../domain/desired.ts';
import { nextStep } from '../domain/failures.ts';
import { type Phase, phases } from '../domain/phase.ts';
import type { Closure, DeploymentRef, PreviewRef, PreviewSource, RouteRecord, Slot } from '../domain/preview.ts';
import { duration } from '../domain/progress-page.ts';
import { searchAttributes } from '../domain/search-attributes.ts';
import type { DeploymentStatus, FailureReason, PreviewInput, PreviewStatus, StepStatus } from './messages.ts';

/** A deployment as far as it has come. */
export interface Deployment {
  number: number;
  ref: DeploymentRef;
  closure?: Closure;
  slot?: Slot;
  route?: RouteRecord;
  /** Epoch milliseconds until which a replaced deployment may finish its requests. */
  drainUntil?: number;
}

export interface PreviewState {
  workflowId: string;
  firstRunId: string;
  source: PreviewSource;
  host: string;
  chosenSlug?: string;
  slug: string;
  url?: string;
  phase: Phase;
  reason?: FailureReason;
  place?: number;
  desired: Desired;
  /** The newest attempt that was carried to its end, so that the same one is not made twice. */
  attempted?: Attempted;
  attempt: number;
  lastAttempt?: PreviewStatus['lastAttempt'];
  /** Attempts in a row that failed for a reason that may pass, and when to try again (epoch ms). */
  failures: number;
  retryAt?: number;
  deploymentCount: number;
  current?: Deployment;
  serving?: Deployment;
  /** Replaced deployments that drain, oldest first. */
  retired: Deployment[];
  builtSha?: string;
  buildLog?: string;
  /** Name of the preview's database on the host, once there is one. */
  database?: string;
  /** The fork's commit that was said to wait for approval. */
  awaiting?: string;
  /** Setup of the attempt in flight ran against the database that the previous deployment serves from. */
  schemaTouched?: boolean;
  /** Something of this preview may stand on the host. */
  stands: boolean;
  /** The end of an earlier run of this pull request was looked up. */
  acquainted: boolean;
  /** The services have credentials for GitHub, as far as is known. */
  github: boolean;
  /** GitHub should be asked. */
  ask: boolean;
  /** GitHub is being asked. */
  asking?: boolean;
  /** Times in a row that GitHub did not find the pull request. */
  missing: number;
  comment: { wanted?: string; posted?: string; id?: number };
  steps: StepStatus[];
  story: { at: string; text: string }[];
}

const storyLength = 60;

export function freshState(input: PreviewInput, candidate: string): PreviewState {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return {
    workflowId,
    firstRunId: firstExecutionRunId,
    source: input.source,
    host: input.host,
    chosenSlug: input.slug,
    slug: candidate,
    phase: 'queued',
    desired: nothingDesired,
    attempt: 0,
    failures: 0,
    deploymentCount: 0,
    retired: [],
    stands: false,
    acquainted: false,
    github: true,
    ask: input.source.number !== undefined,
    missing: 0,
    comment: {},
    steps: [],
    story: [],
  };
}

export function previewRefOf(s: PreviewState): PreviewRef {
  return { ...s.source, workflowId: s.workflowId, slug: s.slug };
}

/** Adds a line to the story that `tekton explain` and the Temporal web UI tell. */
export function tell(s: PreviewState, text: string): void {
  s.story.push({ at: new Date().toISOString(), text });
  if (s.story.length > storyLength) s.story.splice(0, s.story.length - storyLength);
  showDetails(s);
}

/** Enters a phase and shows it everywhere that people look. */
export function enter(s: PreviewState, phase: Phase, reason?: FailureReason): void {
  const changed = s.phase !== phase;
  s.phase = phase;
  s.reason = reason;
  s.place = undefined;
  if (changed && phase !== 'queued') {
    s.story.push({ at: new Date().toISOString(), text: phase });
  }
  showAttributes(s);
  showDetails(s);
  wantComment(s);
}

/** The phase of a deployment on its way: a preview that serves is `updating`, whatever the step. */
export function enterOnTheWay(s: PreviewState, phase: 'building' | 'starting' | 'queued', place = 0): void {
  enter(s, s.serving ? 'updating' : phase);
  s.place = place > 0 ? place : undefined;
  showDetails(s);
}

/** What each preview's attributes were set to last: every upsert is an event of the history and a write to the visibility store. */
const shown = new WeakMap<PreviewState, string>();

export function showAttributes(s: PreviewState): void {
  const attributes = attributesOf(s);
  const text = JSON.stringify(attributes.map(({ value }) => value));
  if (shown.get(s) === text) return;
  shown.set(s, text);
  upsertSearchAttributes(attributes);
}

function attributesOf(s: PreviewState): SearchAttributeUpdatePair[] {
  return [
    { key: searchAttributes.repo, value: `${s.source.owner}/${s.source.repo}`.toLowerCase() },
    { key: searchAttributes.pr, value: s.source.number ?? null },
    { key: searchAttributes.slug, value: s.slug },
    { key: searchAttributes.phase, value: s.phase },
    { key: searchAttributes.host, value: s.host },
    { key: searchAttributes.sha, value: s.desired.sha ?? null },
  ];
}

/** Begins a step that is shown to people; the answer ends it. */
export function beginStep(s: PreviewState, name: string, title: string, state: StepStatus['state'] = 'running') {
  const startedAt = Date.now();
  const step: StepStatus = { name, title, state, startedAt: new Date(startedAt).toISOString() };
  s.steps.push(step);
  showDetails(s);
  return (ended: 'done' | 'failed' | 'undone', note?: string) => {
    step.state = ended;
    step.ms = Date.now() - startedAt;
    if (note) step.note = note;
    showDetails(s);
  };
}

/** Any error as a person meets it: our typed failure when it is one, else what Temporal says. */
export function reasonOf(error: unknown): FailureReason {
  const cause = error instanceof ActivityFailure ? (error.cause ?? error) : error;
  if (cause instanceof ApplicationFailure) {
    const type = cause.type ?? 'Error';
    const tail = (cause.details ?? []).flat().filter((line): line is string => typeof line === 'string');
    return { type, message: cause.message, next: nextStep(type), tail: tail.length > 0 ? tail.slice(-20) : undefined };
  }
  if (cause instanceof TimeoutFailure) {
    return {
      type: 'Timeout',
      message: `${error instanceof Error ? error.message : ''}: ${cause.message}`,
      next: 'Is the worker of this host running? tekton doctor.',
    };
  }
  return { type: 'Error', message: cause instanceof Error ? cause.message : String(cause) };
}

/** What the one sticky comment should say now; in-between phases are folded, so that a deployment edits it twice. */
function wantComment(s: PreviewState): void {
  if (s.source.number === undefined || s.phase === 'queued' || s.phase === 'starting' || s.phase === 'destroying')
    return;
  s.comment.wanted = JSON.stringify({
    phase: s.phase,
    url: s.url,
    servedSha: s.serving?.ref.sha,
    sha: s.desired.sha,
    reason: s.reason?.message,
  });
}

export function statusOf(s: PreviewState): PreviewStatus {
  const { desired } = s;
  return {
    workflowId: s.workflowId,
    runId: workflowInfo().runId,
    source: s.source,
    host: s.host,
    slug: s.slug,
    url: s.url,
    phase: s.phase,
    reason: s.reason,
    place: s.place,
    desired: {
      open: desired.open,
      sha: desired.sha,
      updatedAt: desired.updatedAt,
      heldDown: desired.heldDown,
      approvedSha: desired.approvedSha,
    },
    desiredSha: desired.sha,
    builtSha: s.builtSha,
    servedSha: s.serving?.ref.sha,
    deployments: [
      ...s.retired.map((d) => deploymentStatus(d, 'draining')),
      ...(s.serving ? [deploymentStatus(s.serving, 'serving')] : []),
      ...(s.current ? [deploymentStatus(s.current, 'coming')] : []),
    ],
    steps: s.steps,
    attempt: s.attempt,
    lastAttempt: s.lastAttempt,
    buildLog: s.buildLog,
    story: s.story,
  };
}

function deploymentStatus(d: Deployment, state: DeploymentStatus['state']): DeploymentStatus {
  return { container: d.ref.container, number: d.number, sha: d.ref.sha, address: d.slot?.address, state };
}

/**
 * The workflow's page in the Temporal web UI, as Markdown: enough to know what is going on without anything else. Whatever others
 * wrote stands in code blocks: Markdown would take `<…>` for a tag, and `--` for a dash.
 */
export function detailsMarkdown(s: PreviewState): string {
  const short = (sha: string | undefined) => (sha ? `\`${sha.slice(0, 7)}\`` : '–');
  const mark = { running: '…', done: '✓', failed: '✗', undoing: '↶', undone: '↶' };
  const width = Math.max(0, ...s.steps.map(({ title }) => title.length));
  const steps = s.steps.map(({ state, title, ms }) =>
    `${mark[state]} ${title.padEnd(width)}  ${ms === undefined ? '' : duration(ms)}`.trimEnd(),
  );
  const story = s.story.slice(-15).map(({ at, text }) => `${at.slice(11, 19)}  ${text.split('\n')[0]}`);
  return [
    `**${s.phase}** – ${phaseMeaning(s)}${s.place ? ` (place ${s.place} in the queue)` : ''}`,
    ...(s.url ? [`[${s.url}](${s.url})`] : []),
    `| wanted | built | served |\n| --- | --- | --- |\n| ${short(s.desired.sha)} | ${short(s.builtSha)} | ${short(s.serving?.ref.sha)} |`,
    ...(s.reason ? section('Why, and what next', reasonLines(s.reason, s.slug)) : []),
    ...section(
      s.phase === 'destroying' || s.phase === 'gone' ? 'Steps of its end' : `Steps of attempt ${s.attempt}`,
      steps,
    ),
    ...section('What happened (UTC)', story),
  ].join('\n\n');
}

function phaseMeaning({ phase, reason, serving, desired }: PreviewState): string {
  return phase === 'live' && !reason && serving?.ref.sha === desired.sha ? 'the wanted commit serves' : phases[phase];
}

function reasonLines({ type, message, tail = [], next }: FailureReason, slug: string): string[] {
  return [
    `${type}: ${message}`,
    ...tail.map((line) => `| ${line}`),
    ...(next ? ['', next.replaceAll('<slug>', slug)] : []),
  ];
}

/** Title and code block; the fence is longer than any in the text. The web UI cuts long lines off, so they are folded. */
function section(title: string, lines: string[]): string[] {
  if (lines.length === 0) return [];
  const text = lines.join('\n').replace(/.{64}(?=.)/g, '$&\n');
  const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return [`**${title}**`, `${fence}text\n${text}\n${fence}`];
}

export function showDetails(s: PreviewState): void {
  setCurrentDetails(detailsMarkdown(s));
}
