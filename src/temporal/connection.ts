import { Client, Connection } from '@temporalio/client';
import { type ClientConnectConfig, loadClientConnectConfig } from '@temporalio/envconfig';

export interface Temporal {
  connection: Connection;
  client: Client;
  namespace: string;
  /** `host:port`, for messages. */
  address: string;
}

export interface TemporalOptions {
  /** For a client's `Connection` and a worker's `NativeConnection` alike. */
  options: Pick<ClientConnectConfig['connectionOptions'], 'address' | 'tls' | 'apiKey' | 'metadata'>;
  namespace: string;
  address: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** gRPC's own limit is two minutes: far too long to stay away from a Temporal that has come back. */
const channelArgs = { 'grpc.initial_reconnect_backoff_ms': 200, 'grpc.max_reconnect_backoff_ms': 2_000 };

/**
 * Where Temporal is, by Temporal's own environment configuration (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_TLS…`,
 * `TEMPORAL_API_KEY`, `TEMPORAL_PROFILE`, its configuration file), so that the same program runs against a dev server, a cluster, or
 * Temporal Cloud.
 *
 * @throws Error that names the variable when one is ill-formed
 */
export function temporalOptions(env: Environment): TemporalOptions {
  const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const { connectionOptions, namespace } = loadClientConnectConfig({ overrideEnvVars: Object.fromEntries(set) });
  const { address = 'localhost:7233', tls, apiKey, metadata } = connectionOptions;
  return {
    options: { address, tls, apiKey, metadata },
    namespace: namespace ?? 'default',
    address,
  };
}

/**
 * Connects, and fails when Temporal does not answer within 10 seconds.
 *
 * @throws Error that says which address did not answer
 */
export async function connectTemporal(env: Environment): Promise<Temporal> {
  const { options, ...where } = temporalOptions(env);
  try {
    return withClient(await Connection.connect({ ...options, channelArgs }), where);
  } catch (cause) {
    throw new Error(
      `Temporal does not answer at ${where.address} (${reason(cause)}). Start it, or set TEMPORAL_ADDRESS.`,
      { cause },
    );
  }
}

/** A connection that is made by the first call and again whenever it was lost; never fails by itself. */
export function lazyTemporal(env: Environment): Temporal {
  const { options, ...where } = temporalOptions(env);
  return withClient(Connection.lazy({ ...options, channelArgs }), where);
}

function withClient(connection: Connection, where: { namespace: string; address: string }): Temporal {
  return { connection, client: new Client({ connection, namespace: where.namespace }), ...where };
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
