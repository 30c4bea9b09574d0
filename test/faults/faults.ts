/** What the fault tests share: killing by pid, looking without help of what was killed, and what must hold afterwards. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { previewWorkflowId } from '../../src/domain/preview.ts';
import { containerPaths } from '../../src/runtime/local/paths.ts';
import type { ContainerFile } from '../../src/runtime/local/record.ts';
import type { ServiceName } from '../../src/stack/record.ts';
import { type PreviewStatus, statusQuery, taskQueue } from '../../src/workflows/messages.ts';
import type { Files } from '../support/git-house.ts';
import type { PullRequest, RealStack } from '../support/real-stack.ts';

/** The pid of a service that runs now. */
export function pidOf(rig: RealStack, name: ServiceName): number {
  const pid = rig.stack.services.find((service) => service.name === name)?.pid;
  if (pid === undefined) throw new Error(`the ${name} does not run`);
  return pid;
}

/** SIGKILL to the service's process alone, as the kernel's OOM killer would; its supervisor is told nothing. Gives the pid. */
export function killService(rig: RealStack, name: ServiceName): number {
  const pid = pidOf(rig, name);
  process.kill(pid, 'SIGKILL');
  return pid;
}

/** Waits until another process of the service runs than the one that was killed; for the worker, until it polls. */
export async function backAgain(rig: RealStack, name: ServiceName, killed: number, seconds = 60): Promise<void> {
  const service = rig.stack.services.find((one) => one.name === name);
  await waitUntil(
    () => service?.pid !== undefined && service.pid !== killed,
    () => `the ${name} was never started again after pid ${killed} was killed`,
    seconds,
  );
  if (name !== 'worker') return;
  await waitUntil(
    async () => (await pollers(rig)).some((identity) => identity.startsWith(`${service?.pid}@`)),
    () => `the worker (pid ${service?.pid}) runs again but never polled`,
    seconds,
  );
}

/** Who polls for workflow tasks, `pid@machine`; none while Temporal does not answer. */
async function pollers(rig: RealStack): Promise<string[]> {
  const ask = () =>
    rig.temporal.connection.workflowService.describeTaskQueue({
      namespace: rig.stack.record.temporalNamespace,
      taskQueue: { name: taskQueue },
      taskQueueType: 1,
    });
  const told = await rig.temporal.connection.withDeadline(Date.now() + 2000, ask).catch(() => undefined);
  return (told?.pollers ?? []).map(({ identity }) => identity ?? '');
}

/** Waits until `is` holds; fails with what `otherwise` tells. */
export async function waitUntil(
  is: () => boolean | Promise<boolean>,
  otherwise: () => string | Promise<string>,
  seconds = 60,
): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await is())) {
    if (Date.now() > end) throw new Error(`after ${seconds} s: ${await otherwise()}`);
    await sleep(25);
  }
}

const handleOf = (rig: RealStack, pr: PullRequest): WorkflowHandle =>
  rig.temporal.client.workflow.getHandle(previewWorkflowId(pr));

/** The preview's status, or undefined while nobody answers: what would answer may be dead. */
export async function statusNow(rig: RealStack, pr: PullRequest): Promise<PreviewStatus | undefined> {
  const ask = () => handleOf(rig, pr).query<PreviewStatus, []>(statusQuery);
  return await rig.temporal.client.withDeadline(Date.now() + 3000, ask).catch(() => undefined);
}

/** Waits for a status; fails with the last one seen, and what Temporal says is pending. */
export async function reaches(
  rig: RealStack,
  pr: PullRequest,
  what: string,
  wish: (status: PreviewStatus) => boolean,
  seconds = 90,
): Promise<PreviewStatus> {
  let last: PreviewStatus | undefined;
  await waitUntil(
    async () => {
      last = (await statusNow(rig, pr)) ?? last;
      return last !== undefined && wish(last);
    },
    async () =>
      `${previewWorkflowId(pr)} was never ${what}; pending: ${JSON.stringify(await pendingActivities(rig, pr))}; it is ${JSON.stringify(last, null, 1)}`,
    seconds,
  );
  return last as PreviewStatus;
}

/** Live with this commit, and nothing draining beside it. */
export function settledOn(rig: RealStack, pr: PullRequest, sha: string, seconds = 90): Promise<PreviewStatus> {
  return reaches(
    rig,
    pr,
    `live with ${sha.slice(0, 7)} alone`,
    (s) => s.phase === 'live' && s.servedSha === sha && s.deployments.length === 1,
    seconds,
  );
}

/** Live with this commit; the one before may still drain. */
export function liveOn(rig: RealStack, pr: PullRequest, sha: string, seconds = 90): Promise<PreviewStatus> {
  const wish = (s: PreviewStatus) => s.phase === 'live' && s.servedSha === sha;
  return reaches(rig, pr, `live with ${sha.slice(0, 7)}`, wish, seconds);
}

