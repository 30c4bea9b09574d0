import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Connection } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { decodeTypedSearchAttributes } from '@temporalio/common/lib/converter/payload-search-attributes.js';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { PullRequestEvent } from '../../src/domain/pull-request.ts';
import { searchAttributes } from '../../src/domain/search-attributes.ts';
import { type PullRequestFacts, pullRequestPayload } from '../../src/github/payload.ts';
import { connectTemporal, type Temporal } from '../../src/temporal/connection.ts';
import {
  createThemByHand,
  ensureSearchAttributes,
  missingSearchAttributes,
} from '../../src/temporal/search-attributes.ts';
import { exampleEvents, examplesOf, signedDelivery } from '../support/payloads.ts';
import { type TemporalServer, temporalServer } from '../support/temporal-server.ts';
import { secret, startTestWebhook, type TestWebhook } from '../support/webhook.ts';

const sha = 'e'.repeat(40);
let server: TemporalServer;
let temporal: Temporal;
let webhook: TestWebhook;
let lastNumber = 0;

beforeAll(async () => {
  server = await temporalServer();
  await server.start();
  temporal = await connectTemporal(server.env);
  webhook = await startTestWebhook(server.env);
  await vi.waitFor(async () => expect((await fetch(`${webhook.url}/ready`)).status).toBe(200), 10_000);
});
afterAll(async () => {
  await webhook?.close();
  await temporal?.connection.close();
  await server?.close();
});

/** A pull request that no other test has. */
function facts(change: Partial<PullRequestFacts> = {}): PullRequestFacts {
  lastNumber += 1;
  return { owner: 'Acme', repo: 'Shop', number: lastNumber, action: 'opened', sha, ...change };
}

/** What Temporal has recorded: the signals of a workflow, oldest first. Empty when there is no such workflow. */
async function signals(workflowId: string): Promise<PullRequestEvent[]> {
  const history = await temporal.client.workflow
    .getHandle(workflowId)
    .fetchHistory()
    .catch(() => undefined);
  return (history?.events ?? [])
    .map((event) => event.workflowExecutionSignaledEventAttributes?.input?.payloads?.[0])
    .filter((payload) => payload != null)
    .map((payload) => defaultPayloadConverter.fromPayload<PullRequestEvent>(payload));
}

describe('an opened pull request', () => {
  test('is accepted once Temporal has it', async () => {
    const { number } = facts();
    const payload = pullRequestPayload(facts({ number, updatedAt: new Date('2026-01-02T03:04:05Z') }));
    const answer = await webhook.post('pull_request', payload, { delivery: 'de11-0001' });
    expect(answer.status).toBe(202);
    const workflowId = `preview/acme/shop/${number}`;
    expect(await answer.json()).toEqual({ status: 'accepted', workflowId, slug: `shop-${number}` });

    expect(await signals(workflowId)).toEqual([
      {
        owner: 'Acme',
        repo: 'Shop',
        number,
        open: true,
        sha,
        updatedAt: '2026-01-02T03:04:05Z',
        fork: false,
        action: 'opened',
        delivery: 'de11-0001',
      },
    ]);
    const { raw, ...description } = await temporal.client.workflow.getHandle(workflowId).describe();
    expect(description).toMatchObject({ type: 'previewWorkflow', taskQueue: 'tekton', status: { name: 'RUNNING' } });
    const attributes = decodeTypedSearchAttributes(raw.workflowExecutionInfo?.searchAttributes?.indexedFields);
    const found = Object.fromEntries(attributes.getAll().map(({ key, value }) => [key.name, value]));
    expect(found).toMatchObject({
      TektonRepo: 'acme/shop',
      TektonPr: number,
      TektonSlug: `shop-${number}`,
      TektonPhase: 'queued',
      TektonHost: 'box',
      TektonSha: sha,
    });
    const start = (await temporal.client.workflow.getHandle(workflowId).fetchHistory()).events?.[0];
    const [input] = start?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
    expect(input && defaultPayloadConverter.fromPayload(input)).toEqual({
      source: { owner: 'Acme', repo: 'Shop', number },
      host: 'box',
    });
  });

  test('redelivered, pushed to and closed is one workflow', async () => {
    const first = facts();
    const workflowId = `preview/acme/shop/${first.number}`;
    for (const action of ['opened', 'opened', 'synchronize', 'closed']) {
      const answer = await webhook.post('pull_request', pullRequestPayload({ ...first, action }));
      expect(answer.status).toBe(202);
    }
    expect((await signals(workflowId)).map((event) => event.action)).toEqual([
      'opened',
      'opened',
      'synchronize',
      'closed',
    ]);
  });

  test('fifty at once are fifty workflows', async () => {
    const many = Array.from({ length: 50 }, () => facts({ repo: 'many' }));
    const answers = await Promise.all(many.map((each) => webhook.post('pull_request', pullRequestPayload(each))));
    expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([202]));
    const ids = await Promise.all(
      answers.map(async (answer) => ((await answer.json()) as { workflowId: string }).workflowId),
    );
    expect(new Set(ids).size).toBe(50);
  });

  test('with a big title in every script is recorded, without its title', async () => {
    const big = facts({
      title: `👩‍💻 "quotes" \u0000 \u2028 ${'日本語'.repeat(200_000)}`,
      branch: 'feature/ünïcode-🌍',
    });
    const answer = await webhook.post('pull_request', pullRequestPayload(big));
    expect(answer.status).toBe(202);
    expect(JSON.stringify(await signals(`preview/acme/shop/${big.number}`)).length).toBeLessThan(500);
  });
});

