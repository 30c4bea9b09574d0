import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CommentState } from '../../src/activities/contract.ts';
import { githubActivities } from '../../src/activities/github.ts';
import type { GitHubCredentials } from '../../src/config.ts';
import { commentMarker } from '../../src/domain/comment.ts';
import type { PullRequestTruth } from '../../src/domain/pull-request.ts';
import { createGitHub, webUrlOf } from '../../src/github/github.ts';
import { type FakeGitHub, rateLimited, startFakeGitHub } from '../support/fake-github.ts';

const sha = 'c'.repeat(40);
const pull = { owner: 'Acme', repo: 'shop', number: 42 };
const workflowId = 'preview/acme/shop/42';
const marker = commentMarker(workflowId);
const live: CommentState = { phase: 'live', url: 'http://shop-42.preview.localhost', servedSha: sha, sha };

let fake: FakeGitHub;
beforeEach(async () => {
  // Small pages, so that every search has to turn them.
  fake = await startFakeGitHub({ pageSize: 2 });
  fake.setPull({ ...pull, action: 'opened', sha, updatedAt: new Date('2026-01-02T03:04:05Z') });
});
afterEach(() => fake.close());

function activities(credentials: GitHubCredentials | undefined = { kind: 'token', token: 'ghp_test' }) {
  const config = { githubCredentials: credentials, githubApiUrl: fake.url };
  return githubActivities({ github: createGitHub(config) });
}
/** A real activity context, without the SDK's lines about activities that are meant to fail. */
const context = () => new MockActivityEnvironment(undefined, { logger: new DefaultLogger('ERROR') });
const truth = (of = activities()): Promise<PullRequestTruth> => context().run(of.readPullRequest, pull);
const comment = (
  of: ReturnType<typeof activities>,
  state: CommentState,
  commentId?: number,
): Promise<{ commentId?: number }> => context().run(of.upsertComment, { ...pull, workflowId, state, commentId });
const writes = () => fake.requests.filter((line) => !line.startsWith('GET'));

