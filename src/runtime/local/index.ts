/**
 * The local runtime: any Linux, no root, trusted code. A container is a folder and a supervised group of processes. Processes are
 * detached from the worker and write straight into their logs, so they outlive it; the record in the folder says what should run,
 * and the next worker takes over from there.
 */
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { failure } from '../../activities/failure.ts';
import { formatEnvFile, parseEnvFile } from '../../domain/environment.ts';
import { declaredPorts, type PreviewMeta, servicePort } from '../../domain/meta.ts';
import { readOrUndefined, withLock, writeAtomic } from '../../host/files.ts';
import type { HostLayout } from '../../host/layout.ts';
import { createMachineClaims, type MachineClaims } from '../../host/machine-claims.ts';
import type { Mirror } from '../../host/mirror.ts';
import type { ContainerStatus, Runtime, Step } from '../runtime.ts';
import { closureTree, createClosures, removeTree } from './closures.ts';
import { copySecrets, copySource, exists } from './contents.ts';
import { onceCommands } from './declared.ts';
import { containerMarker, type Machine, marker, processEnvironment } from './environment.ts';
import { inventoryOf } from './inventory.ts';
import { createLogKeeper } from './log-keeper.ts';
import { listLogs } from './logs.ts';
import { describeMachine, firstExecutable } from './machine.ts';
import { runOnce } from './once.ts';
import { appLogPath, containerPaths, logFolder } from './paths.ts';
import { endProcs, findProcs, isAlive, type Proc, type ProcId, takeSnapshot } from './proc.ts';
import { type ContainerFile, listRecords, readRecord, writeRecord } from './record.ts';
import { createSupervisor } from './supervisor.ts';
import { tailOf } from './tail.ts';
import { findUpstreams } from './upstreams.ts';

export interface LocalRuntimeOptions {
  layout: HostLayout;
  mirror: Mirror;
  logger: Logger;
  /** Shared by every stack of the machine; the machine's own folder unless given. */
  claims?: MachineClaims;
  /** How long processes may take to end by themselves, in ms. */
  graceMs?: number;
  /** How many closures that no container uses are kept. */
  keepClosures?: number;
}

