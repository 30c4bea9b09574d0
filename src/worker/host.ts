/** Wires one host together: its configuration becomes the capabilities that the activities use. */
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { closureActivities } from '../activities/closure.ts';
import { containerActivities } from '../activities/container.ts';
import type { BuildActivities, HostActivities } from '../activities/contract.ts';
import { databaseActivities } from '../activities/database.ts';
import { environmentActivities } from '../activities/environment.ts';
import { healthActivities } from '../activities/health.ts';
import { hostnameActivities } from '../activities/hostname.ts';
import { inventoryActivities } from '../activities/inventory.ts';
import { routeActivities } from '../activities/route.ts';
import { slotActivities } from '../activities/slot.ts';
import type { Config } from '../config.ts';
import type { GitHub } from '../github/github.ts';
import { createCaddyPublisher } from '../host/caddy.ts';
import { removeDeadTemps } from '../host/files.ts';
import { createHostnames } from '../host/hostnames.ts';
import { hostLayout } from '../host/layout.ts';
import { createLeases } from '../host/leases.ts';
import { createMirror } from '../host/mirror.ts';
import { createPostgres } from '../host/postgres.ts';
import { createProgress, type Progress } from '../host/progress.ts';
import { createWaitingRoom } from '../host/waiting-room.ts';
import { createLocalRuntime } from '../runtime/local/index.ts';

export interface Host {
  activities: HostActivities & Omit<BuildActivities, 'buildClosure'>;
  buildActivities: BuildActivities;
  progress: Progress;
  /** Before the worker polls: containers that should run do again. */
  recover(): Promise<void>;
  /** Beside the worker: what needs a service that may still be starting, until it is done. */
  settle(signal: AbortSignal): Promise<void>;
  /** Ctrl-C of `tekton up`: the apps stop too. */
  stopApps(): Promise<void>;
  close(): Promise<void>;
}

/** `http://label.preview.localhost:8080`: the port only where it is not the scheme's own. */
export function publicUrlOf(config: Pick<Config, 'publicScheme' | 'publicPort'>, hostname: string): string {
  const usual = config.publicScheme === 'https' ? 443 : 80;
  return `${config.publicScheme}://${hostname}${config.publicPort === usual ? '' : `:${config.publicPort}`}`;
}

export async function createHost(config: Config, github: GitHub | undefined, logger: Logger): Promise<Host> {
  if (config.runtime === 'nixos') {
    throw new Error('TEKTON_RUNTIME=nixos: this version has only the local runtime. Set TEKTON_RUNTIME=local.');
  }
  const layout = hostLayout(config.stateDir);
  const { gitBaseUrl } = config;
  const mirror = createMirror({ layout, gitBaseUrl, credentials: github && (() => github.gitToken()) });
  const runtime = createLocalRuntime({ layout, mirror, logger });
  const leases = createLeases({ layout, subnet: config.subnet });
  const hostnames = createHostnames(layout);
  const progress = createProgress(layout);
  const postgres = createPostgres({ adminUrl: config.databaseAdminUrl, layout });
  const caddy = createCaddyPublisher({ layout, adminUrl: config.caddyAdmin, logger });
  const publicUrl = (hostname: string) => publicUrlOf(config, hostname);
  const settings = { domain: config.previewDomain, scheme: config.publicScheme, port: config.publicPort, layout };

  const closure = closureActivities({ runtime, mirror, builds: createWaitingRoom(config.builds) });
  return {
    buildActivities: { buildClosure: closure.buildClosure },
    activities: {
      ...closure,
      ...slotActivities({ leases }),
      ...containerActivities({ runtime, layout, leases }),
      ...databaseActivities({ postgres }),
      ...environmentActivities({
        runtime,
        layout,
        postgres,
        gitBaseUrl,
        publicUrl: (slug) => publicUrl(`${slug}.${config.previewDomain}`),
      }),
      ...hostnameActivities({ hostnames, progress, domain: config.previewDomain, publicUrl }),
      ...routeActivities({ caddy, settings, hostnames, progress, publicUrl }),
      ...healthActivities({ runtime, publicUrl, domain: config.previewDomain }),
      ...inventoryActivities({ runtime, leases, hostnames, postgres, layout }),
    },
    progress,
    async recover() {
      const { leases, hostnames, live, progress, databases, caddyPreviews, nextSlot } = layout;
      await removeDeadTemps([leases, hostnames, live, progress, databases, caddyPreviews, dirname(nextSlot)]);
      await runtime.recover();
    },
    async settle(signal) {
      await untilDone('Caddy has every route', () => caddy.sync(), signal, logger);
      if (config.databaseAdminUrl) {
        await untilDone('PostgreSQL is closed to the public', () => postgres.secure(), signal, logger);
      }
    },
    stopApps: () => runtime.stopAll(),
    async close() {
      await Promise.all([runtime.close(), postgres.close(), caddy.close()]);
    },
  };
}

/** Runs `work` until it is done; a service that isn't up yet is said once, not once a second. */
async function untilDone(
  what: string,
  work: () => Promise<unknown>,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
  let said: string | undefined;
  while (!signal.aborted) {
    try {
      await work();
      logger.info(what);
      return;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== said) logger.warn({ reason }, `not yet: ${what}`);
      said = reason;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}