describe("GitHub's own examples", () => {
  const told = new Set(['opened', 'reopened', 'synchronize', 'ready_for_review', 'closed']);
  const all = examplesOf('pull_request').map((payload, n) => ({ n, action: String(payload.action), payload }));

  test.each(all)('pull_request $n: $action', async ({ action, payload }) => {
    const answer = await webhook.post('pull_request', payload);
    if (told.has(action)) {
      expect(answer.status).toBe(202);
      expect(await answer.json()).toEqual({
        status: 'accepted',
        workflowId: 'preview/codertocat/hello-world/2',
        slug: 'hello-world-2',
      });
    } else {
      expect(answer.status).toBe(200);
      expect(await answer.json()).toEqual({ status: 'ignored', reason: expect.stringContaining(`"${action}"`) });
    }
  });

  test('every other event is ignored', async () => {
    for (const event of exampleEvents.filter((name) => name !== 'pull_request')) {
      for (const payload of examplesOf(event)) {
        const answer = await webhook.post(event, payload);
        expect(answer.status).toBe(200);
        expect(await answer.json()).toEqual({ status: 'ignored', reason: expect.stringContaining(event) });
      }
    }
  });
});

describe('a repository that is not allowed', () => {
  test('its pull requests are ignored, and a close without a preview too', async () => {
    for (const action of ['opened', 'synchronize', 'closed']) {
      const foreign = facts({ owner: 'other', action });
      const answer = await webhook.post('pull_request', pullRequestPayload(foreign));
      expect(answer.status).toBe(200);
      expect(await answer.json()).toMatchObject({
        status: 'ignored',
        reason: expect.stringContaining('ALLOWED_REPOS'),
      });
      expect(await signals(`preview/other/shop/${foreign.number}`)).toEqual([]);
    }
  });

  test('its close still reaches a preview that stands, and never starts one', async () => {
    const stale = facts();
    await webhook.post('pull_request', pullRequestPayload(stale));
    const strict = await startTestWebhook({ ...server.env, ALLOWED_REPOS: 'somebody/else' });
    try {
      const close = pullRequestPayload({ ...stale, action: 'closed' });
      const workflowId = `preview/acme/shop/${stale.number}`;
      const answer = await strict.post('pull_request', close);
      expect(answer.status).toBe(202);
      expect(await answer.json()).toEqual({ status: 'accepted', workflowId, slug: `shop-${stale.number}` });
      expect((await signals(workflowId)).map((event) => event.open)).toEqual([true, false]);

      await temporal.client.workflow.getHandle(workflowId).terminate();
      expect((await strict.post('pull_request', close)).status).toBe(200);
      expect((await temporal.client.workflow.getHandle(workflowId).describe()).status.name).toBe('TERMINATED');
    } finally {
      await strict.close();
    }
  });

  test('an empty list means none, and the log says so', async () => {
    const none = await startTestWebhook({ ...server.env, ALLOWED_REPOS: '' });
    const answer = await none.post('pull_request', pullRequestPayload(facts()));
    expect([answer.status, none.logs.some((line) => String(line.msg).includes('ALLOWED_REPOS is empty'))]).toEqual([
      200,
      true,
    ]);
    await none.close();
  });

  test('the close of an allowed one that was never seen leaves a tombstone', async () => {
    const closed = facts({ action: 'closed' });
    expect((await webhook.post('pull_request', pullRequestPayload(closed))).status).toBe(202);
    expect(await signals(`preview/acme/shop/${closed.number}`)).toMatchObject([{ open: false }]);
  });
});

