import { describe, expect, test } from 'vitest';
import { CliError, explainError } from '../../src/cli/errors.ts';
import { attemptOver, destroyOver, follow, plainShow } from '../../src/cli/follow.ts';
import type { PreviewStatus, StepStatus } from '../../src/workflows/messages.ts';

const base: PreviewStatus = {
  workflowId: 'preview/acme/hello/42',
  runId: 'r',
  source: { owner: 'acme', repo: 'hello', number: 42 },
  host: 'box',
  slug: 'hello-42',
  url: 'http://hello-42.preview.localhost',
  phase: 'building',
  desired: { open: true, sha: 'a', updatedAt: '', heldDown: false },
  desiredSha: 'a',
  deployments: [],
  steps: [],
  attempt: 2,
  story: [],
};

describe('an attempt is over', () => {
  const over = attemptOver(2);
  const cases: [string, Partial<PreviewStatus>, boolean | undefined][] = [
    ['not while it builds', {}, undefined],
    [
      'not because the one before it is live',
      { phase: 'live', lastAttempt: { number: 1, outcome: 'live' } },
      undefined,
    ],
    ['once it is live', { phase: 'live', lastAttempt: { number: 2, outcome: 'live' } }, true],
    [
      'once it failed, though an older commit serves',
      { phase: 'live', lastAttempt: { number: 2, outcome: 'failed' } },
      false,
    ],
    ['not when superseded: the next one carries on', { lastAttempt: { number: 2, outcome: 'superseded' } }, undefined],
    ['once the one that superseded it is live', { lastAttempt: { number: 3, outcome: 'live' } }, true],
    ['when it was destroyed meanwhile', { phase: 'gone', desired: { ...base.desired, open: false } }, false],
    ['when it was held down meanwhile', { phase: 'destroying', desired: { ...base.desired, heldDown: true } }, false],
    ['not while an earlier destroy still runs', { phase: 'destroying' }, undefined],
    ['when it waits for approval', { phase: 'awaiting-approval' }, false],
    [
      'not right after the approval',
      { phase: 'awaiting-approval', desired: { ...base.desired, approvedSha: 'a' } },
      undefined,
    ],
    ['when an undo is stuck', { phase: 'stuck' }, false],
  ];
  test.each(cases)('%s', (_, change, ok) => expect(over({ ...base, ...change })).toBe(ok));
});

describe('a destroy is over', () => {
  const unwanted = { ...base.desired, open: false };
  const cases: [string, Partial<PreviewStatus>, boolean | undefined][] = [
    ['not while it runs', { phase: 'destroying', desired: unwanted }, undefined],
    ['once nothing is left', { phase: 'gone', desired: unwanted }, true],
    ['once an open pull request is held down', { phase: 'gone', desired: { ...base.desired, heldDown: true } }, true],
    ['when an undo is stuck', { phase: 'stuck', desired: unwanted }, false],
    ['when a push wants it again', { phase: 'building' }, false],
  ];
  test.each(cases)('%s', (_, change, ok) => expect(destroyOver({ ...base, ...change })).toBe(ok));
});

const at = (ms: number) => new Date(1_000_000 + ms).toISOString();
const step = (change: Partial<StepStatus>): StepStatus => ({
  name: 'buildClosure',
  title: 'build closure',
  state: 'running',
  startedAt: at(0),
  ...change,
});

test('piped, each step is a line once it ends, and before when it takes long', () => {
  const lines: string[] = [];
  let now = 1_000_000;
  const show = plainShow(
    (line) => lines.push(line),
    () => now,
  );
  const show2 = (steps: StepStatus[], change: Partial<PreviewStatus> = {}) =>
    show.status({ ...base, ...change, steps });
  show2([], { phase: 'queued', place: 2 });
  show2([], { phase: 'queued', place: 2 });
  show2([], { phase: 'queued', place: 1 });
  show2([step({})]);
  now += 1500;
  show2([step({})]);
  show2([step({})]);
  show2([
    step({ state: 'done', ms: 2000 }),
    step({ name: 'allocateSlot', title: 'allocate slot', state: 'done', ms: 4 }),
  ]);
  show2([
    step({ state: 'done', ms: 2000 }),
    step({ name: 'allocateSlot', title: 'allocate slot', state: 'done', ms: 4 }),
  ]);
  expect(lines).toEqual([
    '  … queued, place 2',
    '  … queued, place 1',
    '  … build closure',
    '  ✓ build closure  2.0 s',
    '  ✓ allocate slot  4 ms',
  ]);
});

const silence = Object.assign(new Error('context deadline exceeded'), { code: 4 });

describe('following', () => {
  const quiet = { status() {}, end() {} };

  test('ends with the status that decided, and waits for a worker that restarts', async () => {
    const told = [
      base,
      silence,
      silence,
      { ...base, phase: 'live' as const, lastAttempt: { number: 2, outcome: 'live' as const } },
    ];
    const read = async () => {
      const next = told.shift();
      if (next instanceof Error || next === undefined) throw next;
      return next;
    };
    const outcome = await follow({ read, over: attemptOver(2), show: quiet, intervalMs: 1 });
    expect(outcome.ok).toBe(true);
    expect(outcome.status.phase).toBe('live');
  });

  test('gives up on a worker that stays silent, and says what to do', async () => {
    const read = async () => Promise.reject(silence);
    const following = follow({ read, over: attemptOver(2), show: quiet, intervalMs: 1, patienceMs: 20 });
    const error = await following.catch((e) => e);
    expect(error).toBeInstanceOf(CliError);
    expect(explainError(error)).toEqual({
      message: 'the worker does not answer',
      next: expect.stringContaining('tekton up'),
      exitCode: 1,
    });
  });

  test('any other error ends it at once', async () => {
    const read = async () => Promise.reject(new Error('boom'));
    await expect(follow({ read, over: attemptOver(2), show: quiet })).rejects.toThrow('boom');
  });
});
