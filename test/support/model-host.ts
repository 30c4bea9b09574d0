/**
 * A host in memory for workflow tests: it keeps what a real host would keep, lets a test hold or fail any step, and watches the
 * promises that must hold under any interleaving: one step at a time per preview, nothing touched after it was given back.
 */
import { CancelledFailure, Context } from '@temporalio/activity';
import type { BuildActivities, CommentState, GitHubActivities, HostActivities } from '../../src/activities/contract.ts';
import { failure } from '../../src/activities/failure.ts';
import type { PreviewMeta } from '../../src/domain/meta.ts';
import type { Phase } from '../../src/domain/phase.ts';
import type { InventoryItem, RouteRecord, Slot } from '../../src/domain/preview.ts';
import type { PullRequestTruth } from '../../src/domain/pull-request.ts';

type Activities = BuildActivities & HostActivities & GitHubActivities;
export type ActivityName = keyof Activities;

export const plainMeta: PreviewMeta = {
  appServices: ['web'],
  database: 'container',
  routes: [{ path: '/', port: 3000, stripPrefix: false }],
  hostSecrets: [],
  extraHosts: [],
  healthCheck: { path: '/', timeoutSeconds: 60 },
};

/** Steps whose overlap on one preview would break "nothing overlaps". Slot and hostnames are asked for together on purpose. */
const exclusive: ReadonlySet<string> = new Set([
  'buildClosure',
  'createContainer',
  'createDatabase',
  'dropDatabase',
  'writeEnvironment',
  'startContainer',
  'runSetup',
  'startServices',
  'probeContainer',
  'writeRoute',
  'removeRoute',
  'probePublic',
  'destroyContainer',
  'abortBuild',
]);

export interface ModelHost {
  activities: Activities;
  /** Every activity that began, in order: `buildClosure abc…`. */
  journal: string[];
  /** Promises that were broken. Must stay empty. */
  broken: string[];
  containers: Map<string, { owner: string; sha: string }>;
  slots: Map<string, Slot>;
  routes: Map<string, RouteRecord>;
  databases: Set<string>;
  hostnames: Set<string>;
  pages: { phase: Phase; reason?: string }[];
  comments: CommentState[];
  /** GitHub's truth; unavailable unless a test says otherwise. */
  truth: (number: number) => PullRequestTruth;
  /** How an earlier run ended, if there was one. */
  previousRun?: { open: boolean; updatedAt: string };
  metaOf: (sha: string) => PreviewMeta;
  /** Called as a step begins; may throw, or wait (until released or cancelled). */
  before: (name: ActivityName, sha: string | undefined, arg: unknown) => Promise<void> | void;
}

