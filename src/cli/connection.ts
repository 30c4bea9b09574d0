import type { Client } from '@temporalio/client';
import { type HostLayout, hostLayout } from '../host/layout.ts';
import type { Environment } from '../temporal/connection.ts';
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
  const machine = await thisMachine(options, process.env);
  const { env, uiUrl } = await findTemporal(options, machine, process.env);
  // Here, not above: `tekton --help` has no use for a client that takes a quarter of a second to load.
  const { connectTemporal } = await import('../temporal/connection.ts');
  const { connection, client } = await connectTemporal(env).catch((cause: Error) => {
    throw new CliError(cause.message, 'Is `tekton up` running? `tekton doctor` looks.', cause);
  });
  try {
    return await work({ ...machine, uiUrl, client });
  } finally {
    await connection.close();
  }
}
