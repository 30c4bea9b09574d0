import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { pullRequestPayload, signedDelivery } from '../../src/github/payload.ts';
import { freePort, type TemporalServer, temporalServer } from '../support/temporal-server.ts';
import { startTestWebhook, type TestWebhook } from '../support/webhook.ts';

let server: TemporalServer;
let webhook: TestWebhook;
let child: ChildProcess | undefined;

beforeAll(async () => {
  server = await temporalServer();
  webhook = await startTestWebhook(server.env);
});
afterAll(async () => {
  child?.kill('SIGKILL');
  await webhook?.close();
  await server?.close();
});

let number = 0;
function payload() {
  number += 1;
  return pullRequestPayload({ owner: 'acme', repo: 'shop', number, action: 'opened', sha: 'f'.repeat(40) });
}
const ready = () => fetch(`${webhook.url}/ready`);

/** 503 with Retry-After, before the 5 seconds that are promised. */
async function expectUnrecorded(answering: Promise<Response>) {
  const started = Date.now();
  const answer = await answering;
  expect(answer.status).toBe(503);
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await answer.json()).toEqual({ status: 'error', reason: expect.stringContaining('Redeliver') });
  expect(Date.now() - started).toBeLessThan(5_000);
}

/** Accepted again without a restart of the webhook, before GitHub's operator could wonder. */
async function expectRecovery() {
  await vi.waitFor(async () => expect((await webhook.post('pull_request', payload())).status).toBe(202), {
    timeout: 15_000,
    interval: 100,
  });
  await vi.waitFor(async () => expect((await ready()).status).toBe(200), 10_000);
}

test('started before Temporal: alive, not ready, nothing accepted; then everything by itself', async () => {
  expect((await fetch(`${webhook.url}/health`)).status).toBe(200);
  const notReady = await ready();
  expect(notReady.status).toBe(503);
  expect(await notReady.json()).toEqual({ status: 'not ready', reason: expect.stringContaining(server.address) });
  await expectUnrecorded(webhook.post('pull_request', payload()));
  // What needs no Temporal is answered all the same.
  expect((await webhook.post('push', {})).status).toBe(200);

  await server.start();
  await expectRecovery();
  // Said once, not once a second.
  expect(webhook.logs.filter((line) => line.msg === 'Temporal is set up')).toHaveLength(1);
});

test('a Temporal that hangs: 503 in time; and SIGTERM waits for what is in flight', async () => {
  const port = await freePort();
  child = spawn(process.execPath, ['--import', 'tsx', 'test/support/webhook-process.ts'], {
    stdio: 'ignore',
    env: {
      PATH: process.env.PATH,
      ...server.env,
      GITHUB_WEBHOOK_SECRET: 's',
      PREVIEW_DOMAIN: 'preview.localhost',
      ALLOWED_REPOS: '*',
      WEBHOOK_PORT: String(port),
    },
  });
  const own = `http://127.0.0.1:${port}`;
  await vi.waitFor(async () => expect((await fetch(`${own}/ready`)).status).toBe(200), 15_000);

  server.freeze();
  try {
    const { body, headers } = signedDelivery('pull_request', payload(), 's');
    const inFlight = fetch(`${own}/webhook/github`, { method: 'POST', body, headers });
    const both = [expectUnrecorded(inFlight), expectUnrecorded(webhook.post('pull_request', payload()))];
    setTimeout(() => child?.kill('SIGTERM'), 500);
    const exited = once(child, 'exit');
    await Promise.all(both);
    expect(await exited).toEqual([0, null]);
  } finally {
    server.thaw();
  }
  await expectRecovery();
});

test('a Temporal that was killed and has forgotten everything is set up again', async () => {
  await server.forget();
  await server.start();
  await expectRecovery();
});
