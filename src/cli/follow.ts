import { setTimeout as sleep } from 'node:timers/promises';
import type { PreviewStatus, StepStatus } from '../workflows/messages.ts';
import { CliError, isSilentWorker, isUnavailable, workerSilent } from './errors.ts';
import { renderLive, stepLine } from './render.ts';

/** What following came to: `ok` when the preview is as it was asked to be. */
export interface Outcome {
  ok: boolean;
  status: PreviewStatus;
}

export interface FollowOptions {
  /** Asks the workflow; may throw while the worker is away. */
  read: () => Promise<PreviewStatus>;
  /** Decides from a status whether it is over; undefined while it isn't. */
  over: (status: PreviewStatus) => boolean | undefined;
  /** Shows each status as it comes. */
  show: Show;
  /** Says how the workflow ended when it isn't running any more; asked now and then. */
  ended?: () => Promise<string | undefined>;
  intervalMs?: number;
  /** How long the worker may be silent (it may be restarting). */
  patienceMs?: number;
}

/** Where statuses are shown; `end` leaves the screen tidy. */
export interface Show {
  status(status: PreviewStatus): void;
  end(status?: PreviewStatus): void;
}

/**
 * Polls the preview's status and shows its steps as they happen, until `over` decides. A worker that restarts meanwhile is waited for.
 *
 * @throws CliError when the worker stays silent, or the workflow ended without an answer
 */
export async function follow(options: FollowOptions): Promise<Outcome> {
  const { read, over, show, ended, intervalMs = 250, patienceMs = 30_000 } = options;
  let heard = Date.now();
  let looked = Date.now();
  let last: PreviewStatus | undefined;
  try {
    for (;;) {
      try {
        last = await read();
        heard = Date.now();
        show.status(last);
        const ok = over(last);
        if (ok !== undefined) return { ok, status: last };
      } catch (error) {
        if (!isSilentWorker(error) && !isUnavailable(error)) throw error;
        if (Date.now() - heard > patienceMs) throw new CliError(workerSilent.message, workerSilent.next, error);
      }
      if (ended && Date.now() - looked > 3000) {
        looked = Date.now();
        const how = await ended().catch(() => undefined);
        if (how && last?.phase !== 'gone') {
          throw new CliError(
            `the workflow of ${last?.slug ?? 'this preview'} is ${how}`,
            'Make the preview again: tekton preview create.',
          );
        }
      }
      await sleep(intervalMs);
    }
  } finally {
    show.end(last);
  }
}

/**
 * Over once attempt `attempt` has ended: true when what it brought up serves. A superseded attempt is carried on by the next one. A
 * preview that keeps serving an older commit after a failed attempt counts as failed.
 */
export function attemptOver(attempt: number): (status: PreviewStatus) => boolean | undefined {
  return (status) => {
    const { lastAttempt } = status;
    if (lastAttempt && lastAttempt.number >= attempt && lastAttempt.outcome !== 'superseded') {
      return lastAttempt.outcome === 'live';
    }
    return wontCome(status) ? false : undefined;
  };
}

/** True when nobody works on the attempt any more: destroyed by another hand, stuck, or waiting for somebody's approval. */
function wontCome({ phase, desired, desiredSha }: PreviewStatus): boolean {
  if (phase === 'stuck') return true;
  // Right after it was accepted the phase may still be the old one; what is desired is already new.
  if (phase === 'gone' || phase === 'destroying') return !desired.open || desired.heldDown;
  return phase === 'awaiting-approval' && desired.approvedSha !== desiredSha;
}

/**
 * Over once nothing is left. False when an undo is stuck (it is still retried), or when somebody wants the preview again meanwhile.
 */
export function destroyOver({ phase, desired }: PreviewStatus): boolean | undefined {
  if (phase === 'gone') return true;
  return phase === 'stuck' || (desired.open && !desired.heldDown) ? false : undefined;
}

/** In-place on a terminal, plain lines when piped. Always stderr, so that stdout holds the result alone. */
export function showOn(stream: NodeJS.WriteStream = process.stderr): Show {
  return stream.isTTY ? liveShow(stream) : plainShow((line) => stream.write(`${line}\n`));
}

/** Steps as plain lines: one when a step ends, and one before when it takes longer than a second. */
export function plainShow(print: (line: string) => void, now: () => number = Date.now): Show {
  const shown = new Map<string, string>();
  const once = (key: string, value: string, line: string) => {
    if (shown.get(key) === value) return;
    shown.set(key, value);
    print(line);
  };
  return {
    status(status) {
      if (status.phase === 'queued' && status.place) {
        once('queued', String(status.place), `  … queued, place ${status.place}`);
      }
      for (const step of status.steps) {
        const ended = step.ms !== undefined;
        if (!ended && now() - Date.parse(step.startedAt) < 1000) continue;
        const line = ended ? stepLine(step, now()) : `  … ${step.title}`;
        once(stepKey(step), step.state, line);
      }
    },
    end() {},
  };
}

/** Steps redrawn in place, with a spinner and the seconds so far. */
function liveShow(stream: NodeJS.WriteStream): Show {
  const started = Date.now();
  let frame = 0;
  let drawn = 0;
  let latest: PreviewStatus | undefined;
  const draw = () => {
    if (!latest) return;
    const rows = Math.max(3, (stream.rows || 24) - 1);
    const lines = renderLive(latest, started, Date.now(), frame++, stream.columns || 80);
    const visible = lines.length > rows ? [lines[0] ?? '', ...lines.slice(-(rows - 1))] : lines;
    // Up to the block's first line, then each line anew with the rest of the old one erased.
    stream.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}${visible.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
    drawn = visible.length;
  };
  const spinner = setInterval(draw, 100);
  return {
    status(status) {
      latest = status;
      draw();
    },
    end(status) {
      clearInterval(spinner);
      latest = status ?? latest;
      draw();
    },
  };
}

const stepKey = (step: StepStatus) => `${step.name} ${step.startedAt}`;
