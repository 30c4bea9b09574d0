/**
 * Bench (d): memory of worker and webhook (resident, as the kernel counts it) with 200 idle live previews, against the same
 * processes with none. The whole stack runs as `tekton up` starts it; the apps are tiny and not counted.
 *
 * "None" is measured after a first preview has come and gone, so that code that is loaded once is not taken for the cost of a
 * preview. Nothing asks for a garbage collection: what is measured is what an operator sees.
 *
 * Alone: `npm run bench -- --only d`.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { visit } from '../../src/cli/demo/visitor.ts';
import type { Files } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import type { BenchRow } from './row.ts';

const previews = 200;
/** Opened beside each other: the machine is busy, and no queue hides a preview for long. */
const atOnce = 8;
const liveWithinMs = 120_000;
/** Settled: within 2 % for this long. Buffers of the busy time go first. */
const steadyForMs = 6000;
const settleWithinMs = 30_000;

interface Memory {
  /** Bytes. */
  worker: number;
  webhook: number;
}

/** Measures, and gives the rows of the table. Two to four minutes on two cores. */
export async function benchMemory(): Promise<BenchRow[]> {
  const rig = await startRealStack({
    // A subnet of this size has room for 500; two stacks of this benchmark at once do not meet.
    subnet: `127.${210 + (process.pid % 40)}.0.0/22`,
    logLevel: 'warn',
    env: { ...process.env, TEKTON_BUILDS: String(atOnce) },
  });
  try {
    const pr = (number: number): PullRequest => ({ owner: 'bench', repo: 'idle', number });
    const sha = await rig.git.push('bench/idle', await tinyApp(), { branch: 'change', pull: 1 });
    await open(rig, pr(1), sha);
    await rig.deliver(pr(1), 'closed', sha);
    await rig.gone(pr(1));
    const empty = await settled(rig);
    const began = Date.now();
    const waiting = Array.from({ length: previews }, (_, n) => pr(n + 2));
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await open(rig, next, sha);
      }),
    );
    const seconds = (Date.now() - began) / 1000;
    const full = await settled(rig);
    return rows(empty, full, seconds);
  } finally {
    await rig.close();
  }
}

/** No aims: what is asked for is to know the figures. The ratio to the same processes without previews tells whether they leak. */
function rows(empty: Memory, full: Memory, seconds: number): BenchRow[] {
  const mb = (bytes: number) => Math.round(bytes / 1024 ** 2);
  const ratio = (service: keyof Memory) => full[service] / empty[service];
  const plain = (name: string, value: number, unit: string): BenchRow => ({ name, value, unit, aim: '', ok: true });
  const perPreview = Math.round((full.worker - empty.worker) / 1024 / previews);
  return [
    plain('memory: worker, no preview', mb(empty.worker), 'MB'),
    plain(`memory: worker, ${previews} idle previews`, mb(full.worker), 'MB'),
    plain('memory: worker, against none', ratio('worker'), '×'),
    plain('memory: worker, for each preview', perPreview, 'KB'),
    plain('memory: webhook, no preview', mb(empty.webhook), 'MB'),
    plain(`memory: webhook, ${previews} idle previews`, mb(full.webhook), 'MB'),
    plain('memory: webhook, against none', ratio('webhook'), '×'),
    plain(`memory: ${previews} previews opened, ${atOnce} at once, in`, Math.round(seconds), 's'),
  ];
}

/** Opens a pull request and waits until its address answers with the commit. Asks Caddy, not the workflow: a query is work for the worker. */
async function open(rig: RealStack, pr: PullRequest, sha: string): Promise<void> {
  const { status } = await rig.deliver(pr, 'opened', sha);
  if (status !== 202) throw new Error(`the webhook answered ${status}`);
  const url = rig.url(`${pr.repo}-${pr.number}`);
  for (const end = Date.now() + liveWithinMs; ; ) {
    const answer = await visit(url).catch(() => undefined);
    if (answer?.status === 200 && answer.headers['x-tekton-sha'] === sha) return;
    if (Date.now() > end)
      throw new Error(`${url} does not answer: ${JSON.stringify(await rig.status(pr), null, 1).slice(0, 3000)}`);
    await sleep(200);
  }
}

/** The memory once it has stopped moving, or at the end of the patience: the mean of the last seconds. */
async function settled(rig: RealStack): Promise<Memory> {
  const pids = rig.stack.record.services;
  const seen: { at: number; worker: number; webhook: number }[] = [];
  for (const end = Date.now() + settleWithinMs; ; await sleep(500)) {
    const at = Date.now();
    seen.push({ at, worker: await resident(pids.worker?.pid), webhook: await resident(pids.webhook?.pid) });
    const last = seen.filter((one) => one.at > at - steadyForMs);
    const steady = at - (seen[0]?.at ?? at) >= steadyForMs && spread(last.map((one) => one.worker)) <= 0.02;
    if (!steady && at < end) continue;
    return { worker: mean(last.map((one) => one.worker)), webhook: mean(last.map((one) => one.webhook)) };
  }
}

/** Resident memory of a process in bytes. */
async function resident(pid: number | undefined): Promise<number> {
  const kb = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kb === undefined) throw new Error(`the process ${pid} has no memory: has it ended?`);
  return Number(kb) * 1024;
}

const mean = (values: number[]) => values.reduce((total, value) => total + value, 0) / values.length;
const spread = (values: number[]) => (Math.max(...values) - Math.min(...values)) / mean(values);

/** An HTTP server that is as small as this machine can run: 200 of them stand beside each other. */
async function tinyApp(): Promise<Files> {
  const perl = await execa('perl', ['-MIO::Socket::INET', '-e', '1'], { reject: false });
  if (perl.exitCode === 0) return { Procfile: 'web: perl server.pl\n', 'server.pl': perlServer };
  return { Procfile: 'web: node --max-semi-space-size=1 server.js\n', 'server.js': nodeServer };
}

const perlServer = `use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $ENV{PORT}, Listen => 50, ReuseAddr => 1) or die $@;
while (1) {
  my $client = $server->accept() or next;
  while (my $line = <$client>) { last if $line =~ /^\\r?$/; }
  print $client "HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\nConnection: close\\r\\n\\r\\nok\\n";
  close $client;
}
`;

const nodeServer = `require('node:http').createServer((_, response) => response.end('ok\\n')).listen(Number(process.env.PORT));\n`;