export async function isGone(rig: RealStack, pr: PullRequest, seconds = 90): Promise<void> {
  await reaches(rig, pr, 'gone', (s) => s.phase === 'gone', seconds);
}

/** Names of the activities that are under way, as Temporal knows them: no worker is needed to tell. */
export async function pendingActivities(rig: RealStack, pr: PullRequest): Promise<string[]> {
  const ask = () => handleOf(rig, pr).describe();
  const about = await rig.temporal.client.withDeadline(Date.now() + 2000, ask).catch(() => undefined);
  return (about?.raw.pendingActivities ?? []).map((one) => one.activityType?.name ?? '?');
}

/** Kills the service the moment the preview is in one of these activities. Gives the killed pid. */
export async function killDuring(
  rig: RealStack,
  name: ServiceName,
  pr: PullRequest,
  activities: readonly string[],
  seconds = 30,
): Promise<number> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const pending = await pendingActivities(rig, pr);
    if (pending.some((one) => activities.includes(one))) return killService(rig, name);
    if (Date.now() > end) {
      throw new Error(
        `${previewWorkflowId(pr)} was never seen in ${activities.join(' or ')}: ${JSON.stringify(await statusNow(rig, pr))}`,
      );
    }
    // No pause: a step may be a matter of milliseconds.
  }
}

/** What a step leaves on the disk first, seen synchronously: the kill then comes while the step, or the next, is at its work. */
export type Trace = (rig: RealStack, slug: string) => boolean;

