/** Keeps services running: one loop a service. Nothing of it survives the worker but the record; the next worker adopts by that. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { withLock } from '../../host/files.ts';
import type { HostLayout } from '../../host/layout.ts';
import { containerMarker, type Machine, marker } from './environment.ts';
import { note } from './logs.ts';
import { appLogPath, containerPaths } from './paths.ts';
import { endProcs, findProcs, isAlive, type Proc, type ProcId, readProc, type Snapshot, takeSnapshot } from './proc.ts';
import { type Command, type ContainerFile, readRecord, type ServiceProcess, writeRecord } from './record.ts';
import { describeEnd, type End, endOf, pause, spawnLogged } from './spawn.ts';

/** How long after the nth failure in a row a service is started again, and how long it must run to be forgiven. In ms. */
export const backOff = { first: 500, most: 30_000, forgivenAfter: 60_000 } as const;

export function restartDelay(failures: number): number {
  return Math.min(backOff.first * 2 ** Math.min(failures, 20), backOff.most);
}

export interface Supervisor {
  /**
   * Makes sure each wanted service of the container runs and is watched: what still runs is adopted, the rest started, and what belongs
   * to neither is killed.
   *
   * @param snapshot taken since this worker began, to look for leftovers in; saves a look at every process for each container
   */
  bringUp(name: string, snapshot?: Snapshot): Promise<void>;
  /**
   * Stops watching a container's services; done when no loop will start anything any more. The processes stay. Whoever calls it must
   * not hold the container's lock: a loop may be waiting for it.
   */
  letGo(name: string): Promise<void>;
  letGoOfAll(): Promise<void>;
}

interface Watch {
  abort: AbortController;
  /** Resolves once the service has been started (or adopted) for the first time. */
  up: Promise<void>;
  over: Promise<void>;
}

/** A process that runs now, and how its end will be learnt. */
interface Running {
  id: ProcId | undefined;
  spawnId: string;
  ended: (signal: AbortSignal) => Promise<End | 'let go'>;
  daemon: boolean;
}

const pollMs = 500;