export function createModelHost(): ModelHost {
  const busy = new Map<string, string>();
  let slotCount = 0;

  const host: ModelHost = {
    activities: {} as Activities,
    journal: [],
    broken: [],
    containers: new Map(),
    slots: new Map(),
    routes: new Map(),
    databases: new Set(),
    hostnames: new Set(),
    pages: [],
    comments: [],
    truth: () => ({ kind: 'unavailable', reason: 'no credentials' }),
    metaOf: () => plainMeta,
    before: () => undefined,
  };

  const inventory = (owner: string, slug: string): InventoryItem[] => [
    ...[...host.containers]
      .filter(([, c]) => c.owner === owner)
      .map(([name]) => ({ kind: 'container' as const, name })),
    ...(host.routes.has(slug) ? [{ kind: 'route' as const, name: slug }] : []),
    ...(host.databases.has(slug) ? [{ kind: 'database' as const, name: slug }] : []),
    ...(host.hostnames.has(slug) ? [{ kind: 'hostname' as const, name: slug }] : []),
  ];

  const bare: Activities = {
    async claimSlug({ candidate, fork }) {
      if (fork && forksRefused.has(host)) throw failure('ForkRefused', 'forks are refused here');
      host.hostnames.add(candidate);
      return { slug: candidate, url: `http://${candidate}.test` };
    },
    async claimHostnames({ preview, prefixes }) {
      return ['', ...prefixes].map((prefix) => {
        const label = prefix ? `${prefix}-${preview.slug}` : preview.slug;
        return { prefix, label, hostname: `${label}.test` };
      });
    },
    async releaseHostnames({ preview }) {
      host.hostnames.delete(preview.slug);
    },
    async resolveBranch() {
      return { sha: 'b'.repeat(40) };
    },
    async allocateSlot({ container }) {
      const number = ++slotCount;
      const slot = { number, hostAddress: `127.100.0.${2 * number}`, address: `127.100.0.${2 * number + 1}` };
      host.slots.set(container, slot);
      return slot;
    },
    async releaseSlot({ container }) {
      if (host.containers.has(container)) host.broken.push(`slot of ${container} released while the container stands`);
      host.slots.delete(container);
    },
    async buildClosure({ deployment }) {
      return { path: `/closures/${deployment.sha}`, meta: host.metaOf(deployment.sha), logPath: '/log', cached: false };
    },
    async abortBuild() {},
    async createContainer({ deployment }) {
      if (!host.slots.has(deployment.container)) host.broken.push(`${deployment.container} has no slot`);
      host.containers.set(deployment.container, { owner: deployment.preview.workflowId, sha: deployment.sha });
    },
    async startContainer({ deployment }) {
      if (!host.containers.has(deployment.container))
        host.broken.push(`start of ${deployment.container}, which is not there`);
    },
    async runSetup() {},
    async startServices() {},
    async destroyContainer({ preview, container }) {
      if (host.routes.get(preview.slug)?.container === container)
        host.broken.push(`${container} destroyed while it serves`);
      host.containers.delete(container);
    },
    async createDatabase({ preview }) {
      host.databases.add(preview.slug);
      return { database: preview.slug };
    },
    async dropDatabase({ preview }) {
      host.databases.delete(preview.slug);
    },
    async writeEnvironment({ database, closure }) {
      if (closure.meta.database === 'host' && !database) host.broken.push('environment without its database');
    },
    async probeContainer() {
      return { upstreams: [{ port: 3000, address: '127.0.0.1:1' }] };
    },
    async writeRoute({ preview, route }) {
      if (!host.containers.has(route.container)) host.broken.push(`route to ${route.container}, which is not there`);
      host.routes.set(preview.slug, route);
      return { reloaded: true };
    },
    async removeRoute({ preview }) {
      host.routes.delete(preview.slug);
    },
    async probePublic({ preview, route }) {
      if (host.routes.get(preview.slug)?.sha !== route.sha)
        host.broken.push('the public address answers from another commit');
    },
    async writeProgressPage({ phase, reason }) {
      host.pages.push({ phase, reason });
    },
    async readInventory({ preview }) {
      return inventory(preview.workflowId, preview.slug);
    },
    async createAgent({ container, workflowId }) {
      host.containers.set(container, { owner: workflowId, sha: '' });
    },
    async destroyAgent({ container }) {
      host.containers.delete(container);
    },
    async readAgentInventory({ workflowId }) {
      return [...host.containers]
        .filter(([, c]) => c.owner === workflowId)
        .map(([name]) => ({ kind: 'container' as const, name }));
    },
    async readBackground() {
      return { github: true, previousRun: host.previousRun };
    },
    async readPullRequest({ number }) {
      return host.truth(number);
    },
    async upsertComment({ state, commentId }) {
      host.comments.push(state);
      return { commentId: commentId ?? 1 };
    },
  };

  for (const name of Object.keys(bare) as ActivityName[]) {
    const run = bare[name] as (arg: unknown) => Promise<unknown>;
    (host.activities as unknown as Record<string, unknown>)[name] = async (arg: never) => {
      const { workflowExecution } = Context.current().info;
      const owner = workflowExecution?.workflowId ?? '';
      const sha = shaOf(arg);
      host.journal.push(sha ? `${name} ${sha.slice(0, 7)}` : name);
      if (exclusive.has(name)) {
        const other = busy.get(owner);
        if (other) host.broken.push(`${name} began while ${other} was running`);
        busy.set(owner, name);
      }
      const heartbeat = setInterval(() => Context.current().heartbeat(), 100);
      try {
        await Promise.race([host.before(name, sha, arg), Context.current().cancelled]);
        return await run(arg);
      } finally {
        clearInterval(heartbeat);
        if (exclusive.has(name)) busy.delete(owner);
      }
    };
  }
  return host;
}

const forksRefused = new WeakSet<ModelHost>();
/** Makes the host refuse forks, as the local runtime does. */
export function refuseForks(host: ModelHost): void {
  forksRefused.add(host);
}

function shaOf(arg: unknown): string | undefined {
  const named = (arg ?? {}) as { deployment?: { sha: string }; route?: { sha: string } };
  return named.deployment?.sha ?? named.route?.sha;
}

/** A promise that a test settles by hand. */
export function gate(): { promise: Promise<void>; open: () => void } {
  let open!: () => void;
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

export { CancelledFailure };
