import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { projectFolder } from '../../components/cache.ts';
import { previewWorkflowId } from '../../domain/preview.ts';
import { pullRequestPayload, signedDelivery } from '../../github/payload.ts';
import { hostLayout } from '../../host/layout.ts';
import type { StackRecord } from '../../stack/record.ts';
import type { PreviewStatus } from '../../workflows/messages.ts';
import { plainShow } from '../follow.ts';
import { duration } from '../render.ts';
import { readStatus } from '../resolve.ts';
import { type HostInventory, readHost, whatIsLeft } from './inventory.ts';
import { Hopeless, type Narrator, until } from './narrator.ts';
import { type DemoRepository, greetings } from './repository.ts';
import { keepVisiting, visit } from './visitor.ts';

/** What every scene of the demo plays with. */
export interface Scene {
  narrator: Narrator;
  record: StackRecord;
  repository: DemoRepository;
  client: Client;
  signal: AbortSignal;
}

/** What the first scene leaves to the others. */
export interface Opened {
  url: string;
  slug: string;
  /** The host as it was before. */
  before: HostInventory;
}

const number = 1;
/** A build with npm on two slow cores. */
const deployLimitMs = 150_000;
const destroyLimitMs = 60_000;
const people = 4;

/** The pull request is opened; its address answers from the first commit. */
export async function tellOpened(scene: Scene): Promise<Opened> {
  const { narrator, record, repository } = scene;
  const [sha] = repository.commits;
  narrator.chapter('A pull request is opened');
  const before = await readHost(record);
  const posted = Date.now();
  const { workflowId, slug } = await deliver(scene, 'opened', sha);
  narrator.say(`workflow ${workflowId}: tekton preview explain ${slug} --state-dir ${record.stateDir}`);
  const { url } = await serves(scene, sha);
  narrator.say(`live after ${duration(Date.now() - posted)}: ${url}`);

  const answer = await visit(url);
  narrator.check(answer.status === 200, `the address answers 200 (${answer.status})`);
  narrator.check(answer.headers['x-tekton-sha'] === sha, `X-Tekton-Sha is ${sha.slice(0, 8)}`);
  narrator.check(
    answer.body.includes(sha) && answer.body.includes(`<h1>${greetings[0]}</h1>`),
    `the page is of commit ${sha.slice(0, 8)} and says "${greetings[0]}"`,
  );
  narrator.check((await visitors(url)) === 1, 'its own PostgreSQL database counts 1 visitor (asked through /api)');
  return { url, slug, before };
}

/** A push: the second commit takes over while people look. */
export async function tellPushed(scene: Scene, { url }: Opened): Promise<void> {
  const { narrator, repository } = scene;
  const [, sha] = repository.commits;
  narrator.chapter('A commit is pushed, while people look');
  const before = await visitors(url);
  const crowd = keepVisiting(url, people);
  try {
    await repository.push(sha);
    const posted = Date.now();
    await deliver(scene, 'synchronize', sha);
    await serves(scene, sha);
    narrator.say(`commit ${sha.slice(0, 8)} took over after ${duration(Date.now() - posted)}`);
    await until({ ...wait(scene, 'the first deployment to drain and go'), limitMs: destroyLimitMs }, async () =>
      (await status(scene)).deployments.length === 1 ? true : undefined,
    );
    narrator.say('the first deployment has drained and is gone');
  } finally {
    await crowd.stop();
  }

  const { served, failed, bySha, slowestMs } = crowd.visits;
  const shares = [...bySha].map(([from, count]) => `${count} by ${from.slice(0, 8)}`).join(', ');
  narrator.check(
    failed.length === 0 && bySha.size === 2,
    `${served + failed.length} requests during the switch, ${failed.length} failed (${shares}; slowest ${duration(slowestMs)})`,
  );
  for (const reason of new Set(failed.slice(0, 5))) narrator.say(`  ${reason}`);
  const answer = await visit(url);
  narrator.check(answer.headers['x-tekton-sha'] === sha, `X-Tekton-Sha is ${sha.slice(0, 8)}`);
  narrator.check(
    answer.body.includes(sha) && answer.body.includes(`<h1>${greetings[1]}</h1>`),
    `the page is of commit ${sha.slice(0, 8)} and says "${greetings[1]}"`,
  );
  const counted = await visitors(url);
  narrator.check(
    counted === before + served + 1,
    `the database was kept: it counted ${before} before, ${counted} now, and lost nobody`,
  );
}

