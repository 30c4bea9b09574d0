/** What is known of a container, on disk: enough for another worker to take it over. */
import { readdir } from 'node:fs/promises';
import type { Slot } from '../../domain/preview.ts';
import { isMissing, readOrUndefined, writeAtomic } from '../../host/files.ts';
import type { HostLayout } from '../../host/layout.ts';
import { containerPaths } from './paths.ts';

/** What a Procfile line (or the lack of a Procfile) makes a service run. */
export interface Command {
  name: string;
  argv: [string, ...string[]];
}

/** A service's process as last started. */
export interface ServiceProcess {
  /** Names this start alone; stands in the environment of all that it starts. Written before the start, so that no process is ever unknown. */
  spawnId: string;
  pid?: number;
  /** Clock ticks since boot, see `Proc.start`. */
  start?: number;
  /** True once the first process ended well and left others behind: those are the service then. */
  daemon?: boolean;
  restarts: number;
}

export interface ContainerFile {
  name: string;
  owner: string;
  kind: 'preview' | 'agent';
  label: string;
  slot: Slot;
  closurePath: string;
  commands: Command[];
  /** Declared port → real port, unique on the machine. */
  ports: Record<string, number>;
  /** Service → the declared port it finds in `PORT`. */
  servicePorts: Record<string, number>;
  /** The commit whose source has been put in place. */
  sourceSha?: string;
  /** Past its first boot: the host writes no more into its root. */
  started: boolean;
  /** What the workflow wants of the services. */
  desired: 'running' | 'stopped';
  /** Stopped for now by `stopAll`; `recover` takes this back. */
  halted: boolean;
  /** Commands that have been run once, to their end. */
  done: string[];
  /** The services that are wanted, in order. */
  services: string[];
  processes: Record<string, ServiceProcess>;
}

/** Reads a container's record; undefined when there is none. */
export async function readRecord(layout: HostLayout, name: string): Promise<ContainerFile | undefined> {
  const text = await readOrUndefined(containerPaths(layout, name).record);
  return text === undefined ? undefined : (JSON.parse(text) as ContainerFile);
}

export async function writeRecord(layout: HostLayout, record: ContainerFile): Promise<void> {
  const { record: path } = containerPaths(layout, record.name);
  await writeAtomic(path, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}

/** Every container of this host that has a record. */
export async function listRecords(layout: HostLayout): Promise<ContainerFile[]> {
  const names = await readdir(layout.containers).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const records: ContainerFile[] = [];
  for (const name of names.sort()) {
    if (name.startsWith('.')) continue;
    const record = await readRecord(layout, name);
    if (record) records.push(record);
  }
  return records;
}
