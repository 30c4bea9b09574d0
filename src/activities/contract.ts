/**
 * What the workflows may ask of the world: the activities' signatures, one interface a task queue. Types only, so that workflow
 * code imports nothing that does I/O. Every activity is idempotent; undo means "ensure absent".
 */
import type { PreviewMeta } from '../domain/meta.ts';
import type { Phase } from '../domain/phase.ts';
import type {
  ClaimedHost,
  Closure,
  DeploymentRef,
  InventoryItem,
  PreviewRef,
  PreviewSource,
  RouteRecord,
  Slot,
  Upstream,
} from '../domain/preview.ts';
import type { PullRequestTruth } from '../domain/pull-request.ts';

/** On `tekton-build-<host>`: few at once. Sends its workflow the signal `place` while it waits for a build place. */
export interface BuildActivities {
  buildClosure(input: { deployment: DeploymentRef }): Promise<Closure>;
}

/** On `tekton-host-<host>`: what must run on that host. */
export interface HostActivities {
  /** Claims the preview's slug (`candidate`, or `candidate-<hash>` when another holds it) and shows the progress page there. */
  claimSlug(input: {
    workflowId: string;
    source: PreviewSource;
    candidate: string;
    fork: boolean;
  }): Promise<{ slug: string; url: string }>;
  /** Claims one hostname for each prefix; the preview's own is among the answer. Releases prefixes no longer declared only in `releaseHostnames`. */
  claimHostnames(input: { preview: PreviewRef; prefixes: string[] }): Promise<ClaimedHost[]>;
  releaseHostnames(input: { preview: PreviewRef }): Promise<void>;

  /** The commit a branch points to now. Throws BranchNotFound, RepoNotFound. */
  resolveBranch(input: { source: PreviewSource }): Promise<{ sha: string }>;

  /** Waits while the ring is full (a reserve is kept for updates); sends its workflow the signal `place` meanwhile. */
  allocateSlot(input: { container: string; owner: string; purpose: 'new' | 'update' }): Promise<Slot>;
  releaseSlot(input: { container: string }): Promise<void>;

  createContainer(input: { deployment: DeploymentRef; closure: Closure; slot: Slot }): Promise<void>;
  startContainer(input: { deployment: DeploymentRef }): Promise<void>;
  runSetup(input: { deployment: DeploymentRef; meta: PreviewMeta }): Promise<void>;
  startServices(input: { deployment: DeploymentRef; meta: PreviewMeta }): Promise<void>;
  destroyContainer(input: { preview: PreviewRef; container: string }): Promise<void>;
  /** Kills what is left of a deployment's build. */
  abortBuild(input: { container: string }): Promise<void>;

  /** Role and database of the preview; the password stays on the host. Gives the database's name. */
  createDatabase(input: { preview: PreviewRef }): Promise<{ database: string }>;
  dropDatabase(input: { preview: PreviewRef }): Promise<void>;

  /** Source at the exact SHA and `preview.env`, before first boot. `database` is there when the meta says "host". */
  writeEnvironment(input: {
    deployment: DeploymentRef;
    closure: Closure;
    slot: Slot;
    database?: string;
  }): Promise<void>;

  /** Done when every declared port listens and the health check answers below 500. Throws Unhealthy with the app's last lines. */
  probeContainer(input: { deployment: DeploymentRef; meta: PreviewMeta }): Promise<{ upstreams: Upstream[] }>;
  /** Publishes: a new shape reloads Caddy, a new address is one rename. */
  writeRoute(input: { preview: PreviewRef; route: RouteRecord }): Promise<{ reloaded: boolean }>;
  removeRoute(input: { preview: PreviewRef }): Promise<void>;
  /** Through this host's Caddy with the public name: below 500, and `X-Tekton-Sha` equals `sha`. Throws PublicProbeFailed. */
  probePublic(input: { preview: PreviewRef; route: RouteRecord }): Promise<void>;
  /** What a visitor sees while nothing serves. */
  writeProgressPage(input: { preview: PreviewRef; phase: Phase; sha: string; reason?: string }): Promise<void>;

  /** What still stands on the host for this preview, read back from the host itself. Empty is the only good answer after destroy. */
  readInventory(input: { preview: PreviewRef }): Promise<InventoryItem[]>;

  createAgent(input: { name: string; workflowId: string; container: string; slot: Slot }): Promise<void>;
  destroyAgent(input: { name: string; container: string }): Promise<void>;
  readAgentInventory(input: { workflowId: string }): Promise<InventoryItem[]>;
}

/** What the one sticky comment of a pull request says. */
export interface CommentState {
  phase: Phase;
  url?: string;
  /** The commit that serves, if any. */
  servedSha?: string;
  /** The commit that is wanted. */
  sha?: string;
  reason?: string;
  /** What to do about it. */
  next?: string;
}

/** On `tekton`: what needs Temporal or GitHub, not the host. */
export interface GitHubActivities {
  /** What is known besides the message: how the last run of this pull request ended, and whether GitHub can be asked at all. */
  readBackground(input: {
    workflowId: string;
    runId: string;
  }): Promise<{ previousRun?: { updatedAt: string; open: boolean }; github: boolean }>;
  /** GitHub's own word, or why there is none. `unavailable` without credentials. An error is never read as closed. */
  readPullRequest(input: { owner: string; repo: string; number: number }): Promise<PullRequestTruth>;
  /** Creates or edits the one comment; gives its id for the next time. `undefined` without credentials. */
  upsertComment(input: {
    owner: string;
    repo: string;
    number: number;
    workflowId: string;
    commentId?: number;
    state: CommentState;
  }): Promise<{ commentId?: number }>;
}
