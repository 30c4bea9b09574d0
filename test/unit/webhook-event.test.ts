import { describe, expect, test } from 'vitest';
import { interpret } from '../../src/domain/webhook-event.ts';
import { type PullRequestFacts, pullRequestPayload } from '../../src/github/payload.ts';
import { exampleEvents, examplesOf } from '../support/payloads.ts';

const config = { host: 'box', allowedRepos: ['acme/*'] };
const sha = 'd'.repeat(40);
const facts: PullRequestFacts = {
  owner: 'Acme',
  repo: 'Shop',
  number: 42,
  action: 'opened',
  sha,
  updatedAt: new Date('2026-01-02T03:04:05.678Z'),
};
const told = (payload: unknown, event = 'pull_request') => interpret({ event, delivery: 'd-1', payload }, config);
const ours = (change: Partial<PullRequestFacts> = {}) => told(pullRequestPayload({ ...facts, ...change }));

test('an opened pull request', () => {
  expect(ours()).toEqual({
    kind: 'signal',
    startable: true,
    input: { source: { owner: 'Acme', repo: 'Shop', number: 42 }, host: 'box' },
    event: {
      owner: 'Acme',
      repo: 'Shop',
      number: 42,
      open: true,
      sha,
      updatedAt: '2026-01-02T03:04:05Z',
      fork: false,
      action: 'opened',
      delivery: 'd-1',
    },
  });
});

test.each([
  ['Acme/Shop', false],
  ['acme/shop', false],
  ['mallory/Shop', true],
  // The fork was deleted.
  [null, true],
])('the head in %s: fork %s', (headRepo, fork) => {
  expect(ours({ headRepo })).toMatchObject({ kind: 'signal', event: { fork } });
});

test.each(['opened', 'reopened', 'synchronize', 'ready_for_review', 'closed'])('%s is told', (action) => {
  expect(ours({ action })).toMatchObject({ kind: 'signal', event: { action, open: action !== 'closed' } });
});

test.each([
  'labeled',
  'unlabeled',
  'edited',
  'assigned',
  'unassigned',
  'locked',
  'unlocked',
  'review_requested',
  'review_request_removed',
  'converted_to_draft',
  'auto_merge_enabled',
  'enqueued',
  'milestoned',
  'constructor',
])('%s never builds', (action) => {
  expect(ours({ action })).toEqual({
    kind: 'ignored',
    reason: `"${action}" does not change which commit is previewed`,
  });
});

test('the state decides, not the action: an `opened` that was overtaken by its own close', () => {
  const payload = pullRequestPayload(facts);
  payload.pull_request.state = 'closed';
  expect(told(payload)).toMatchObject({ kind: 'signal', event: { open: false } });
});

test('times are compared as text: always whole seconds of UTC', () => {
  const payload = pullRequestPayload(facts);
  payload.pull_request.updated_at = '2026-01-02T05:04:05.9+02:00';
  expect(told(payload)).toMatchObject({ event: { updatedAt: '2026-01-02T03:04:05Z' } });
});

test('a repository that is not allowed: only its close is told, and starts nothing', () => {
  expect(ours({ owner: 'other' })).toEqual({ kind: 'ignored', reason: 'other/Shop is not in ALLOWED_REPOS' });
  expect(ours({ owner: 'other', action: 'closed' })).toMatchObject({ kind: 'signal', startable: false });
  expect(ours({ action: 'closed' })).toMatchObject({ kind: 'signal', startable: true });
});

test.each(exampleEvents.filter((event) => event !== 'pull_request'))('%s is none of ours', (event) => {
  for (const payload of examplesOf(event)) expect(told(payload, event).kind).toBe('ignored');
});

describe('malformed', () => {
  const change = (edit: (payload: ReturnType<typeof pullRequestPayload>) => void) => {
    const payload = structuredClone(pullRequestPayload(facts));
    edit(payload);
    return told(payload);
  };
  test.each<[string, () => unknown]>([
    ['the body', () => told([])],
    ['the body', () => told(null)],
    ['action', () => told({})],
    ['repository', () => told({ action: 'opened' })],
    [
      'repository.name',
      () =>
        change((p) => {
          p.repository.name = '..';
        }),
    ],
    [
      'repository.name',
      () =>
        change((p) => {
          p.repository.name = 'a b';
        }),
    ],
    [
      'repository.owner.login',
      () =>
        change((p) => {
          p.repository.owner.login = '../etc';
        }),
    ],
    [
      'pull_request.head.sha',
      () =>
        change((p) => {
          p.pull_request.head.sha = 'HEAD; rm -rf /';
        }),
    ],
    [
      'pull_request.number',
      () =>
        change((p) => {
          p.pull_request.number = 0;
        }),
    ],
    [
      'pull_request.number',
      () =>
        change((p) => {
          p.pull_request.number = 1.5;
        }),
    ],
    [
      'pull_request.state',
      () =>
        change((p) => {
          p.pull_request.state = 'merged';
        }),
    ],
    [
      'pull_request.updated_at',
      () =>
        change((p) => {
          p.pull_request.updated_at = 'yesterday';
        }),
    ],
  ])('%s is named', (field, tell) => {
    expect(tell()).toEqual({ kind: 'malformed', reason: expect.stringContaining(`${field}: `) });
  });
});
