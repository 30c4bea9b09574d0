/** What `tekton up` leaves for others to find: `<state>/stack.json`. No secrets in it, but the places where they lie. */
import { rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { readOrUndefined, withLock, writeAtomic } from '../host/files.ts';
import { isAlive, type ProcId, readProc } from '../runtime/local/proc.ts';
import type { Ports } from './ports.ts';

export const serviceNames = ['temporal', 'postgres', 'caddy', 'worker', 'webhook'] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface StackRecord {
  startedAt: string;
  stateDir: string;
  /** TEKTON_HOST of its services: the host part of task queues. */
  host: string;
  domain: string;
  /** As given by `--allowed-repos` or ALLOWED_REPOS; kept for the next start. */
  allowedRepos?: string;
  /** As given by `--git-base-url` or GIT_BASE_URL; kept for the next start. */
  gitBaseUrl?: string;
  subnet: string;
  ports: Ports;
  temporalAddress: string;
  temporalNamespace: string;
  temporalUiUrl: string;
  webhookUrl: string;
  /** The address of previews, `http://<slug>.preview.localhost:8080`. */
  previewUrl: string;
  caddyAdmin: string;
  /** File that holds the webhook's secret; absent when GITHUB_WEBHOOK_SECRET gave it. */
  webhookSecretFile?: string;
  /** File that holds the password of PostgreSQL's admin role, `tekton`. */
  postgresPasswordFile: string;
  postgresData: string;
  services: Partial<Record<ServiceName, { pid: number; version?: string; path?: string }>>;
}

/** A stack as found: its record, and the pid of its `tekton up` when that runs. */
export interface FoundStack extends StackRecord {
  running: boolean;
  pid?: number;
}

/** The state folder of `tekton up` when none is named: TEKTON_STATE_DIR, else `${XDG_STATE_HOME:-~/.local/state}/tekton`. */
export function defaultStateDir(env: NodeJS.ProcessEnv): string {
  if (env.TEKTON_STATE_DIR) return env.TEKTON_STATE_DIR;
  const state = env.XDG_STATE_HOME;
  return join(state && isAbsolute(state) ? state : join(env.HOME || homedir(), '.local/state'), 'tekton');
}

const recordFile = (stateDir: string) => join(stateDir, 'stack.json');

/**
 * The stack of a state folder, or undefined when none was ever started there. `running` tells whether its `tekton up` is alive.
 *
 * @param stateDir default: `defaultStateDir` of this process's environment
 */
export async function readStack(stateDir: string = defaultStateDir(process.env)): Promise<FoundStack | undefined> {
  const text = await readOrUndefined(recordFile(stateDir));
  if (text === undefined) return undefined;
  let record: StackRecord;
  try {
    record = JSON.parse(text) as StackRecord;
  } catch (cause) {
    throw new Error(`${recordFile(stateDir)} is not readable as JSON: remove it and run \`tekton up\` again`, {
      cause,
    });
  }
  const supervisor = await supervisorOf(stateDir);
  return { ...record, running: supervisor !== undefined, ...(supervisor ? { pid: supervisor.pid } : {}) };
}

export async function writeStack(record: StackRecord): Promise<void> {
  await writeAtomic(recordFile(record.stateDir), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600, sync: true });
}

const supervisorFile = (stateDir: string) => join(stateDir, 'run/tekton/up.json');

/** The `tekton up` that runs on this state folder now. */
async function supervisorOf(stateDir: string): Promise<ProcId | undefined> {
  const text = await readOrUndefined(supervisorFile(stateDir));
  if (!text) return undefined;
  const id = JSON.parse(text) as ProcId;
  return isAlive(id) ? id : undefined;
}

/**
 * Makes this process the only `tekton up` of the state folder, until the function it gives is called or the process ends.
 *
 * @throws Error naming the pid of the one that has it
 */
export async function becomeSupervisor(stateDir: string): Promise<() => Promise<void>> {
  const file = supervisorFile(stateDir);
  return withLock(`stack:${stateDir}`, async () => {
    const other = await supervisorOf(stateDir);
    if (other) {
      throw new Error(
        `a stack already runs on ${stateDir}: \`tekton up\` with pid ${other.pid}. Stop that one, or choose another folder with --state-dir`,
      );
    }
    const self = readProc(process.pid);
    await writeAtomic(file, JSON.stringify({ pid: process.pid, start: self?.start }), { mode: 0o600 });
    return () => rm(file, { force: true });
  });
}
