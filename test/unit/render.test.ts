import { describe, expect, test } from 'vitest';
import {
  age,
  duration,
  printable,
  renderAgent,
  renderAgents,
  renderFailure,
  renderList,
  renderLive,
  renderStatus,
  renderStory,
} from '../../src/cli/render.ts';
import type { PreviewStatus } from '../../src/workflows/messages.ts';

const now = Date.parse('2026-03-04T10:00:20.000Z');
const sha1 = '1111111111111111111111111111111111111111';
const sha2 = '2222222222222222222222222222222222222222';

const live: PreviewStatus = {
  workflowId: 'preview/acme/hello/42',
  runId: 'r1',
  source: { owner: 'acme', repo: 'hello', number: 42 },
  host: 'box',
  slug: 'hello-42',
  url: 'http://hello-42.preview.localhost:8480',
  phase: 'live',
  desired: { open: true, sha: sha1, updatedAt: '2026-03-04T10:00:00Z', heldDown: false },
  desiredSha: sha1,
  builtSha: sha1,
  servedSha: sha1,
  deployments: [{ container: 'pabcdefghij', number: 1, sha: sha1, address: '127.100.0.3', state: 'serving' }],
  steps: [
    { name: 'buildClosure', title: 'build closure', state: 'done', startedAt: '2026-03-04T10:00:00.000Z', ms: 1234 },
    { name: 'allocateSlot', title: 'allocate slot', state: 'done', startedAt: '2026-03-04T10:00:01.300Z', ms: 12 },
  ],
  attempt: 1,
  lastAttempt: { number: 1, sha: sha1, outcome: 'live' },
  buildLog: '/state/log',
  story: [
    { at: '2026-03-04T10:00:00.000Z', text: 'the pull request was opened at 1111111' },
    { at: '2026-03-04T10:00:05.000Z', text: '1111111 answers at http://hello-42.preview.localhost:8480' },
  ],
};

const reason = {
  type: 'BuildFailed',
  message: 'npm ended with exit code 1.',
  next: 'Read the log: tekton preview logs <slug> --build.',
  tail: ['npm error missing script', '\x1b[31mred\x1b[0m \x07bell'],
};

const failed: PreviewStatus = {
  ...live,
  phase: 'failed',
  reason,
  builtSha: undefined,
  servedSha: undefined,
  deployments: [],
  steps: [
    {
      name: 'buildClosure',
      title: 'build closure',
      state: 'failed',
      startedAt: '2026-03-04T10:00:00.000Z',
      ms: 900,
      note: 'npm ended with exit code 1.',
    },
    { name: 'undo', title: 'end the build', state: 'undone', startedAt: '2026-03-04T10:00:01.000Z', ms: 3 },
  ],
  lastAttempt: { number: 1, sha: sha1, outcome: 'failed', reason },
};

const text = (lines: string[]) => `\n${lines.join('\n')}\n`;

describe('status', () => {
  test('of a preview that serves', () =>
    expect(text(renderStatus(live, now))).toBe(`
hello-42   live
  url        http://hello-42.preview.localhost:8480
  source     acme/hello#42
  commit     11111111 (serving)
  host       box
  container  pabcdefghij (serving, 11111111)

Steps of attempt 1
  ✓ build closure  1.2 s
  ✓ allocate slot  12 ms
`));

  test('of one that failed: reason, last lines of its log, what to do, no terminal codes', () =>
    expect(text(renderStatus(failed, now))).toBe(`
hello-42   failed
  url        http://hello-42.preview.localhost:8480
  source     acme/hello#42
  commit     11111111 (wanted)
  host       box
  reason     BuildFailed: npm ended with exit code 1.
             | npm error missing script
             | red bell
  next       Read the log: tekton preview logs hello-42 --build.

Steps of attempt 1
  ✗ build closure  900 ms  npm ended with exit code 1.
  ↶ end the build  3 ms
`));

  test('of one in the queue', () =>
    expect(
      renderStatus({ ...failed, phase: 'queued', place: 3, reason: undefined, lastAttempt: undefined }, now)[0],
    ).toBe('hello-42   queued, place 3'));
});

describe('the story', () => {
  test('of a preview that serves', () =>
    expect(text(renderStory(live, now, ['build log   /state/log']))).toBe(`
hello-42 is acme/hello#42 on host box.
It is live: it serves the wanted commit.
Its address: http://hello-42.preview.localhost:8480

What happened
  10:00:00  the pull request was opened at 1111111
  10:00:05  1111111 answers at http://hello-42.preview.localhost:8480

Steps of attempt 1
  ✓ build closure  1.2 s
  ✓ allocate slot  12 ms

Commits
  wanted  ${sha1}
  built   ${sha1}
  served  ${sha1}

Read more
  build log   /state/log
`));

  test('of one that failed says why and what next', () =>
    expect(text(renderStory(failed, now).slice(-7))).toBe(`
Why
  BuildFailed: npm ended with exit code 1.
  | npm error missing script
  | red bell

What next
  Read the log: tekton preview logs hello-42 --build.
`));

  test('of one whose reason has several lines stays in its column', () => {
    const story = [{ at: '2026-03-04T10:00:05.000Z', text: 'it failed:\nsrc/page.ts: no' }];
    expect(text(renderStory({ ...live, story }, now).slice(4, 7))).toBe(`
What happened
  10:00:05  it failed:
            src/page.ts: no
`);
  });

  test('of one that is gone names no address', () => {
    const gone: PreviewStatus = {
      ...live,
      phase: 'gone',
      servedSha: undefined,
      builtSha: undefined,
      desiredSha: undefined,
      steps: [],
    };
    expect(text(renderStory(gone, now))).toBe(`
hello-42 is acme/hello#42 on host box.
It is gone: nothing is left.

What happened
  10:00:00  the pull request was opened at 1111111
  10:00:05  1111111 answers at http://hello-42.preview.localhost:8480
`);
  });

  test('held down by hand', () =>
    expect(renderStory({ ...live, phase: 'gone', desired: { ...live.desired, heldDown: true } }, now)[1]).toBe(
      'It is gone: destroyed by hand; held down until it is pushed to, reopened or created.',
    ));

  test('over several days has dates', () =>
    expect(
      renderStory({ ...live, story: [{ at: '2026-03-03T23:59:59.000Z', text: 'a' }, ...live.story] }, now),
    ).toContain('  2026-03-03 23:59:59  a'));
});