describe('what is refused', () => {
  const payload = () => pullRequestPayload(facts());
  const signed = (body: string | Buffer, change: Record<string, string> = {}) => ({
    ...signedDelivery('pull_request', {}, secret).headers,
    'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    ...change,
  });
  async function refused(answer: Response, status: number, reason: RegExp) {
    expect(answer.status).toBe(status);
    expect(await answer.json()).toEqual({ status: 'error', reason: expect.stringMatching(reason) });
  }

  test('401: no signature, a wrong one, the old SHA-1 one, another secret', async () => {
    const { body, headers } = signedDelivery('pull_request', payload(), secret);
    const { 'x-hub-signature-256': signature = '', ...without } = headers;
    await refused(await webhook.send(body, without), 401, /is missing/);
    const sha1 = `sha1=${createHmac('sha1', secret).update(body).digest('hex')}`;
    await refused(await webhook.send(body, { ...without, 'x-hub-signature': sha1 }), 401, /is missing/);
    await refused(await webhook.send(`${body} `, headers), 401, /does not match/);
    await refused(await webhook.send(body.slice(0, -1), headers), 401, /does not match/);
    await refused(
      await webhook.send(body, { ...headers, 'x-hub-signature-256': signature.slice(0, -2) }),
      401,
      /does not/,
    );
    await refused(await webhook.post('pull_request', payload(), { secret: 'other' }), 401, /GITHUB_WEBHOOK_SECRET/);
    await refused(await webhook.send('', without), 401, /is missing/);
  });

  test('401 comes before anything is said of the type or the content', async () => {
    for (const type of ['application/x-www-form-urlencoded', 'no type at all', '']) {
      await refused(
        await webhook.send('payload=x', { 'content-type': type, 'x-github-event': 'pull_request' }),
        401,
        /missing/,
      );
    }
  });

  test('415: form-encoded, and which setting to change', async () => {
    const body = `payload=${encodeURIComponent(JSON.stringify(payload()))}`;
    const form = signed(body, { 'content-type': 'application/x-www-form-urlencoded' });
    await refused(await webhook.send(body, form), 415, /set "Content type" to application\/json/);
    await refused(await webhook.send('{}', signed('{}', { 'content-type': 'not a type' })), 415, /"not\?a\?type"/);
  });

  test('a charset on the type does not matter', async () => {
    const { body, headers } = signedDelivery('pull_request', payload(), secret);
    const answer = await webhook.send(body, { ...headers, 'content-type': 'Application/JSON; charset=utf-8' });
    expect(answer.status).toBe(202);
  });

  test('400: not JSON, not UTF-8, no event, a field that is missing', async () => {
    await refused(await webhook.send('{"action":', signed('{"action":')), 400, /not JSON/);
    const bytes = Buffer.from([0x22, 0xff, 0x22]);
    await refused(await webhook.send(bytes, signed(bytes)), 400, /not JSON in UTF-8/);
    const { 'x-github-event': _, ...noEvent }: Record<string, string> = signed('{}');
    await refused(await webhook.send('{}', noEvent), 400, /X-GitHub-Event/);
    const broken = structuredClone(payload()) as { pull_request: { head: { sha?: string } } };
    delete broken.pull_request.head.sha;
    await refused(await webhook.post('pull_request', broken), 400, /^pull_request\.head\.sha: /);
  });

  test.each(['with its length', 'chunked'])('413: 26 MB %s, and nothing is kept of it', async (how) => {
    const body = Buffer.alloc(26 * 1024 * 1024, 'x');
    const headers: Record<string, string | number> = signed(body);
    if (how === 'with its length') headers['content-length'] = body.length;
    const { status, text } = await postRaw(webhook.url, headers, body);
    expect(status).toBe(413);
    expect(JSON.parse(text)).toEqual({ status: 'error', reason: 'the body is larger than 26214400 bytes' });
  });

  test('exactly 25 MB is read', async () => {
    const body = Buffer.alloc(25 * 1024 * 1024, ' ');
    body.write('{"zen":1}');
    const { status } = await postRaw(webhook.url, signed(body, { 'x-github-event': 'ping' }), body);
    expect(status).toBe(200);
  });

  test('a body that breaks off is not recorded, and the next delivery is answered', async () => {
    const cut = facts();
    const { body, headers } = signedDelivery('pull_request', pullRequestPayload(cut), secret, 'de11-cut');
    const socket = connect(Number(new URL(webhook.url).port), '127.0.0.1');
    const lines = Object.entries({ host: 'x', ...headers, 'content-length': String(body.length) });
    socket.write(`POST /webhook/github HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`);
    socket.end(body.slice(0, body.length / 2));
    socket.resume();
    await once(socket, 'close');
    await expect
      .poll(() => webhook.logs.filter((line) => line.delivery === 'de11-cut'))
      .toMatchObject([{ result: 'broken-off' }]);
    expect(await signals(`preview/acme/shop/${cut.number}`)).toEqual([]);
    expect((await webhook.post('pull_request', payload())).status).toBe(202);
  });
});

