/** Everything the command line prints about a preview, as pure functions from values to lines; tested whole as text. */
import { phases } from '../domain/phase.ts';
import type { AgentStatus, FailureReason, PreviewStatus, StepStatus } from '../workflows/messages.ts';
import { describeSource } from './target.ts';

/** One line of `tekton preview list`. */
export interface PreviewRow {
  slug: string;
  phase: string;
  sha?: string;
  url?: string;
  host?: string;
  source: string;
  workflowId: string;
  /** ISO 8601. */
  startedAt: string;
  /** Destroyed by hand while its pull request is open. */
  heldDown?: boolean;
}

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const marks = { running: '…', done: '✓', failed: '✗', undoing: '↶', undone: '↶' } as const;

/** The first eight digits of a commit. */
export const shortSha = (sha: string | undefined): string => (sha ? sha.slice(0, 8) : '-');

/** A span of time as a person says it: `340 ms`, `1.2 s`, `48 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** How long ago: `12s`, `5m`, `3h`, `2d`. */
export function age(since: string, now: number): string {
  const s = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86_400)}d`;
}

/** Text of an app or a pull request's author without the control characters that would drive the reader's terminal. */
export function printable(text: string): string {
  return text.replace(terminalSequence, '').replace(/\t/g, '  ').replace(controlCharacter, '');
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
const terminalSequence = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;
// All but the end of a line.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
const controlCharacter = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/g;

/** Columns padded to their widest cell; the last column is not padded. */
export function table(head: string[], rows: string[][]): string[] {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => (row[i] ?? '').length)));
  return all.map((row) =>
    row.map((cell, i) => (i === head.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  '),
  );
}

/** `tekton preview list`. */
export function renderList(rows: PreviewRow[], now: number): string[] {
  if (rows.length === 0) {
    return ['No previews. Open a pull request, or make one by hand: tekton preview create <owner/repo> <branch>'];
  }
  return table(
    ['SLUG', 'PHASE', 'COMMIT', 'AGE', 'SOURCE', 'URL'],
    rows.map((row) => [
      row.slug,
      row.heldDown ? 'held down' : row.phase,
      shortSha(row.sha),
      age(row.startedAt, now),
      row.source,
      row.url ?? '-',
    ]),
  );
}

/** `tekton agent list`. */
export function renderAgents(
  rows: { name: string; phase: string; host?: string; startedAt: string }[],
  now: number,
): string[] {
  if (rows.length === 0) return ['No agents. Make one: tekton agent create <name>'];
  return table(
    ['NAME', 'PHASE', 'AGE', 'HOST'],
    rows.map((row) => [row.name, row.phase, age(row.startedAt, now), row.host ?? '-']),
  );
}

/** One agent, after `agent create`. */
export function renderAgent(status: AgentStatus): string[] {
  return [
    `${status.name}   ${status.phase}`,
    ...fields([
      ['container', status.container],
      ['address', status.address],
      ['host', status.host],
      ...reasonFields(status.reason, status.name),
    ]),
  ];
}

/** `tekton preview status`. */
export function renderStatus(status: PreviewStatus, now: number): string[] {
  return [
    `${status.slug}   ${phaseWords(status)}`,
    ...fields([
      ['url', status.url],
      ['source', describeSource(status.source)],
      ['commit', commitWords(status)],
      ['host', status.host],
      ['container', status.deployments.map((d) => `${d.container} (${d.state}, ${shortSha(d.sha)})`).join(', ')],
      ...reasonFields(failureOf(status), status.slug),
    ]),
    ...(status.steps.length > 0 ? ['', stepsTitle(status), ...renderSteps(status.steps, now)] : []),
  ];
}

/**
 * `tekton preview explain`: what happened, in order, where it stands, why, and what to do next.
 *
 * @param more where to read more, such as the address of the workflow in Temporal's web UI
 */
export function renderStory(status: PreviewStatus, now: number, more: string[] = []): string[] {
  const why = failureOf(status);
  const days = new Set(status.story.map((s) => s.at.slice(0, 10)));
  const clock = (at: string) => (days.size > 1 ? at.slice(0, 19).replace('T', ' ') : at.slice(11, 19));
  return [
    `${status.slug} is ${describeSource(status.source)} on host ${status.host}.`,
    `It is ${status.phase}: ${phaseMeaning(status)}.`,
    ...(status.url && status.phase !== 'gone' ? [`Its address: ${status.url}`] : []),
    ...section(
      'What happened',
      status.story.flatMap((s) => {
        const [first, ...more] = printable(s.text).split('\n');
        return [`${clock(s.at)}  ${first}`, ...more.map((line) => `${' '.repeat(clock(s.at).length)}  ${line}`)];
      }),
    ),
    ...section(
      stepsTitle(status),
      renderSteps(status.steps, now).map((line) => line.slice(2)),
    ),
    ...section('Commits', [
      ...(status.desiredSha ? [`wanted  ${status.desiredSha}`] : []),
      ...(status.builtSha ? [`built   ${status.builtSha}`] : []),
      ...(status.servedSha ? [`served  ${status.servedSha}`] : []),
    ]),
    ...section('Why', why ? [...reasonText(why).split('\n'), ...tailLines(why).map((line) => line.slice(2))] : []),
    ...section('What next', nextWords(status)),
    ...section('Read more', more),
  ];
}

/** The steps of an attempt, one a line. `frame` turns the spinner of those that run. */
export function renderSteps(steps: StepStatus[], now: number, frame?: number): string[] {
  const width = Math.max(0, ...steps.map((s) => s.title.length));
  return steps.map((step) => stepLine(step, now, width, frame));
}

/** One step: mark, title, how long, note. */
export function stepLine(step: StepStatus, now: number, width = 0, frame?: number): string {
  const active = step.state === 'running' || step.state === 'undoing';
  const mark = active && frame !== undefined ? frames[frame % frames.length] : marks[step.state];
  const ms = step.ms ?? (active ? now - Date.parse(step.startedAt) : undefined);
  // No word for what is undone: "release hostnames … undone" reads as if it had been taken back.
  const word = step.state === 'undoing' ? 'undoing' : undefined;
  const rest = [ms === undefined ? undefined : duration(ms), word, step.note && printable(step.note).split('\n')[0]];
  return `  ${mark} ${step.title.padEnd(width)}  ${rest.filter(Boolean).join('  ')}`.trimEnd();
}

/** The block that is redrawn in place while a preview is followed on a terminal; no line is wider than `columns`. */
export function renderLive(
  status: PreviewStatus,
  started: number,
  now: number,
  frame: number,
  columns: number,
): string[] {
  const head = `${status.slug}   ${phaseWords(status)}   ${duration(now - started)}`;
  return [head, ...renderSteps(status.steps, now, frame)].map((line) => cut(line, columns));
}

/** Why it failed, the last lines of its log, and what to do: what goes to stderr. */
export function renderFailure(status: PreviewStatus): string[] {
  const reason = failureOf(status);
  const stays =
    status.servedSha && status.phase === 'live'
      ? [`Commit ${shortSha(status.servedSha)} keeps serving at ${status.url}`]
      : [];
  const [first = '', ...more] = reason ? reasonText(reason).split('\n') : [phases[status.phase]];
  return [
    `${status.slug} ${failureVerb(status)}: ${first}`,
    ...more.map((line) => `  | ${line}`),
    ...tailLines(reason),
    ...stays,
    ...nextWords(status),
  ];
}

function failureVerb({ phase, lastAttempt }: PreviewStatus): string {
  if (phase === 'live') return 'could not be updated';
  return phase !== 'stuck' && lastAttempt?.outcome === 'failed' ? 'failed' : `is ${phase}`;
}

/** Why the preview is as it is, or why its newest attempt failed while an older commit serves. */
function failureOf(status: PreviewStatus): FailureReason | undefined {
  if (status.phase === 'gone') return undefined;
  if (status.reason) return status.reason;
  return status.lastAttempt?.outcome === 'failed' ? status.lastAttempt.reason : undefined;
}

function reasonText(reason: FailureReason): string {
  return printable(`${reason.type}: ${reason.message}`);
}

function tailLines(reason: FailureReason | undefined): string[] {
  return (reason?.tail ?? []).map((line) => `  | ${printable(line)}`);
}

function nextWords(status: PreviewStatus): string[] {
  if (status.phase === 'awaiting-approval') {
    return [`Approve exactly this commit: tekton preview approve ${status.slug} --sha ${status.desiredSha ?? '<sha>'}`];
  }
  const next = failureOf(status)?.next;
  return next ? [next.replaceAll('<slug>', status.slug)] : [];
}

function stepsTitle({ phase, attempt }: PreviewStatus): string {
  return phase === 'destroying' || phase === 'gone' ? 'Steps of its end' : `Steps of attempt ${attempt}`;
}

function phaseWords(status: PreviewStatus): string {
  if (status.phase === 'queued' && status.place) return `queued, place ${status.place}`;
  return status.phase;
}

function phaseMeaning({ phase, desired, servedSha, desiredSha, lastAttempt }: PreviewStatus): string {
  if (phase === 'live' && lastAttempt?.outcome === 'failed')
    return 'the last good commit serves; the newest attempt failed';
  if (phase === 'live' && servedSha === desiredSha) return 'it serves the wanted commit';
  if (phase === 'gone' && desired.heldDown)
    return 'destroyed by hand; held down until it is pushed to, reopened or created';
  return phases[phase];
}

function commitWords(status: PreviewStatus): string {
  const served = status.servedSha;
  const wanted = status.desiredSha;
  if (served && served === wanted) return `${shortSha(served)} (serving)`;
  return [served && `${shortSha(served)} (serving)`, wanted && `${shortSha(wanted)} (wanted)`]
    .filter(Boolean)
    .join(', ');
}

function reasonFields(reason: FailureReason | undefined, slug: string): [string, string | undefined][] {
  if (!reason) return [];
  return [
    [
      'reason',
      [...reasonText(reason).split('\n'), ...tailLines(reason).map((line) => line.slice(2))].join(
        `\n${' '.repeat(13)}`,
      ),
    ],
    ['next', reason.next?.replaceAll('<slug>', slug)],
  ];
}

function fields(pairs: [string, string | undefined][]): string[] {
  return pairs.filter(([, value]) => value).map(([name, value]) => `  ${name.padEnd(9)}  ${value}`);
}

function section(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)];
}

function cut(line: string, columns: number): string {
  return line.length < columns ? line : `${line.slice(0, Math.max(0, columns - 2))}…`;
}