export function createSupervisor(options: {
  layout: HostLayout;
  machine: Machine;
  logger: Logger;
  environmentOf(record: ContainerFile, service: string, spawnId: string): Promise<Record<string, string>>;
}): Supervisor {
  const { layout, machine, logger, environmentOf } = options;
  const watches = new Map<string, Map<string, Watch>>();

  const membersOf = (name: string, spawnId: string, known: ProcId[] = []): Proc[] =>
    findProcs({ environ: { [marker.container]: containerMarker(machine, name), [marker.spawn]: spawnId }, known });

  /** The record if the service should run now. */
  async function wanted(name: string, service: string): Promise<ContainerFile | undefined> {
    const record = await readRecord(layout, name);
    return record && record.desired === 'running' && !record.halted && record.services.includes(service)
      ? record
      : undefined;
  }

  async function remember(record: ContainerFile, service: string, process: ServiceProcess): Promise<void> {
    record.processes[service] = process;
    await writeRecord(layout, record);
  }

  /** Starts the service anew, or gives undefined when it is not wanted (any more). */
  function start(name: string, service: string, restarts: number, signal: AbortSignal): Promise<Running | undefined> {
    return withLock(containerPaths(layout, name).folder, async () => {
      const record = signal.aborted ? undefined : await wanted(name, service);
      const command = record?.commands.find((one) => one.name === service);
      if (!record || !command) return undefined;
      const spawnId = `${service}-${randomBytes(6).toString('hex')}`;
      // Before the start: should the worker die right after it, the process is found by this.
      await remember(record, service, { spawnId, restarts });
      return await launch(record, command, spawnId, restarts);
    });
  }

  async function launch(record: ContainerFile, command: Command, spawnId: string, restarts: number): Promise<Running> {
    const child = spawnLogged({
      argv: command.argv,
      cwd: containerPaths(layout, record.name).app,
      env: await environmentOf(record, command.name, spawnId),
      logPath: appLogPath(layout, record.label, record.name, command.name),
    });
    const ended = endOf(child);
    const proc = child.pid === undefined ? undefined : readProc(child.pid);
    await remember(record, command.name, { spawnId, pid: proc?.pid, start: proc?.start, restarts });
    return {
      id: proc,
      spawnId,
      daemon: false,
      ended: (signal) =>
        Promise.race([
          ended,
          new Promise<'let go'>((resolve) => {
            if (signal.aborted) resolve('let go');
            signal.addEventListener('abort', () => resolve('let go'), { once: true });
          }),
        ]),
    };
  }

  /** The service's process of an earlier worker, if it still runs. */
  function adopt(record: ContainerFile, service: string): Running | undefined {
    const process = record.processes[service];
    if (!process) return undefined;
    const { spawnId, pid, start: ticks } = process;
    if (process.daemon) {
      const members = membersOf(record.name, spawnId);
      return members.length > 0 ? { id: undefined, spawnId, daemon: true, ended: async () => never } : undefined;
    }
    const id =
      pid !== undefined && ticks !== undefined
        ? { pid, start: ticks }
        : // Started, but the worker died before it could write down which one it is: the leader of its own session.
          membersOf(record.name, spawnId).find((proc) => proc.sid === proc.pid);
    if (!id || !isAlive(id)) return undefined;
    return {
      id: { pid: id.pid, start: id.start },
      spawnId,
      daemon: false,
      ended: async (signal) => {
        // Not our child: its end can only be seen, and its exit code is lost.
        while (isAlive(id)) if (await pause(pollMs, signal)) return 'let go';
        return unknownEnd;
      },
    };
  }

  /** A program that goes to the background ends well and leaves others behind: those are the service then. */
  async function followMembers(name: string, running: Running, signal: AbortSignal): Promise<'let go' | 'ended'> {
    for (;;) {
      const members = membersOf(name, running.spawnId);
      if (members.length === 0) return 'ended';
      while (members.some(isAlive)) if (await pause(pollMs, signal)) return 'let go';
    }
  }

  async function watchOnce(
    name: string,
    service: string,
    running: Running,
    signal: AbortSignal,
  ): Promise<End | 'let go'> {
    let end: End = wellEnded;
    if (!running.daemon) {
      const first = await running.ended(signal);
      if (first === 'let go') return first;
      end = first;
      if (end.code !== 0 || membersOf(name, running.spawnId).length === 0) return end;
      await withLock(containerPaths(layout, name).folder, async () => {
        const record = await readRecord(layout, name);
        const process = record?.processes[service];
        if (record && process?.spawnId === running.spawnId)
          await remember(record, service, { ...process, daemon: true });
      });
    }
    return (await followMembers(name, running, signal)) === 'let go' ? 'let go' : end;
  }

  async function supervise(
    name: string,
    service: string,
    adopted: Running | undefined,
    signal: AbortSignal,
    onUp: () => void,
  ): Promise<void> {
    let failures = 0;
    let restarts = (await readRecord(layout, name))?.processes[service]?.restarts ?? 0;
    let running = adopted;
    let everUp = false;
    while (!signal.aborted) {
      const since = Date.now();
      try {
        running ??= await start(name, service, restarts, signal);
        if (!running) return;
        everUp = true;
        onUp();
        const end = await watchOnce(name, service, running, signal);
        if (end === 'let go') return;
        // Its children may hold the port that the next start needs.
        const { spawnId, id } = running;
        await endProcs(() => membersOf(name, spawnId, id ? [id] : []), 1000);
        running = undefined;
        const record = await wanted(name, service);
        if (!record || signal.aborted) return;

        const ran = Date.now() - since;
        if (ran >= backOff.forgivenAfter) failures = 0;
        const delay = restartDelay(failures++);
        restarts++;
        const text = `${service} ended (${describeEnd(end)}) after ${seconds(ran)} s; starting it again in ${seconds(delay)} s (restart ${restarts})`;
        logger.warn({ container: name, service, restarts }, text);
        await note(appLogPath(layout, record.label, name, service), text);
        if (await pause(delay, signal)) return;
      } catch (error) {
        // Whoever asked for the first start hears of it; later the host has trouble (a full disk, say), and it is tried again.
        if (!everUp) throw error;
        logger.error({ container: name, service, err: error }, `${service} could not be supervised; tried again`);
        if (await pause(backOff.most, signal)) return;
        running = await stillRunning(name, service, running);
      }
    }
  }

  /** After trouble in between: the process that was started, if there still is one. */
  async function stillRunning(
    name: string,
    service: string,
    running: Running | undefined,
  ): Promise<Running | undefined> {
    if (running) return running;
    const record = await readRecord(layout, name).catch(() => undefined);
    return record && adopt(record, service);
  }

  function watch(name: string, service: string, adopted: Running | undefined): Watch {
    const abort = new AbortController();
    let onUp = () => {};
    const started = new Promise<void>((resolve) => {
      onUp = resolve;
    });
    const over = supervise(name, service, adopted, abort.signal, () => onUp());
    const handled = over.catch((error) => {
      logger.error({ container: name, service, err: error }, `${service} is no longer supervised: ${error.message}`);
    });
    void handled.then(() => {
      const of = watches.get(name);
      if (of?.get(service) === entry) of.delete(service);
      if (of?.size === 0) watches.delete(name);
    });
    // A start that fails must be heard by whoever asked for it.
    const up = Promise.race([started, over]);
    up.catch(() => {});
    const entry: Watch = { abort, up, over: handled };
    return entry;
  }

  async function letGo(name: string): Promise<void> {
    const of = [...(watches.get(name)?.values() ?? [])];
    for (const entry of of) entry.abort.abort();
    await Promise.all(of.map((entry) => entry.over));
  }

  return {
    letGo,

    async letGoOfAll() {
      await Promise.all([...watches.keys()].map(letGo));
    },

    async bringUp(name, snapshot) {
      const folder = containerPaths(layout, name).folder;
      const entries = await withLock(folder, async () => {
        const record = await readRecord(layout, name);
        if (record?.desired !== 'running' || record.halted) return [];
        const of = watches.get(name) ?? new Map<string, Watch>();
        watches.set(name, of);
        const adopted = new Map(
          record.services
            .filter((service) => !of.has(service))
            .map((service) => [service, adopt(record, service)] as const),
        );
        await endStrays(record, of, adopted, snapshot);
        for (const [service, running] of adopted) of.set(service, watch(name, service, running));
        return [...of.values()];
      });
      await Promise.all(entries.map((entry) => entry.up));
    },
  };

  /** Kills what an earlier attempt left: processes of this container that belong to no service that runs now. */
  async function endStrays(
    record: ContainerFile,
    watched: Map<string, Watch>,
    adopted: Map<string, Running | undefined>,
    snapshot: Snapshot | undefined,
  ): Promise<void> {
    const kept = new Set<string>(['shell']);
    for (const running of adopted.values()) if (running) kept.add(running.spawnId);
    for (const service of watched.keys()) {
      const spawnId = record.processes[service]?.spawnId;
      if (spawnId) kept.add(spawnId);
    }
    const environ = { [marker.container]: containerMarker(machine, record.name) };
    const strays = (now: Snapshot) => {
      const found = findProcs({ environ }, now);
      const ours = new Set<number>();
      for (const spawnId of found.length > 0 ? kept : []) {
        for (const proc of findProcs({ environ: { ...environ, [marker.spawn]: spawnId } }, now)) ours.add(proc.pid);
      }
      return found.filter((proc) => !ours.has(proc.pid));
    };
    if (snapshot && strays(snapshot).length === 0) return;
    await endProcs(() => strays(takeSnapshot()), 1000);
  }
}

const never = new Promise<never>(() => {});
const wellEnded: End = { code: 0, signal: null };
const unknownEnd: End = { code: null, signal: null, error: new Error('exit code unknown') };

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}
