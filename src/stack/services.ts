import { join } from 'node:path';
import { request } from 'undici';
import { projectFolder } from '../components/cache.ts';
import { taskQueue } from '../workflows/messages.ts';
import { caddyArgv, caddyReady } from './caddy.ts';
import type { Ports } from './ports.ts';
import { type PostgresPlace, postgresArgv, postgresEnv, postgresReady } from './postgres.ts';
import type { ServiceName } from './record.ts';
import type { ServiceSpec } from './supervise.ts';
import { isPolled, temporalArgv, temporalReady } from './temporal.ts';

export const namespace = 'default';

/** Everything that the services of one stack are made from. */
export interface StackSettings {
  stateDir: string;
  host: string;
  domain: string;
  subnet: string;
  ports: Ports;
  allowedRepos: string;
  gitBaseUrl?: string;
  logLevel?: string;
  webhookSecret: string;
  databaseAdminUrl: string;
  programs: { temporal: string; postgres: string; caddy: string };
  caddyfile: string;
  postgres: PostgresPlace;
}

/**
 * What the worker or the webhook is told: our own environment (GitHub's credentials are there), with what this stack decides.
 * Each gets only the secrets it needs.
 *
 * @param base the environment of `tekton up`
 */
export function serviceEnvironment(
  service: 'worker' | 'webhook',
  base: NodeJS.ProcessEnv,
  settings: StackSettings,
): Record<string, string> {
  const { ports } = settings;
  const kept = Object.entries(base).filter(
    // A shell set up for another Temporal must not lead this stack's services there.
    (entry): entry is [string, string] => entry[1] !== undefined && !entry[0].startsWith('TEMPORAL_'),
  );
  const own: Record<string, string | undefined> = {
    PREVIEW_DOMAIN: settings.domain,
    ALLOWED_REPOS: settings.allowedRepos,
    GIT_BASE_URL: settings.gitBaseUrl,
    TEKTON_RUNTIME: 'local',
    TEKTON_HOST: settings.host,
    TEKTON_SUBNET: settings.subnet,
    TEKTON_STATE_DIR: settings.stateDir,
    TEKTON_PUBLIC_SCHEME: 'http',
    TEKTON_PUBLIC_PORT: String(ports.http),
    WEBHOOK_HOST: '127.0.0.1',
    WEBHOOK_PORT: String(ports.webhook),
    METRICS_PORT: String(ports.metrics),
    CADDY_ADMIN: caddyAdmin(ports),
    TEMPORAL_ADDRESS: temporalAddress(ports),
    TEMPORAL_NAMESPACE: namespace,
    // The person's own Temporal configuration must not lead this stack's services elsewhere: a file that isn't there is an empty one.
    TEMPORAL_CONFIG_FILE: join(settings.stateDir, 'no-temporal.toml'),
    LOG_LEVEL: settings.logLevel,
    GITHUB_WEBHOOK_SECRET: service === 'webhook' ? settings.webhookSecret : '',
    DATABASE_ADMIN_URL: service === 'worker' ? settings.databaseAdminUrl : '',
    // glibc keeps a heap for each of Temporal's many threads: two save 10–25 MB of the worker's memory.
    MALLOC_ARENA_MAX: base.MALLOC_ARENA_MAX ?? '2',
    // Told to stop, the worker of `tekton up` stops the apps too.
    TEKTON_STOP_APPS: service === 'worker' ? '1' : undefined,
  };
  const set = Object.entries(own).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...Object.fromEntries(kept), ...Object.fromEntries(set) };
}

export const temporalAddress = (ports: Ports) => `127.0.0.1:${ports.temporal}`;
export const caddyAdmin = (ports: Ports) => `http://127.0.0.1:${ports.caddyAdmin}`;

/** The services of one stack, in the order they start. */
export function serviceSpecs(base: NodeJS.ProcessEnv, settings: StackSettings): ServiceSpec<ServiceName>[] {
  const { stateDir, ports, programs } = settings;
  const own = join(stateDir, 'var/lib');
  // Servers get little: what they read of an environment is otherwise a surprise.
  const env = { PATH: base.PATH ?? '/usr/bin:/bin', HOME: base.HOME ?? '/', LANG: 'C.UTF-8' };
  const node = (service: 'worker' | 'webhook') => ({
    name: service,
    argv: [process.execPath, join(projectFolder, 'bin/tekton.mjs'), service] as [string, ...string[]],
    env: serviceEnvironment(service, base, settings),
    cwd: stateDir,
    stopSignal: 'SIGTERM' as const,
    readyTimeout: 90_000,
  });
  return [
    {
      name: 'temporal',
      argv: temporalArgv({
        program: programs.temporal,
        database: join(own, 'temporal/temporal.db'),
        port: ports.temporal,
        uiPort: ports.temporalUi,
      }),
      env,
      stopSignal: 'SIGTERM',
      stopTimeout: 15_000,
      ready: () => temporalReady(temporalAddress(ports), namespace),
      readyTimeout: 60_000,
    },
    {
      name: 'postgres',
      argv: postgresArgv(programs.postgres, settings.postgres.data, ports.postgres),
      env: postgresEnv(),
      user: settings.postgres.user && { uid: settings.postgres.user.uid, gid: settings.postgres.user.gid },
      // Fast shutdown: sessions are ended, nothing is lost. SIGTERM would wait for every session to leave.
      stopSignal: 'SIGINT',
      stopTimeout: 20_000,
      ready: () => postgresReady(settings.databaseAdminUrl),
      readyTimeout: 60_000,
    },
    {
      name: 'caddy',
      argv: caddyArgv(programs.caddy, settings.caddyfile),
      // Its own folders: two stacks, or the machine's Caddy, share nothing.
      env: { ...env, XDG_DATA_HOME: join(own, 'caddy/data'), XDG_CONFIG_HOME: join(own, 'caddy/config') },
      stopSignal: 'SIGTERM',
      // It waits for open streams without an end.
      stopTimeout: 3_000,
      ready: () => caddyReady(caddyAdmin(ports)),
      readyTimeout: 30_000,
    },
    {
      ...node('worker'),
      // It stops the apps as well.
      stopTimeout: 60_000,
      ready: (since) => isPolled(temporalAddress(ports), namespace, taskQueue, since),
    },
    {
      ...node('webhook'),
      stopTimeout: 15_000,
      ready: async () => {
        // Not `fetch`, which refuses ports that browsers do.
        const { statusCode, body } = await request(`http://127.0.0.1:${ports.webhook}/ready`, {
          headersTimeout: 5_000,
        });
        await body.dump();
        return statusCode === 200;
      },
    },
  ];
}