describe('what goes to stderr after a failure', () => {
  test('of a first deployment', () =>
    expect(text(renderFailure(failed))).toBe(`
hello-42 failed: BuildFailed: npm ended with exit code 1.
  | npm error missing script
  | red bell
Read the log: tekton preview logs hello-42 --build.
`));

  test('of an update: the last good commit keeps serving', () =>
    expect(text(renderFailure({ ...failed, phase: 'live', servedSha: sha1, desiredSha: sha2 }))).toBe(`
hello-42 could not be updated: BuildFailed: npm ended with exit code 1.
  | npm error missing script
  | red bell
Commit 11111111 keeps serving at http://hello-42.preview.localhost:8480
Read the log: tekton preview logs hello-42 --build.
`));

  test("of a fork's commit: the very command that approves it", () =>
    expect(
      text(renderFailure({ ...failed, phase: 'awaiting-approval', reason: undefined, lastAttempt: undefined })),
    ).toBe(`
hello-42 is awaiting-approval: from a fork; waits for approval of this exact commit
Approve exactly this commit: tekton preview approve hello-42 --sha ${sha1}
`));
});

describe('lists', () => {
  test('of previews', () =>
    expect(
      text(
        renderList(
          [
            {
              slug: 'hello-42',
              phase: 'live',
              sha: sha1,
              url: live.url,
              source: 'acme/hello#42',
              workflowId: 'w',
              startedAt: '2026-03-04T09:00:20Z',
            },
            {
              slug: 'shop-main',
              phase: 'building',
              source: 'acme/shop@main',
              workflowId: 'v',
              startedAt: '2026-03-04T10:00:00Z',
            },
          ],
          now,
        ),
      ),
    ).toBe(`
SLUG       PHASE     COMMIT    AGE  SOURCE          URL
hello-42   live      11111111  1h   acme/hello#42   http://hello-42.preview.localhost:8480
shop-main  building  -         20s  acme/shop@main  -
`));

  test('of one that was destroyed by hand while its pull request is open', () =>
    expect(
      renderList(
        [
          {
            slug: 'a-1',
            phase: 'gone',
            heldDown: true,
            source: 'a/a#1',
            workflowId: 'w',
            startedAt: '2026-03-04T10:00:00Z',
          },
        ],
        now,
      )[1],
    ).toBe('a-1   held down  -       20s  a/a#1   -'));

  test('that are empty say how to begin', () => {
    expect(renderList([], now)).toEqual([
      'No previews. Open a pull request, or make one by hand: tekton preview create <owner/repo> <branch>',
    ]);
    expect(renderAgents([], now)).toEqual(['No agents. Make one: tekton agent create <name>']);
  });

  test('of agents', () =>
    expect(
      text(renderAgents([{ name: 'ada', phase: 'live', host: 'box', startedAt: '2026-03-02T10:00:20Z' }], now)),
    ).toBe(`
NAME  PHASE  AGE  HOST
ada   live   2d   box
`));
});

test('one agent', () =>
  expect(
    text(
      renderAgent({
        workflowId: 'agent/ada',
        name: 'ada',
        host: 'box',
        phase: 'live',
        container: 'aabcdefghij',
        address: '127.100.0.5',
      }),
    ),
  ).toBe(`
ada   live
  container  aabcdefghij
  address    127.100.0.5
  host       box
`));

test('the live block: spinner, seconds, no line wider than the terminal', () => {
  const steps = [
    ...live.steps,
    {
      name: 'probePublic',
      title: 'probe the public address',
      state: 'running' as const,
      startedAt: '2026-03-04T10:00:15.000Z',
      note: 'x'.repeat(80),
    },
  ];
  const lines = renderLive({ ...live, phase: 'updating', steps }, now - 20_000, now, 3, 50);
  expect(text(lines)).toBe(`
hello-42   updating   20 s
  ✓ build closure             1.2 s
  ✓ allocate slot             12 ms
  ⠸ probe the public address  5.0 s  xxxxxxxxxxx…
`);
  expect(lines.every((line) => line.length < 50)).toBe(true);
});

test('durations and ages as a person says them', () => {
  expect([3, 999, 1000, 9_949, 59_400, 185_000, 7_800_000].map(duration)).toEqual([
    '3 ms',
    '999 ms',
    '1.0 s',
    '9.9 s',
    '59 s',
    '3 min 5 s',
    '2 h 10 min',
  ]);
  expect(age('2026-03-04T10:00:21Z', now)).toBe('0s');
  expect(age('2026-03-01T10:00:20Z', now)).toBe('3d');
});

test("nothing of an app's output drives the terminal", () =>
  expect(printable('a\x1b[2Jb\x1b]0;title\x07c\rd\x9be\tf\ng')).toBe('ab]0;titlecde  f\ng'));
