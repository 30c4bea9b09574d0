/**
 * What the webhook costs on top of Temporal: signed deliveries per second and their 99th percentile, against a bare
 * `signalWithStart` loop with the same arguments. Rounds alternate, so that whatever else the machine does hits both alike.
 * The server runs in a process of its own.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Pool } from 'undici';
import { interpret } from '../../src/domain/webhook-event.ts';
import { pullRequestPayload, type SignedDelivery, signedDelivery } from '../../src/github/payload.ts';
import { connectTemporal, type Temporal } from '../../src/temporal/connection.ts';
import { record } from '../../src/webhook/record.ts';
import { freePort, temporalServer } from '../support/temporal-server.ts';
import type { BenchRow } from './row.ts';

const rounds = 7;
const requestsPerRound = 400;
/** Pull requests of a round: each is started once and then told of pushes. */
const pullsPerRound = 100;
const atOnce = 16;
/** What a delivery of GitHub's weighs. */
const payloadBytes = 25_000;
const secret = 'bench';
const box = { host: 'bench', allowedRepos: ['*'] };

interface Round {
  perSecond: number;
  /** Milliseconds of each call. */
  times: number[];
}

/** Measures, and gives the rows of the table. */
export async function benchWebhook(): Promise<BenchRow[]> {
  // The faster Temporal is, the more the webhook's own cost shows.
  const server = await temporalServer({ inMemory: true });
  await server.start();
  const temporal = await connectTemporal(server.env);
  const webhook = await startWebhookProcess(server.env);
  const pool = new Pool(webhook.url, { connections: atOnce });
  try {
    const viaWebhook = (deliveries: Delivery[]) => measure(deliveries, (each) => post(pool, each));
    const bare = (deliveries: Delivery[]) => measure(deliveries, (each) => tell(temporal, each));
    // Compiled code and open connections for both.
    await viaWebhook(deliveries('warm-webhook'));
    await bare(deliveries('warm-bare'));
    const seen: { webhook: Round[]; bare: Round[] } = { webhook: [], bare: [] };
    for (let n = 0; n < rounds; n += 1) {
      const first = n % 2 === 0;
      if (first) seen.webhook.push(await viaWebhook(deliveries(`webhook-${n}`)));
      seen.bare.push(await bare(deliveries(`bare-${n}`)));
      if (!first) seen.webhook.push(await viaWebhook(deliveries(`webhook-${n}`)));
    }
    return rows(seen);
  } finally {
    await pool.close();
    await webhook.stop();
    await temporal.connection.close();
    await server.close();
  }
}

/** The table's rows from what was measured: medians of the rounds, percentiles of all calls together. */
function rows(seen: { webhook: Round[]; bare: Round[] }): BenchRow[] {
  const speed = {
    webhook: median(seen.webhook.map((r) => r.perSecond)),
    bare: median(seen.bare.map((r) => r.perSecond)),
  };
  const p99 = { webhook: percentile(seen.webhook, 0.99), bare: percentile(seen.bare, 0.99) };
  // Each round against its neighbour: the machine's mood changes over the minute.
  const ratio = median(seen.webhook.map((round, n) => round.perSecond / (seen.bare[n]?.perSecond ?? Number.NaN)));
  const p99Ratio = p99.bare / p99.webhook;
  const row = (name: string, value: number, unit: string, aim = '', ok = true): BenchRow => {
    return { name, value: Math.round(value * 100) / 100, unit, aim, ok };
  };
  return [
    row('webhook: deliveries accepted', speed.webhook, '1/s'),
    row('webhook: bare signalWithStart', speed.bare, '1/s'),
    row('webhook: deliveries against bare', ratio, '×', '≥ 0.8', ratio >= 0.8),
    row('webhook: p99 of a delivery', p99.webhook, 'ms'),
    row('webhook: p99 of a bare call', p99.bare, 'ms'),
    row('webhook: p99, bare against delivery', p99Ratio, '×', '≥ 0.8', p99Ratio >= 0.8),
  ];
}

interface Delivery {
  payload: unknown;
  headers: SignedDelivery['headers'];
  body: Buffer;
}

function deliveries(repo: string): Delivery[] {
  return Array.from({ length: requestsPerRound }, (_, n) => {
    const number = 1 + (n % pullsPerRound);
    const action = n < pullsPerRound ? 'opened' : 'synchronize';
    const sha = n.toString(16).padStart(40, '0');
    const payload = pullRequestPayload({ owner: 'acme', repo, number, action, sha, title: 'x'.repeat(payloadBytes) });
    const { headers, body } = signedDelivery('pull_request', payload, secret);
    return { payload, headers, body: Buffer.from(body) };
  });
}

async function post(pool: Pool, { headers, body }: Delivery): Promise<void> {
  const answer = await pool.request({ method: 'POST', path: '/webhook/github', headers, body });
  const text = await answer.body.text();
  if (answer.statusCode !== 202) throw new Error(`the webhook answered ${answer.statusCode}: ${text}`);
}

/** The very call the webhook makes, made directly. */
async function tell(temporal: Temporal, { payload }: Delivery): Promise<void> {
  const meaning = interpret({ event: 'pull_request', delivery: 'bench', payload }, box);
  if (meaning.kind !== 'signal') throw new Error('the payload is not understood');
  await record(temporal, meaning, 60_000);
}

async function measure(all: Delivery[], call: (each: Delivery) => Promise<void>): Promise<Round> {
  const times: number[] = [];
  const waiting = [...all];
  const started = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const from = performance.now();
        await call(next);
        times.push(performance.now() - from);
      }
    }),
  );
  return { perSecond: all.length / ((performance.now() - started) / 1000), times };
}

async function startWebhookProcess(env: Record<string, string>): Promise<{ url: string; stop(): Promise<void> }> {
  const port = await freePort();
  const main = fileURLToPath(new URL('../support/webhook-process.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', main], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env.PATH,
      ...env,
      GITHUB_WEBHOOK_SECRET: secret,
      PREVIEW_DOMAIN: 'preview.localhost',
      ALLOWED_REPOS: '*',
      WEBHOOK_PORT: String(port),
      // Every line is still made and written, as in production.
      LOG_LEVEL: 'info',
    },
  });
  const url = `http://127.0.0.1:${port}`;
  for (const end = Date.now() + 30_000; ; ) {
    const ready = await fetch(`${url}/ready`).catch(() => undefined);
    if (ready?.ok) break;
    if (Date.now() > end || child.exitCode !== null) throw new Error('the webhook did not become ready');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    stop: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function percentile(all: Round[], share: number): number {
  const sorted = all.flatMap((round) => round.times).sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const table = await benchWebhook();
  console.table(table);
  process.exitCode = table.every((row) => row.ok) ? 0 : 1;
}