/** The pull request is closed: nothing is left. */
export async function tellClosed(scene: Scene, { url, before }: Opened): Promise<void> {
  const { narrator, record, repository } = scene;
  narrator.chapter('The pull request is closed');
  const posted = Date.now();
  await deliver(scene, 'closed', repository.commits[1]);
  const show = plainShow((line) => narrator.say(line));
  await until({ ...wait(scene, 'the preview to be gone'), limitMs: destroyLimitMs }, async () => {
    const now = await status(scene);
    show.status(now);
    return now.phase === 'gone' ? true : undefined;
  });
  narrator.say(`gone after ${duration(Date.now() - posted)}`);
  const answer = await until({ ...wait(scene, 'a 404 from the address'), limitMs: 10_000 }, async () => {
    const last = await visit(url);
    return last.status === 404 ? last : undefined;
  });
  narrator.check(answer.status === 404, `the address answers ${answer.status}`);
  const left = whatIsLeft(before, await readHost(record));
  const kinds = 'no container, process, slot, route, hostname, page, database or role';
  narrator.check(
    left.length === 0,
    left.length === 0 ? `the host's inventory is empty: ${kinds}` : `left: ${left.join(', ')}`,
  );
  narrator.say('its story, as tekton preview explain tells it:');
  for (const { at, text } of (await status(scene)).story) narrator.say(`  ${at.slice(11, 19)}  ${text}`);
}

/** What to look at while the demo stays up. */
export function thingsToTry({ record, repository }: Scene, { url, slug }: Opened): string[] {
  return [
    `the preview         ${url}`,
    `Temporal            ${record.temporalUiUrl}`,
    `the webhook         ${record.webhookUrl}`,
    `the repository      ${join(repository.baseUrl, 'acme/hello.git')}`,
    '',
    'In another terminal:',
    `  alias tekton=${join(projectFolder, 'bin/tekton.mjs')}`,
    `  export TEKTON_STATE_DIR=${record.stateDir}`,
    `  tekton preview status ${slug}`,
    `  tekton preview explain ${slug}`,
    `  tekton preview logs ${slug} -f`,
    `  tekton preview shell ${slug}`,
    `  tekton preview update ${slug}`,
    '  tekton preview create acme/hello main',
    `  tekton preview destroy ${slug}`,
  ];
}

/** Posts GitHub's own signed payload to the webhook, over HTTP. */
async function deliver(scene: Scene, action: string, sha: string): Promise<{ workflowId: string; slug: string }> {
  const { narrator, record, repository, signal } = scene;
  const { owner, repo } = repository;
  const secret = record.webhookSecretFile ? (await readFile(record.webhookSecretFile, 'utf8')).trim() : '';
  const payload = pullRequestPayload({
    owner,
    repo,
    number,
    action,
    sha,
    branch: 'change',
    updatedAt: nextSecond(scene),
  });
  const { headers, body } = signedDelivery('pull_request', payload, secret);
  const url = new URL('/webhook/github', record.webhookUrl).href;
  const began = performance.now();
  const response = await fetch(url, {
    method: 'POST',
    headers,
    body,
    signal: AbortSignal.any([signal, AbortSignal.timeout(15_000)]),
  });
  const answer = await response.text();
  narrator.say(`POST ${url} pull_request.${action}: ${response.status} in ${duration(performance.now() - began)}`);
  if (response.status !== 202) {
    throw new Error(
      `the webhook answered ${response.status} to pull_request.${action}: ${answer}. Read ${logs(record, 'webhook')}`,
    );
  }
  return JSON.parse(answer) as { workflowId: string; slug: string };
}

const clocks = new WeakMap<Scene, number>();

/** GitHub writes whole seconds, and so quick a demo could get the same one twice: each delivery is of a later second. */
function nextSecond(scene: Scene): Date {
  const at = Math.max(Math.floor(Date.now() / 1000), (clocks.get(scene) ?? 0) + 1);
  clocks.set(scene, at);
  return new Date(at * 1000);
}

/** Shows the steps until the commit serves. */
async function serves(scene: Scene, sha: string): Promise<PreviewStatus & { url: string }> {
  const show = plainShow((line) => scene.narrator.say(line));
  return until({ ...wait(scene, `commit ${sha.slice(0, 8)} to serve`), limitMs: deployLimitMs }, async () => {
    const now = await status(scene);
    show.status(now);
    const { url, lastAttempt } = now;
    if (lastAttempt?.sha === sha && lastAttempt.outcome === 'failed')
      throw new Hopeless(`commit ${sha.slice(0, 8)} failed: ${lastAttempt.reason?.message}`);
    return url && now.servedSha === sha && lastAttempt?.sha === sha ? { ...now, url } : undefined;
  });
}

async function visitors(url: string): Promise<number> {
  const { status: code, body } = await visit(`${url}/api`);
  if (code !== 200) throw new Error(`${url}/api answered ${code}: ${body.slice(0, 200)}`);
  return (JSON.parse(body) as { visitors: number }).visitors;
}

function status({ client, repository }: Scene): Promise<PreviewStatus> {
  const { owner, repo } = repository;
  return readStatus(client, client.workflow.getHandle(previewWorkflowId({ owner, repo, number })));
}

function wait({ record, signal }: Scene, what: string) {
  return { what, signal, log: logs(record, 'worker'), everyMs: 100 };
}

function logs(record: StackRecord, service: string): string {
  return join(hostLayout(record.stateDir).logs, 'services', `${service}.log`);
}