/** Makes the runtime; starts nothing. A worker calls `recover` once; others (the CLI) only read. */
export function createLocalRuntime(options: LocalRuntimeOptions): Runtime {
  const { layout, logger, mirror } = options;
  const claims = options.claims ?? createMachineClaims();
  const graceMs = options.graceMs ?? 3000;
  const machine = describeMachine(layout);

  const closures = createClosures({
    layout,
    machine,
    mirror,
    logger,
    keep: options.keepClosures ?? 20,
    inUse: async () => new Set((await listRecords(layout)).map((record) => record.closurePath)),
  });
  const supervisor = createSupervisor({ layout, machine, logger, environmentOf });
  /** Steps under way, so that a destroy need not wait behind them. */
  const underWay = new Map<string, Set<AbortController>>();
  const logKeeper = createLogKeeper(layout, logger);

  const lock = <T>(name: string, work: () => Promise<T>, signal?: AbortSignal) =>
    withLock(containerPaths(layout, name).folder, work, { signal });

  async function recordOf(name: string): Promise<ContainerFile> {
    const record = await readRecord(layout, name);
    if (!record)
      throw failure('ContainerFailed', `There is no container ${name}: it was not created, or is gone already.`);
    return record;
  }

  async function change(name: string, edit: (record: ContainerFile) => void): Promise<ContainerFile> {
    const record = await recordOf(name);
    edit(record);
    await writeRecord(layout, record);
    return record;
  }

  /** Runs a step that a destroy of the same container may cut short. */
  async function during<T>(name: string, step: Step, work: (step: Step) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const steps = underWay.get(name) ?? new Set();
    underWay.set(name, steps.add(controller));
    try {
      return await work({ signal: AbortSignal.any([step.signal, controller.signal]), progress: step.progress });
    } finally {
      steps.delete(controller);
      if (steps.size === 0 && underWay.get(name) === steps) underWay.delete(name);
    }
  }

  async function environmentOf(
    record: ContainerFile,
    service: string,
    spawnId: string,
  ): Promise<Record<string, string>> {
    const text = await readOrUndefined(containerPaths(layout, record.name).previewEnv);
    const previewEnv = text === undefined ? {} : parseEnvFile(text);
    return processEnvironment(layout, machine, record, service, previewEnv, spawnId);
  }

  /** Every process of a container: by marker, descent, session and working folder. */
  function processesOf(name: string, record: ContainerFile | undefined, snapshot = takeSnapshot()): Proc[] {
    const known = Object.values(record?.processes ?? {}).flatMap(({ pid, start }): ProcId[] =>
      pid !== undefined && start !== undefined ? [{ pid, start }] : [],
    );
    const environ = { [marker.container]: containerMarker(machine, name) };
    return findProcs({ environ, known, folder: containerPaths(layout, name).root }, snapshot);
  }

  return {
    kind: 'local',

    buildClosure: (deployment, step) => closures.build(deployment, step),
    findClosure: (deployment) => closures.find(deployment),
    abortBuild: (container) => closures.abort(container),

    async createContainer(spec, step) {
      await during(spec.name, step, ({ signal }) =>
        lock(
          spec.name,
          async () => {
            const { name, owner, kind, label, slot, closure } = spec;
            const earlier = await readRecord(layout, name);
            if (earlier && earlier.owner !== owner) {
              throw failure(
                'ContainerFailed',
                `The container ${name} is there already and belongs to ${earlier.owner}.`,
              );
            }
            // A retry: what is there may already have been started.
            if (earlier) return;
            const paths = containerPaths(layout, name);
            // An attempt that died before its record was written may have left claims.
            if (await exists(paths.folder)) await claims.releaseAll('port', paths.folder);
            for (const folder of [paths.home, paths.tmp, join(paths.root, 'etc')])
              await mkdir(folder, { recursive: true });
            await chmod(paths.folder, 0o700);
            const ports: Record<string, number> = {};
            for (const port of kind === 'agent' ? [] : declaredPorts(closure.meta)) {
              ports[port] = await claims.claimPort(paths.folder);
            }
            if (kind === 'agent') await copySecrets(layout.claudeSecrets, paths.claudeCreds);
            await writeRecord(layout, {
              name,
              owner,
              kind,
              label,
              slot,
              closurePath: closure.path,
              commands: kind === 'agent' ? [] : await closures.commandsOf(closure.path),
              ports,
              servicePorts: kind === 'agent' ? {} : servicePortsOf(closure.meta),
              started: false,
              desired: 'stopped',
              halted: false,
              done: [],
              services: [],
              processes: {},
            });
          },
          signal,
        ),
      );
    },

    async writeEnvironment(name, deployment, closure, env, step) {
      await during(name, step, (inner) =>
        lock(
          name,
          async () => {
            const record = await recordOf(name);
            if (record.started) {
              throw failure('ContainerFailed', `The container ${name} has been started: its files are its own now.`);
            }
            const text = formatEnvFile(env);
            await writeAtomic(containerPaths(layout, name).previewEnv, text, { mode: 0o600 });
            if (record.sourceSha === deployment.sha) return;
            step.progress('copying the source');
            // Between build and here a deployment may have waited for long: what the cache dropped meanwhile is built again.
            const path = (await exists(closureTree(closure.path)))
              ? closure.path
              : (await closures.build(deployment, inner)).path;
            // A copy that an attempt of a dead worker began may still be at it.
            await endProcs(() => processesOf(name, record), 0);
            const copyEnv = { PATH: machine.path, LC_ALL: 'C', [marker.container]: containerMarker(machine, name) };
            await copySource(path, containerPaths(layout, name).app, copyEnv, inner);
            const commands = await closures.commandsOf(path);
            await change(name, (now) => {
              now.closurePath = path;
              now.commands = commands;
              now.sourceSha = deployment.sha;
            });
          },
          inner.signal,
        ),
      );
    },

    async startContainer(name, step) {
      await lock(
        name,
        () =>
          change(name, (record) => {
            record.started = true;
          }),
        step.signal,
      );
    },

    async runSetup(name, meta, step) {
      await during(name, step, async (inner) => {
        const first = await recordOf(name);
        const paths = containerPaths(layout, name);
        for (const command of onceCommands(meta, first.commands)) {
          if ((await recordOf(name)).done.includes(command.name)) continue;
          // A retry kills first: an attempt whose worker died may still be at it.
          await endProcs(() => processesOf(name, undefined), 1000);
          inner.signal.throwIfAborted();
          const spec = {
            argv: command.argv,
            cwd: paths.app,
            env: await environmentOf(first, command.name, `once-${command.name}`),
            logPath: appLogPath(layout, first.label, name, command.name),
          };
          await runOnce(command.name, spec, () => processesOf(name, undefined), inner);
          await lock(name, () => change(name, (record) => void record.done.push(command.name)));
        }
      });
    },

    async startServices(name, meta, step) {
      await during(name, step, async ({ signal }) => {
        await lock(
          name,
          () =>
            change(name, (record) => {
              const unknown = meta.appServices.find((service) => !record.commands.some((one) => one.name === service));
              if (unknown !== undefined) {
                throw failure(
                  'InvalidMeta',
                  `appServices names '${unknown}', which nothing in ${name} says how to run.`,
                );
              }
              record.services = meta.appServices;
              record.desired = 'running';
              record.halted = false;
            }),
          signal,
        );
        await supervisor.bringUp(name);
      });
      logKeeper.start();
    },

    async upstreams(name, ports) {
      const record = await readRecord(layout, name);
      if (!record) return [];
      return await findUpstreams(record, ports, () => processesOf(name, record));
    },

    tail: (name, lines) => tailOf(layout, name, lines),

    async services(name) {
      const record = await readRecord(layout, name);
      return (record?.services ?? []).map((service) => {
        const process = record?.processes[service];
        return { name: service, running: runs(machine, name, process), restarts: process?.restarts ?? 0 };
      });
    },

    async destroyContainer(name, step) {
      const paths = containerPaths(layout, name);
      for (const controller of underWay.get(name) ?? []) {
        controller.abort(failure('ContainerFailed', `The container ${name} is being destroyed.`));
      }
      // So that no loop, here or in another process, starts anything again.
      await lock(name, async () => {
        const record = await readRecord(layout, name);
        if (record) await writeRecord(layout, { ...record, desired: 'stopped' });
      });
      await supervisor.letGo(name);
      await lock(
        name,
        async () => {
          const record = await readRecord(layout, name);
          step.progress('stopping the processes');
          await endProcs(() => processesOf(name, record), graceMs);
          if (record)
            for (const port of Object.values(record.ports)) await claims.release('port', String(port), paths.folder);
          else if (await exists(paths.folder)) await claims.releaseAll('port', paths.folder);
          step.progress('removing the files');
          // The record goes last: until then a crash leaves something that says whose this was.
          await removeTree(paths.root);
          await removeTree(paths.folder);
          await endProcs(() => processesOf(name, record), 0);
        },
        step.signal,
      );
    },

    async status(name) {
      return statusOf(await readRecord(layout, name));
    },

    async list() {
      return (await listRecords(layout)).map((record) => ({
        name: record.name,
        owner: record.owner,
        kind: record.kind,
        label: record.label,
        status: statusOf(record),
        slot: record.slot,
      }));
    },

    async shell(name) {
      const record = await recordOf(name);
      const paths = containerPaths(layout, name);
      const env = await environmentOf(record, record.services[0] ?? 'web', 'shell');
      const shell = firstExecutable(['/bin/bash', '/usr/bin/bash', '/run/current-system/sw/bin/bash']) ?? '/bin/sh';
      const term = process.env.TERM;
      return {
        argv: [shell, '-i'],
        cwd: record.kind === 'agent' ? paths.home : paths.app,
        env: { ...env, SHELL: shell, ...(term !== undefined && { TERM: term }) },
      };
    },

    async logFiles(label, what) {
      const files = await listLogs(logFolder(layout, label));
      return files.filter((file) => file.name.startsWith('build-') === (what === 'build')).map((file) => file.path);
    },

    async inventory(owner) {
      return await inventoryOf(layout, machine, owner, processesOf);
    },

    // Processes of the local runtime share the host's loopback.
    databaseHost: () => '127.0.0.1',

    async recover() {
      await mkdir(layout.containers, { recursive: true });
      await closures.endOrphans();
      await claims.sweep();
      const leftovers = takeSnapshot();
      for (const record of await listRecords(layout)) {
        if (record.desired !== 'running') continue;
        try {
          await lock(record.name, () =>
            change(record.name, (now) => {
              now.halted = false;
            }),
          );
          await supervisor.bringUp(record.name, leftovers);
        } catch (error) {
          // One that can't be brought back must not keep the others down; its preview's own workflow will see it.
          logger.error({ container: record.name, err: error }, `${record.name} could not be brought back`);
        }
      }
      logKeeper.start();
    },

    async close() {
      logKeeper.stop();
      await supervisor.letGoOfAll();
    },

    async stopAll() {
      logKeeper.stop();
      // What is cut short is no failure of the app's: it may be tried again.
      const stopping = failure('ContainerFailed', 'The host is stopping; it is tried again when it is back.');
      for (const steps of underWay.values()) for (const controller of steps) controller.abort(stopping);
      await closures.abortAll(stopping);
      await Promise.all(
        (await listRecords(layout)).map(async ({ name }) => {
          await lock(name, async () => {
            const record = await readRecord(layout, name);
            if (record) await writeRecord(layout, { ...record, halted: true });
          });
          await supervisor.letGo(name);
          await lock(name, async () => {
            const record = await readRecord(layout, name);
            await endProcs(() => processesOf(name, record), graceMs);
          });
        }),
      );
    },
  };
}

function servicePortsOf(meta: PreviewMeta): Record<string, number> {
  const ports: Record<string, number> = {};
  for (const service of meta.appServices) {
    const port = servicePort(meta, service);
    if (port !== undefined) ports[service] = port;
  }
  // A lone service of another name is what answers, even where no route says so.
  const [only] = meta.appServices;
  if (meta.appServices.length === 1 && only !== undefined && ports[only] === undefined) {
    const root = meta.routes.find((route) => route.path === '/');
    if (root) ports[only] = root.port;
  }
  return ports;
}

function statusOf(record: ContainerFile | undefined): ContainerStatus {
  if (!record) return 'gone';
  return record.started && !record.halted ? 'up' : 'down';
}

function runs(machine: Machine, name: string, process: ContainerFile['processes'][string] | undefined): boolean {
  if (!process) return false;
  if (!process.daemon) return process.pid !== undefined && isAlive({ pid: process.pid, start: process.start ?? 0 });
  const environ = { [marker.container]: containerMarker(machine, name), [marker.spawn]: process.spawnId };
  return findProcs({ environ }).length > 0;
}