describe('readPullRequest', () => {
  test('an open pull request', async () => {
    expect(await truth()).toEqual({
      kind: 'known',
      state: { open: true, sha, updatedAt: '2026-01-02T03:04:05Z', fork: false, action: 'truth' },
    });
  });

  test('a closed one from a fork that was deleted', async () => {
    fake.setPull({ ...pull, action: 'closed', sha, headRepo: null, updatedAt: new Date('2026-01-02T03:04:06Z') });
    expect(await truth()).toEqual({
      kind: 'known',
      state: { open: false, sha, updatedAt: '2026-01-02T03:04:06Z', fork: true, action: 'truth' },
    });
  });

  test('404, while the repository is still read: missing', async () => {
    fake.removePull('Acme', 'shop', 42);
    expect(await truth()).toEqual({ kind: 'missing' });
  });

  test('404 of the repository too: unavailable, never closed', async () => {
    fake.removeRepo('Acme/shop');
    expect(await truth()).toEqual({
      kind: 'unavailable',
      reason: expect.stringMatching(/^Acme\/shop can't be read: GitHub answered 404/),
    });
  });

  test('a token that may not read pull requests is told 404 for each: unavailable', async () => {
    fake.fail(/GET .*\/pulls\/42/, { status: 404, body: { message: 'Not Found' } });
    fake.fail(/GET .*\/pulls\?/, {
      status: 403,
      body: { message: 'Resource not accessible by personal access token' },
    });
    expect(await truth()).toMatchObject({ kind: 'unavailable' });
  });

  test.each([
    ['a wrong token', { status: 401, body: { message: 'Bad credentials' } }, /401: Bad credentials/],
    ['an outage', { status: 502, body: 'oops' }, /502/],
    ['a connection that breaks', { status: 0, hangUp: true }, /does not answer/],
    ['a proxy that answers for it', { status: 200, body: '<html>' }, /not a pull request/],
    ['an hour without quota', rateLimited(3_000), /403: API rate limit exceeded/],
  ])('%s: unavailable at once', async (_name, answer, reason) => {
    fake.fail(/pulls/, answer);
    const started = Date.now();
    expect(await truth()).toEqual({ kind: 'unavailable', reason: expect.stringMatching(reason) });
    expect(Date.now() - started).toBeLessThan(6_000);
  });

  test('one blip is mended', async () => {
    fake.fail(/pulls/, { status: 502, body: 'oops' }, 1);
    expect(await truth()).toMatchObject({ kind: 'known' });
  });

  test('without credentials nothing is asked', async () => {
    const none = githubActivities({ github: createGitHub({ githubApiUrl: fake.url }) });
    expect(await truth(none)).toEqual({ kind: 'unavailable', reason: 'there are no GitHub credentials' });
    expect(await comment(none, live)).toEqual({});
    expect(fake.requests).toEqual([]);
  });

  test('a cancelled activity does not wait for an answer', async () => {
    fake.fail(/pulls/, { status: 200, delay: 3_000, body: '{}' });
    const env = context();
    const answer = env.run(activities().readPullRequest, pull);
    setTimeout(() => env.cancel(), 100);
    await expect(answer).rejects.toThrow(/CANCELLED/i);
  });
});

describe('upsertComment', () => {
  test('is made once, then edited in place, and only when it differs', async () => {
    const github = activities();
    const { commentId } = await comment(github, { phase: 'building', sha });
    expect(fake.comments).toHaveLength(1);
    expect(await comment(github, { phase: 'building', sha }, commentId)).toEqual({ commentId });
    expect(writes()).toHaveLength(1);

    expect(await comment(github, live, commentId)).toEqual({ commentId });
    expect(fake.comments).toMatchObject([{ id: commentId, edits: 1 }]);
    expect(fake.comments[0]?.body).toContain('http://shop-42.preview.localhost');
    expect(fake.comments[0]?.body).toContain(`${fake.url}/Acme/shop/commit/${sha}`);
  });

  test('is found by its marker on a later page when no id is known', async () => {
    for (let n = 0; n < 5; n += 1) fake.addComment('acme/shop#42', `talk ${n}`, { id: 1, login: 'someone' });
    const ours = fake.addComment('acme/shop#42', `${marker}\n\nold`);
    expect(await comment(activities(), live)).toEqual({ commentId: ours.id });
    expect(ours.edits).toBe(1);
    expect(fake.comments).toHaveLength(6);
  });

  test("somebody else's comment with our marker is not ours", async () => {
    const theirs = fake.addComment('acme/shop#42', `${marker}\n\nclick here`, { id: 666, login: 'mallory' });
    const { commentId } = await comment(activities(), live);
    expect(commentId).not.toBe(theirs.id);
    expect(theirs.edits).toBe(0);
  });

  test('is made again when somebody deleted it', async () => {
    const { commentId } = await comment(activities(), live, 999_999);
    expect(fake.comments).toMatchObject([{ id: commentId }]);
  });

  test('is not made to tell that a preview is gone; one that exists is edited', async () => {
    expect(await comment(activities(), { phase: 'gone' })).toEqual({ commentId: undefined });
    expect(fake.comments).toEqual([]);
    const ours = fake.addComment('acme/shop#42', `${marker}\n\nold`);
    expect(await comment(activities(), { phase: 'gone' })).toEqual({ commentId: ours.id });
    expect(ours.body).toContain('**gone**');
  });

  test('a lost answer does not make two: the next attempt finds the first', async () => {
    // The comment is made, the answer is a 502.
    fake.fail(/^POST/, { status: 502, body: 'oops' }, 1);
    const github = activities();
    await expect(comment(github, live)).rejects.toMatchObject({ type: 'GitHubUnavailable', nonRetryable: false });
    expect(writes()).toHaveLength(1);
    fake.addComment('acme/shop#42', `${marker}\n\nmade all the same`);
    await comment(github, live);
    expect(fake.comments).toHaveLength(1);
  });

  test('a locked conversation is refused for good', async () => {
    fake.fail(/^POST/, { status: 403, body: { message: 'Unable to create comment because issue is locked.' } });
    await expect(comment(activities(), live)).rejects.toMatchObject({
      type: 'GitHubRefused',
      nonRetryable: true,
      message: expect.stringMatching(
        /^The comment on Acme\/shop#42 was not written: GitHub answered 403: Unable to create/,
      ),
    });
  });

  test('a used-up quota is waited for by Temporal, not by the worker', async () => {
    fake.fail(/comments/, rateLimited(600));
    const failed = await comment(activities(), live).catch((error: unknown) => error);
    expect(failed).toMatchObject({ type: 'GitHubUnavailable', nonRetryable: false });
    const delay = Number((failed as { nextRetryDelay: number }).nextRetryDelay);
    expect(delay).toBeGreaterThan(500_000);
    expect(delay).toBeLessThan(700_000);
  });
});

describe('as a GitHub App', () => {
  let folder: string;
  let credentials: GitHubCredentials;
  beforeEach(async () => {
    await fake.close();
    folder = await mkdtemp(join(tmpdir(), 'tekton-app-'));
    const keys = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    });
    const privateKeyPath = join(folder, 'app.pem');
    await writeFile(privateKeyPath, keys.privateKey, { mode: 0o600 });
    credentials = { kind: 'app', appId: 77, installationId: 88, privateKeyPath };
    fake = await startFakeGitHub({ app: { id: 77, installationId: 88, publicKey: keys.publicKey } });
    fake.setPull({ ...pull, action: 'opened', sha });
  });
  afterEach(() => rm(folder, { recursive: true }));

  test('reads, comments, and lends git its token', async () => {
    const github = createGitHub({ githubCredentials: credentials, githubApiUrl: fake.url });
    expect(await github?.gitToken()).toMatch(/^ghs_installation/);
    const app = githubActivities({ github });
    expect(await truth(app)).toMatchObject({ kind: 'known' });
    const { commentId } = await comment(app, live);
    expect(fake.comments).toMatchObject([{ id: commentId, performed_via_github_app: { id: 77 } }]);
    // Found again by its author.
    expect(await comment(app, live)).toEqual({ commentId });
    expect(fake.requests.filter((line) => line.includes('access_tokens'))).toHaveLength(1);
  });
});

test('no credentials, no GitHub; a token is what git is lent', async () => {
  expect(createGitHub({ githubApiUrl: fake.url })).toBeUndefined();
  const github = createGitHub({ githubApiUrl: fake.url, githubCredentials: { kind: 'token', token: 'ghp_x' } });
  expect(await github?.gitToken()).toBe('ghp_x');
});

test.each([
  ['https://api.github.com', 'https://github.com'],
  ['https://ghe.example.com/api/v3', 'https://ghe.example.com'],
  ['https://api.acme.ghe.com', 'https://acme.ghe.com'],
  ['http://127.0.0.1:4000', 'http://127.0.0.1:4000'],
])('%s is read by people at %s', (api, page) => expect(webUrlOf(api)).toBe(page));
