/** What identifies a preview and one deployment of it. Values only: these travel through Temporal. */

/** One pull request (`number`) or one branch made by hand (`branch`). Owner and repo as GitHub writes them. */
export interface PreviewSource {
  owner: string;
  repo: string;
  /** Pull request number; absent for a preview made by hand from a branch. */
  number?: number;
  /** Branch name as written; absent for a pull request. */
  branch?: string;
}

/** A preview with the name it has claimed. */
export interface PreviewRef extends PreviewSource {
  workflowId: string;
  /** The claimed slug: the first DNS label of its public address. */
  slug: string;
}

/** One commit brought up in its own container. */
export interface DeploymentRef {
  preview: PreviewRef;
  /** Machine name, at most 11 characters, `[a-z0-9-]` (see `containerName`). */
  container: string;
  /** Full 40-digit commit. */
  sha: string;
  /** Where the commit is fetched from: `refs/pull/42/head` or `refs/heads/main`. */
  ref: string;
  /** True when the commit comes from a fork: no secrets, ever. */
  fork: boolean;
}

/** What a deployment runs: a built system (nixos) or a built source tree (local), and what the repo declares. */
export interface Closure {
  /** Absolute path on the host: `/nix/store/…` or the cached tree of the local runtime. */
  path: string;
  meta: import('./meta.ts').PreviewMeta;
  /** The build's log on the host. Logs never pass through Temporal. */
  logPath: string;
  /** True when nothing had to be built. */
  cached: boolean;
}

/** Slot N of the subnet: host side `.{2N}`, container side `.{2N+1}`. */
export interface Slot {
  number: number;
  hostAddress: string;
  address: string;
}

/** Where a declared port of a deployment is really reached from the host. */
export interface Upstream {
  /** The port the meta declares. */
  port: number;
  /** `IP:port` (IPv6 in brackets). */
  address: string;
}

/** A hostname that a preview answers to. `prefix` is empty for the preview's own. */
export interface ClaimedHost {
  prefix: string;
  /** The DNS label, without the domain. */
  label: string;
  /** `label.domain`. */
  hostname: string;
}

/** The record that chose the upstream: everything needed to publish (or publish again) one deployment. */
export interface RouteRecord {
  container: string;
  sha: string;
  hosts: ClaimedHost[];
  meta: import('./meta.ts').PreviewMeta;
  upstreams: Upstream[];
}

/** One thing that still stands on the host for a preview (or an agent). */
export interface InventoryItem {
  kind:
    | 'container'
    | 'process'
    | 'slot'
    | 'route'
    | 'hostname'
    | 'database'
    | 'role'
    | 'secret'
    | 'port'
    | 'gcroot'
    | 'build';
  name: string;
}

/** `preview/<owner>/<repo>/<number>` or `preview/<owner>/<repo>/@<branch>`; owner and repo in lower case. */
export function previewWorkflowId(source: PreviewSource): string {
  const repo = `${source.owner}/${source.repo}`.toLowerCase();
  return `preview/${repo}/${source.number ?? `@${source.branch}`}`;
}

/** The ref that holds the preview's commits. GitHub keeps `refs/pull/N/head` in the parent repo, for forks too. */
export function previewRef(source: PreviewSource): string {
  return source.number === undefined ? `refs/heads/${source.branch}` : `refs/pull/${source.number}/head`;
}