/** Names in a folder now, those of files half-written too. */
function namesNow(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** The container of this slug, as its record tells; there is none before createContainer has written it. */
function recordNow({ layout }: RealStack, slug: string): ContainerFile | undefined {
  for (const name of namesNow(layout.containers)) {
    try {
      const record = JSON.parse(readFileSync(containerPaths(layout, name).record, 'utf8')) as ContainerFile;
      if (record.label === slug) return record;
    } catch {
      // Not written yet, or gone in between.
    }
  }
  return undefined;
}

/** More entries than before. Made anew for each trap: what is there when it is set does not count. */
const growth = (folderOf: (rig: RealStack) => string) => (): Trace => {
  let before: Set<string> | undefined;
  return (rig) => {
    const now = namesNow(folderOf(rig));
    before ??= new Set(now);
    return now.some((name) => !before?.has(name));
  };
};
const record = (is: (one: ContainerFile) => boolean) => (): Trace => (rig, slug) => {
  const one = recordNow(rig, slug);
  return one !== undefined && is(one);
};

/** By step, in the order of a deployment: its first trace. */
export const traces: Record<string, () => Trace> = {
  claimSlug: growth(({ layout }) => layout.hostnames),
  buildClosure:
    () =>
    ({ layout }, slug) =>
      namesNow(join(layout.logs, slug)).some((name) => name.startsWith('build-')),
  allocateSlot: growth(({ layout }) => layout.leases),
  claimHostnames:
    () =>
    ({ layout }, slug) =>
      existsSync(join(layout.hostnames, `${slowAppPrefix}-${slug}.json`)),
  createContainer: growth(({ layout }) => layout.containers),
  createDatabase: growth(({ layout }) => layout.databases),
  writeEnvironment: () => (rig, slug) => {
    const name = recordNow(rig, slug)?.name;
    return name !== undefined && existsSync(containerPaths(rig.layout, name).previewEnv);
  },
  startContainer: record((one) => one.started),
  runSetup:
    () =>
    ({ layout }, slug) =>
      namesNow(join(layout.logs, slug)).some((name) => name.endsWith('-setup.log')),
  startServices: record((one) => one.desired === 'running'),
  probeContainer: record((one) => one.processes.web?.pid !== undefined),
  writeRoute: growth(({ layout }) => layout.caddyPreviews),
  probePublic:
    () =>
    ({ layout }, slug) =>
      existsSync(join(layout.live, slug)),
};

/** Kills the service the moment the trace is there. Set it before the deployment begins. Gives the killed pid. */
export async function killAt(
  rig: RealStack,
  name: ServiceName,
  slug: string,
  step: keyof typeof traces,
  seconds = 60,
): Promise<number> {
  const is = traces[step]?.();
  if (!is) throw new Error(`no trace is known of ${step}`);
  is(rig, slug);
  const end = Date.now() + seconds * 1000;
  while (!is(rig, slug)) {
    if (Date.now() > end) throw new Error(`${slug} left no trace of ${step} within ${seconds} s`);
    await sleep(1);
  }
  return killService(rig, name);
}

/** The activities of the preview that Temporal had to hand out more than once: those that a kill met. */
export async function handedOutAgain(rig: RealStack, pr: PullRequest): Promise<Set<string>> {
  const { events } = await handleOf(rig, pr).fetchHistory();
  const names = new Map<string, string>();
  const again = new Set<string>();
  for (const event of events ?? []) {
    const scheduled = event.activityTaskScheduledEventAttributes;
    if (scheduled) names.set(String(event.eventId), scheduled.activityType?.name ?? '?');
    const started = event.activityTaskStartedEventAttributes;
    if (started && (started.attempt ?? 1) > 1) again.add(names.get(String(started.scheduledEventId)) ?? '?');
  }
  return again;
}

/** A delivery as GitHub makes it, and an operator's "Redeliver" until it is accepted. Gives the statuses of those that were not. */
export async function deliverUntilAccepted(
  rig: RealStack,
  pr: PullRequest,
  action: string,
  sha: string,
  seconds = 60,
): Promise<(number | string)[]> {
  const refused: (number | string)[] = [];
  await waitUntil(
    async () => {
      const answer = await rig.deliver(pr, action, sha).catch((error: Error) => error);
      if (!(answer instanceof Error) && answer.status === 202) return true;
      refused.push(
        answer instanceof Error
          ? String((answer.cause as Error | undefined)?.message ?? answer.message)
          : answer.status,
      );
      return false;
    },
    () => `'${action}' of ${previewWorkflowId(pr)} was never accepted: ${refused.slice(-5).join(', ')}`,
    seconds,
  );
  return refused;
}

export interface AppProcess {
  container: string;
  pid: number;
}

/** The running `node server.js` of each container, read from /proc. */
export async function appProcesses(rig: RealStack): Promise<AppProcess[]> {
  const found: AppProcess[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const cwd = await readlink(join('/proc', name, 'cwd')).catch(() => '');
    if (!cwd.startsWith(`${rig.layout.containers}/`)) continue;
    const argv = (await readFile(join('/proc', name, 'cmdline'), 'utf8').catch(() => '')).split('\0');
    if (basename(argv[0] ?? '') !== 'node' || argv[1] !== 'server.js') continue;
    found.push({ container: cwd.slice(rig.layout.containers.length + 1).split('/')[0] as string, pid: Number(name) });
  }
  return found.sort((a, b) => a.container.localeCompare(b.container));
}

/** One container a preview, one app process a container, one slot, one address file: what "nothing overlaps" leaves behind. */
export async function expectOneEach(rig: RealStack, statuses: PreviewStatus[]): Promise<void> {
  const wanted = statuses.map((s) => s.deployments[0]?.container as string).sort();
  const seen = {
    containers: (await readdir(rig.layout.containers)).sort(),
    leases: (await readdir(rig.layout.leases)).map((file) => file.replace('.json', '')).sort(),
    apps: (await appProcesses(rig)).map(({ container }) => container),
    addresses: (await readdir(rig.layout.live)).sort(),
  };
  const addresses = statuses.map((s) => s.slug).sort();
  const same = JSON.stringify(seen) === JSON.stringify({ containers: wanted, leases: wanted, apps: wanted, addresses });
  if (!same) {
    throw new Error(
      `one of each was expected for ${wanted.join(', ')} (${addresses.join(', ')}), there is ${JSON.stringify(seen, null, 1)}`,
    );
  }
}

/** Every public address answers from its head. */
export async function expectServed(rig: RealStack, slug: string, sha: string, body: string): Promise<void> {
  const answer = await rig.visit(slug);
  if (answer.status !== 200 || answer.headers['x-tekton-sha'] !== sha || answer.body !== body) {
    throw new Error(
      `${slug} should answer "${body}" from ${sha}; it answered ${answer.status} "${answer.body}" from ${answer.headers['x-tekton-sha']}`,
    );
  }
}

/** Prefix of the slow app's second address. */
export const slowAppPrefix = 'also';

/**
 * An app that takes its time in every step that runs something of its own, with a database of the host: every activity of a
 * deployment has something to do.
 *
 * @param seconds how long build, setup and start each take
 */
export function slowApp(text: string, seconds = 0.3): Files {
  const meta = {
    setupService: 'setup',
    appServices: ['web'],
    database: 'host',
    routes: [{ path: '/', port: 3000, service: 'web' }],
    hostSecrets: [],
    extraHosts: [{ prefix: slowAppPrefix, routes: [{ path: '/', port: 3000, service: 'web' }] }],
  };
  return {
    'package.json': JSON.stringify({ name: 'slow', scripts: { build: `sleep ${seconds}` } }),
    'preview-meta.json': JSON.stringify(meta),
    Procfile: `setup: sleep ${seconds}\nweb: node server.js\n`,
    'server.js': `
const { createServer } = require('node:http');
const server = createServer((request, response) => response.end(${JSON.stringify(`${text}\n`)}));
setTimeout(() => server.listen(Number(process.env.PORT)), ${seconds * 1000});
`,
  };
}
