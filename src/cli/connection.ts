import { once } from 'node:events';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import type { Client } from '@temporalio/client';
import { type HostLayout, hostLayout } from '../host/layout.ts';
import { defaultStateDir, type FoundStack, readStack } from '../stack/record.ts';
import { CliError } from './errors.ts';

/** What every command that talks to Temporal may be told. */
export interface ConnectionOptions {
  stateDir?: string;
}

/** This machine as its worker sees it. */
export interface Machine {
  /** The name of this machine's worker (TEKTON_HOST). */
  host: string;
  runtime: 'nixos' | 'local';
  /** Root of this machine's files. */
  stateDir: string;
  layout: HostLayout;
  /** The stack of `tekton up` that is meant, running or not. */
  stack?: FoundStack;
}

/** Where Temporal is, and which host this is. */
export interface Place extends Machine {
  client: Client;
  /** The address of Temporal's web UI, when it is known. */
  uiUrl?: string;
}

/**
 * Connects to Temporal, does the work, and lets go. The place is the first that is told: `--state-dir`, `TEMPORAL_ADDRESS`,
 * `TEKTON_STATE_DIR`, the stack in the default state folder.
 *
 * @throws CliError when there is no running stack or Temporal does not answer
 */
export async function withTemporal<T>(options: ConnectionOptions, work: (place: Place) => Promise<T>): Promise<T> {
  const machine = await thisMachine(options);
  const env = temporalEnvironment(options, machine);
  // Here, not above: `tekton --help` has no use for a client that takes a fifth of a second to load.
  const { connectTemporal, temporalOptions } = await import('../temporal/connection.ts');
  await mustListen(temporalOptions(env).address);
  const { connection, client } = await connectTemporal(env).catch((cause: Error) => {
    throw new CliError(cause.message, 'Is `tekton up` running? `tekton doctor` tells.', cause);
  });
  try {
    return await work({ ...machine, uiUrl: machine.stack?.temporalUiUrl, client });
  } finally {
    await connection.close();
  }
}

/**
 * Nobody listens: the person is told at once, not after gRPC's own patience.
 *
 * @throws CliError
 */
async function mustListen(address: string): Promise<void> {
  const [, host = '', port = ''] = /^(?:dns:\/*)?\[?([^/]*?)\]?:(\d+)$/.exec(address) ?? [];
  // An address that we can't read, a slow network and names are gRPC's to judge.
  if (!port) return;
  const socket = connect({ host, port: Number(port) });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(5000) });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ECONNREFUSED') return;
    throw new CliError(
      `Temporal does not answer at ${address}: nobody listens there`,
      'Is `tekton up` running? `tekton doctor` tells.',
      cause,
    );
  } finally {
    socket.destroy();
  }
}

/** This machine's name and files, by the stack that is meant, else by the environment of the services. */
export async function thisMachine(options: ConnectionOptions): Promise<Machine> {
  const { env } = process;
  const folder = resolve(options.stateDir ?? defaultStateDir(env));
  const stack = await readStack(folder);
  const elsewhere = !options.stateDir && env.TEMPORAL_ADDRESS && env.TEMPORAL_ADDRESS !== stack?.temporalAddress;
  if (stack && !elsewhere) {
    return { host: stack.host, runtime: 'local', stateDir: folder, layout: hostLayout(folder), stack };
  }
  const { readConfig } = await import('../config.ts');
  const { TEKTON_HOST, TEKTON_RUNTIME, XDG_STATE_HOME } = env;
  const TEKTON_STATE_DIR = options.stateDir ? folder : env.TEKTON_STATE_DIR;
  // Only what says who this machine is: a command must not fail for what its services still lack.
  const { host, runtime, stateDir } = readConfig(
    { PREVIEW_DOMAIN: 'localhost', TEKTON_HOST, TEKTON_RUNTIME, TEKTON_STATE_DIR, XDG_STATE_HOME },
    'worker',
  );
  return { host, runtime, stateDir, layout: hostLayout(stateDir) };
}

/** The environment that says where Temporal is, in the order of `withTemporal`. */
function temporalEnvironment(options: ConnectionOptions, { stack, stateDir, runtime }: Machine): NodeJS.ProcessEnv {
  const { env } = process;
  const told = env.TEMPORAL_ADDRESS || env.TEMPORAL_PROFILE || env.TEMPORAL_CONFIG_FILE;
  if (!options.stateDir && (told || (runtime === 'nixos' && !stack))) return env;
  if (stack?.running) {
    return {
      TEMPORAL_ADDRESS: stack.temporalAddress,
      TEMPORAL_NAMESPACE: stack.temporalNamespace,
      // The stack's own server wants nothing of what the person keeps for other servers; a file that isn't there is an empty one.
      TEMPORAL_CONFIG_FILE: join(stateDir, 'no-temporal.toml'),
    };
  }
  const named = options.stateDir ? ` --state-dir ${options.stateDir}` : '';
  throw new CliError(
    stack ? `the stack in ${stateDir} is not running` : `no stack was ever started in ${stateDir}`,
    `Run \`tekton up${named}\` first, in another terminal. A stack elsewhere: --state-dir <folder>, or TEMPORAL_ADDRESS.`,
  );
}
