/**
 * The host port: how containers are made on this host. Two implementations: `local` (any Linux, no root, trusted code) and
 * `nixos` (nixos-container, nix). Activities know only this; every method is idempotent ("ensure present", "ensure absent"),
 * because an activity runs at least once.
 */
import type { PreviewMeta } from '../domain/meta.ts';
import type { Closure, DeploymentRef, InventoryItem, Slot, Upstream } from '../domain/preview.ts';

/** What a long step is given: when to stop, and where to say how far it is (shown live by the CLI and the progress page). */
export interface Step {
  signal: AbortSignal;
  progress(text: string): void;
}

export type ContainerStatus = 'up' | 'down' | 'gone';

export interface ContainerSpec {
  /** Container name (≤ 11 characters). */
  name: string;
  /** The preview's or the agent's workflow id: whose it is. */
  owner: string;
  kind: 'preview' | 'agent';
  /** Name of the folder its logs go to: the slug, or the agent's name. */
  label: string;
  closure: Closure;
  slot: Slot;
}

/** One container as the host has it. */
export interface ContainerRecord {
  name: string;
  owner: string;
  kind: 'preview' | 'agent';
  label: string;
  status: ContainerStatus;
  slot: Slot;
}

/** A service of a container as `logs` and `status` show it. */
export interface ServiceStatus {
  name: string;
  running: boolean;
  restarts: number;
}

export interface Runtime {
  readonly kind: 'local' | 'nixos';

  /** Builds what the deployment runs, or finds it in the cache. Throws CommitNotFound, InvalidMeta, BuildFailed. */
  buildClosure(deployment: DeploymentRef, step: Step): Promise<Closure>;

  /** The closure if it is built already: such a deployment needs no build place. */
  findClosure?(deployment: DeploymentRef): Promise<Closure | undefined>;

  /** Kills what is left of a build of this deployment (a superseded or crashed attempt). */
  abortBuild(container: string): Promise<void>;

  createContainer(spec: ContainerSpec, step: Step): Promise<void>;

  /**
   * Puts the commit's source at `/home/preview/app` and `env` at `/etc/preview.env` (mode 0600 where users differ). Refuses once
   * the container has been started: after first boot the host never writes through a path the container controls.
   */
  writeEnvironment(
    name: string,
    deployment: DeploymentRef,
    closure: Closure,
    env: Record<string, string>,
    step: Step,
  ): Promise<void>;

  startContainer(name: string, step: Step): Promise<void>;

  /** Runs the setup service (local: the Procfile's `setup:` then `release:`) once, to its end. Throws SetupFailed with its last lines. */
  runSetup(name: string, meta: PreviewMeta, step: Step): Promise<void>;

  /** Starts the app's services and keeps them running; done when they have been started, not when they are healthy. */
  startServices(name: string, meta: PreviewMeta, step: Step): Promise<void>;

  /**
   * Where each port can be reached from the host now; a port nobody listens on yet is absent. The local runtime reads where the
   * process group really listens.
   */
  upstreams(name: string, ports: number[]): Promise<Upstream[]>;

  /** The last lines that the container's services wrote, for an error's reason. At most `lines`. */
  tail(name: string, lines: number): Promise<string[]>;

  services(name: string): Promise<ServiceStatus[]>;

  /** Ensure absent: processes, files, network, registrations. Logs stay. */
  destroyContainer(name: string, step: Step): Promise<void>;

  status(name: string): Promise<ContainerStatus>;
  list(): Promise<ContainerRecord[]>;

  /** argv, cwd and environment for an interactive shell in the container (`tekton preview shell`, `tekton agent ssh`). */
  shell(name: string): Promise<{ argv: string[]; cwd: string; env: Record<string, string> }>;

  /** The log files of a label (slug or agent name), oldest first. `build` for build logs. */
  logFiles(label: string, what: 'app' | 'build'): Promise<string[]>;

  /** What still stands on the host for this owner (workflow id): containers, processes, ports, builds, GC roots. */
  inventory(owner: string): Promise<InventoryItem[]>;

  /** The address a container dials to reach the host's PostgreSQL. */
  databaseHost(slot: Slot): string;

  /** At worker start: brings every container that should run back (host reboot, `tekton up` again), without a rebuild. */
  recover(): Promise<void>;

  /** At worker stop: lets go without stopping the apps. */
  close(): Promise<void>;

  /** Stops every container's processes, keeping all state (Ctrl-C of `tekton up`). `recover` undoes it. */
  stopAll(): Promise<void>;
}
