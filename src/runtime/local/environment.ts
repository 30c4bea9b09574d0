/** The environments that processes of the local runtime get: clean, nothing of the worker's. Pure. */
import { delimiter, dirname, join } from 'node:path';
import type { HostLayout } from '../../host/layout.ts';
import { networkVariables } from '../../host/network-environment.ts';
import { containerPaths } from './paths.ts';
import type { ContainerFile } from './record.ts';

/** Variables by which a process is found again. */
export const marker = {
  container: 'TEKTON_CONTAINER',
  owner: 'TEKTON_OWNER',
  spawn: 'TEKTON_SPAWN',
  builder: 'TEKTON_BUILDER',
} as const;

/** What is the same for every process of this host. */
export interface Machine {
  /** Tells the processes of two stacks on one machine apart. */
  stateId: string;
  path: string;
  user: string;
}

/**
 * A PATH with node's own folder, npm's, and the standard ones.
 *
 * @param npm where the worker finds npm, if not beside node
 */
export function standardPath(nodePath: string, npm: string | undefined): string {
  const folders = [
    dirname(nodePath),
    ...(npm === undefined ? [] : [dirname(npm)]),
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
    '/run/current-system/sw/bin',
  ];
  return [...new Set(folders)].join(delimiter);
}

/** The marker of a container's processes. */
export function containerMarker(machine: Machine, name: string): string {
  return `${machine.stateId}/${name}`;
}

/** The marker of a container's build. */
export function buildMarker(machine: Machine, name: string): string {
  return `${machine.stateId}/${name}:build`;
}

/**
 * The environment of a process in a container: standard things, then `/etc/preview.env`, then what nothing may change.
 *
 * @param service the Procfile's name; its port goes in `PORT`
 * @param previewEnv what `/etc/preview.env` holds
 * @param spawnId names this start alone
 */
export function processEnvironment(
  layout: HostLayout,
  machine: Machine,
  record: ContainerFile,
  service: string,
  previewEnv: Record<string, string>,
  spawnId: string,
): Record<string, string> {
  const paths = containerPaths(layout, record.name);
  const declared = record.servicePorts[service];
  const port = declared === undefined ? undefined : record.ports[declared];
  return {
    PATH: `${join(paths.app, 'node_modules/.bin')}${delimiter}${machine.path}`,
    LANG: 'C.UTF-8',
    SHELL: '/bin/sh',
    USER: machine.user,
    LOGNAME: machine.user,
    ...previewEnv,
    HOME: paths.home,
    TMPDIR: paths.tmp,
    HOST: record.slot.address,
    ...(port !== undefined && { PORT: String(port) }),
    ...Object.fromEntries(Object.entries(record.ports).map(([of, real]) => [`PORT_${of}`, String(real)])),
    [marker.container]: containerMarker(machine, record.name),
    [marker.owner]: record.owner,
    [marker.spawn]: spawnId,
  };
}

/** What a build may know of the worker's environment: how to reach the registry, nothing else. */
const inherited = [...networkVariables, 'npm_config_registry', 'NPM_CONFIG_REGISTRY'];

/**
 * The environment of a build. NODE_ENV is left unset: builds need their devDependencies.
 *
 * @param folder the build's temporary folder, with `home` and `tmp` in it
 * @param builder pid and start time of the worker that builds: a build whose worker is dead is a leftover
 */
export function buildEnvironment(
  machine: Machine,
  build: { container: string; owner: string; folder: string; npmCache: string; npmrc: string; builder: string },
  worker: Record<string, string | undefined>,
): Record<string, string> {
  const env: Record<string, string> = {
    PATH: machine.path,
    LANG: 'C.UTF-8',
    SHELL: '/bin/sh',
    USER: machine.user,
    LOGNAME: machine.user,
    HOME: join(build.folder, 'home'),
    TMPDIR: join(build.folder, 'tmp'),
    npm_config_cache: build.npmCache,
    npm_config_userconfig: build.npmrc,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    npm_config_progress: 'false',
    [marker.container]: buildMarker(machine, build.container),
    [marker.owner]: build.owner,
    [marker.builder]: build.builder,
  };
  for (const name of inherited) {
    const value = worker[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}
