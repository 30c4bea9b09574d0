/** What a visitor of a preview sees while nothing serves. A pure function of its state; everything is escaped. */
import type { Phase } from './phase.ts';

export interface ProgressStep {
  /** The activity's type. */
  name: string;
  /** What a person reads. */
  title: string;
  state: 'running' | 'done' | 'failed';
  /** ISO 8601, when the step began. */
  at: string;
  /** Milliseconds, once ended. */
  ms?: number;
}

export interface ProgressState {
  /** The preview's slug. */
  label: string;
  phase: Phase;
  /** The commit on its way; absent until it is known. */
  sha?: string;
  /** The preview's public address. */
  url?: string;
  /** Why it failed or waits. */
  reason?: string;
  steps: ProgressStep[];
  /** ISO 8601, when this was written. */
  at: string;
}

/** Phases in which the page changes by itself soon; in the others it looks again less often. */
const moving: ReadonlySet<Phase> = new Set<Phase>(['queued', 'building', 'starting', 'updating', 'live', 'destroying']);

/** What a phase means to a visitor, who knows nothing of closures and slots. */
const meanings: Record<Phase, string> = {
  queued: 'it waits for its turn',
  'awaiting-approval': 'it comes from a fork; somebody has to approve this exact commit',
  building: 'this commit is being built',
  starting: 'the app is being started',
  live: 'the app is about to answer here',
  updating: 'the app is about to answer here',
  failed: 'it could not be brought up',
  destroying: 'it is being taken away',
  stuck: 'it is being taken away, which takes longer than it should',
  gone: 'nothing is left',
};

/** The whole page as HTML: no script, no resource from elsewhere; it refreshes itself. */
export function progressPage(state: ProgressState): string {
  const { label, phase, sha, reason, steps } = state;
  const title = `${label}: ${phase}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta http-equiv="refresh" content="${moving.has(phase) ? 2 : 15}">
<title>${escapeHtml(title)}</title>
<style>
:root { color-scheme: light dark; --text: #1c2024; --quiet: #60646c; --line: #e0e1e6; --ground: #fcfcfd; --good: #18794e; --bad: #c62a2f; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --quiet: #b0b4ba; --line: #363a3f; --ground: #111113; --good: #3dd68c; --bad: #ff9592; } }
body { margin: 0 auto; max-width: 38rem; padding: 12vh 1.25rem 3rem; font: 1rem/1.55 system-ui, sans-serif; color: var(--text); background: var(--ground); }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
p { margin: .4rem 0 0; color: var(--quiet); }
code { font: .9em ui-monospace, monospace; }
pre { margin: 1.25rem 0 0; padding: .8rem 1rem; border: 1px solid var(--line); border-left: 3px solid var(--bad); border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, monospace; }
ol { margin: 1.5rem 0 0; padding: 0; list-style: none; }
li { display: flex; gap: .75rem; padding: .45rem 0; border-top: 1px solid var(--line); }
li span:first-child { flex: 0 0 1.1em; }
li span:nth-child(2) { flex: 1; }
li span:last-child { color: var(--quiet); font-variant-numeric: tabular-nums; }
.done span:first-child { color: var(--good); }
.failed span:first-child { color: var(--bad); }
</style>
</head>
<body>
<h1>${escapeHtml(label)}</h1>
<p><strong>${escapeHtml(phase)}</strong>: ${escapeHtml(meanings[phase] ?? '')}${sha ? ` · commit <code>${escapeHtml(sha.slice(0, 12))}</code>` : ''}</p>
${reason ? `<pre>${escapeHtml(reason.slice(0, 4000))}</pre>\n` : ''}${steps.length > 0 ? `<ol>\n${steps.map(stepItem).join('')}</ol>\n` : ''}<p>${moving.has(phase) ? 'This page looks again by itself.' : 'Nothing changes here until somebody acts; the page looks again by itself.'}</p>
</body>
</html>
`;
}

const marks = { running: '…', done: '✓', failed: '✗' } as const;

function stepItem({ title, state, ms }: ProgressStep): string {
  const time = ms === undefined ? '' : duration(ms);
  return `<li class="${marks[state] ? state : 'running'}"><span>${marks[state] ?? '…'}</span><span>${escapeHtml(title)}</span><span>${time}</span></li>\n`;
}

/** Milliseconds as a person reads them: `40 ms`, `1.2 s`, `2 min 5 s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
}

/** Text as HTML text or as the value of a quoted attribute. */
export function escapeHtml(text: string): string {
  const named: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (character) => named[character] ?? '');
}