describe('the rest of the table', () => {
  test('alive, ready, and Prometheus', async () => {
    expect(await (await fetch(`${webhook.url}/health`)).json()).toEqual({ status: 'alive' });
    expect(await (await fetch(`${webhook.url}/ready`)).json()).toEqual({ status: 'ready' });
    const metrics = await fetch(`${webhook.url}/metrics`);
    expect(metrics.headers.get('content-type')).toContain('text/plain');
    const text = await metrics.text();
    expect(text).toMatch(/^tekton_webhook_deliveries_total\{result="accepted"\} [1-9]/m);
    expect(text).toMatch(/^tekton_webhook_deliveries_total\{result="too-large"\} [1-9]/m);
    expect(text).toMatch(/^tekton_webhook_signature_failures_total [1-9]/m);
    expect(text).toMatch(/^tekton_webhook_recording_seconds_count\{outcome="recorded"\} [1-9]/m);
    expect(text).toMatch(/^process_resident_memory_bytes /m);
  });

  test.each([
    ['GET', '/webhook/github', 405, 'POST'],
    ['HEAD', '/webhook/github', 405, 'POST'],
    ['PUT', '/webhook/github?x=1', 405, 'POST'],
    ['POST', '/health', 405, 'GET, HEAD'],
    ['GET', '/webhook', 404, null],
    ['POST', '/', 404, null],
    ['GET', '/webhook/github/../../etc/passwd', 404, null],
  ])('%s %s: %i', async (method, path, status, allow) => {
    const answer = await fetch(`${webhook.url}${path}`, { method });
    expect([answer.status, answer.headers.get('allow')]).toEqual([status, allow]);
    if (method !== 'HEAD') expect(await answer.json()).toMatchObject({ status: 'error' });
  });

  test('every line about a delivery bears its id', async () => {
    await webhook.post('pull_request', pullRequestPayload(facts()), { delivery: 'de11-good' });
    await webhook.post('push', {}, { delivery: 'de11-push' });
    await webhook.post('pull_request', {}, { delivery: 'de11-bad', secret: 'wrong' });
    const about = (id: string) => webhook.logs.filter((line) => line.delivery === id);
    expect(about('de11-good')).toMatchObject([
      { result: 'accepted', status: 202, repo: 'Acme/Shop', action: 'opened' },
    ]);
    expect(about('de11-push')).toMatchObject([{ result: 'ignored', status: 200, event: 'push' }]);
    expect(about('de11-bad')).toMatchObject([{ result: 'bad-signature', status: 401 }]);
    expect(JSON.stringify(webhook.logs)).not.toContain('gehäim');
  });

  test('an id that is none is replaced', async () => {
    const odd = facts();
    const { body, headers } = signedDelivery('pull_request', pullRequestPayload(odd), secret, '"}\' {x}');
    expect((await webhook.send(body, headers)).status).toBe(202);
    expect((await signals(`preview/acme/shop/${odd.number}`))[0]?.delivery).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('search attributes', () => {
  test('are created once, by many at once, and asked again without harm', async () => {
    const { connection } = temporal;
    const namespace = `n${Date.now()}`;
    const day = { seconds: 86_400 as unknown as Long };
    await connection.workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: day });
    await expect
      .poll(() => missingSearchAttributes(connection, namespace).catch(() => []), { timeout: 15_000 })
      .toHaveLength(6);
    await Promise.all(Array.from({ length: 5 }, () => ensureSearchAttributes(connection, namespace)));
    expect(await missingSearchAttributes(connection, namespace)).toEqual([]);
    await ensureSearchAttributes(connection, namespace);
  });

  test("Temporal Cloud's way: the operator's service is closed; what is missing is seen all the same", async () => {
    const refused = () => Promise.reject(Object.assign(new Error('refused'), { code: 7, details: '', metadata: {} }));
    const connection: Connection = Object.create(temporal.connection, {
      operatorService: { value: { listSearchAttributes: refused, addSearchAttributes: refused } },
    });
    await ensureSearchAttributes(connection, 'default');
    const namespace = `c${Date.now()}`;
    const day = { seconds: 86_400 as unknown as Long };
    await connection.workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: day });
    await expect
      .poll(() => ensureSearchAttributes(connection, namespace).catch((error: Error) => error.message), {
        timeout: 15_000,
      })
      .toMatch(/tcld namespace search-attributes add .*TektonRepo.*TektonSha/);
  });

  test('may be used by workflow code', async () => {
    const workflowsPath = fileURLToPath(new URL('../../src/domain/search-attributes.ts', import.meta.url));
    const { code } = await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('ERROR') });
    expect(code).toContain('TektonSlug');
  });

  test('where an operator has to create them, the commands are told', () => {
    expect(createThemByHand('prod.acme', [searchAttributes.repo, searchAttributes.pr])).toBe(
      `Temporal does not let this service create search attributes in the namespace "prod.acme". Create them once:
  temporal operator search-attribute create --namespace prod.acme --name TektonRepo --type Keyword --name TektonPr --type Int
or, on Temporal Cloud:
  tcld namespace search-attributes add --namespace prod.acme --sa "TektonRepo=Keyword" --sa "TektonPr=Int"`,
    );
  });
});

type Long = NonNullable<
  Parameters<Temporal['connection']['workflowService']['registerNamespace']>[0]['workflowExecutionRetentionPeriod']
>['seconds'];

/** Posts by hand: an answer may come, and the connection be closed, before the body has been sent. */
function postRaw(
  url: string,
  headers: Record<string, string | number>,
  body: Buffer,
): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const { 'content-length': length, ...rest } = headers;
    const to = request(`${url}/webhook/github`, {
      method: 'POST',
      headers: length === undefined ? { ...rest, 'transfer-encoding': 'chunked' } : headers,
    });
    let answered = false;
    to.on('response', async (answer) => {
      answered = true;
      const chunks: Buffer[] = [];
      for await (const chunk of answer) chunks.push(chunk as Buffer);
      resolve({ status: answer.statusCode, text: Buffer.concat(chunks).toString() });
    });
    to.on('error', (error) => {
      if (!answered) reject(error);
    });
    to.end(body);
  });
}
