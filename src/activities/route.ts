import type { ApplicationFailure } from '@temporalio/common';
import { type PreviewShape, previewFragment, type RouteSettings, shapeKey } from '../domain/caddy.ts';
import { declaredPorts } from '../domain/meta.ts';
import type { PreviewRef, RouteRecord } from '../domain/preview.ts';
import type { CaddyPublisher } from '../host/caddy.ts';
import type { Hostnames } from '../host/hostnames.ts';
import type { Progress } from '../host/progress.ts';
import type { HostActivities } from './contract.ts';
import { failure } from './failure.ts';

export interface RouteDeps {
  caddy: CaddyPublisher;
  settings: RouteSettings;
  hostnames: Hostnames;
  progress: Progress;
  /** A hostname's public address. */
  publicUrl(hostname: string): string;
}

/** The public side of a preview: its site in Caddy, the address of its live deployment, and its progress page. */
export function routeActivities(
  deps: RouteDeps,
): Pick<HostActivities, 'writeRoute' | 'removeRoute' | 'writeProgressPage'> {
  const { caddy, settings, hostnames, progress, publicUrl } = deps;

  return {
    async writeRoute({ preview, route }) {
      const { fragment, shape, lines } = published(settings, preview, route);
      if (await caddy.isPublished(preview.slug, fragment)) {
        await caddy.writeAddress(preview.slug, lines);
        return { reloaded: false };
      }
      // The lines of both shapes: until the reload Caddy serves the old shape from the old lines, from then on the new from the new.
      const before = await caddy.readAddress(preview.slug);
      await caddy.writeAddress(preview.slug, [...before.filter((line) => line.shape !== shape), ...lines]);
      try {
        const reloaded = await caddy.publish(preview.slug, fragment);
        caddy.settleAddress(preview.slug, shape);
        return { reloaded };
      } catch (error) {
        // When Caddy only can't be reached, the retry needs the new lines; and so does a Caddy that starts with the new shape.
        if ((error as ApplicationFailure).type === 'CaddyRefused') await restore(preview.slug, before);
        throw error;
      }
    },

    async removeRoute({ preview: { slug } }) {
      await caddy.withdraw(slug);
      await caddy.removeAddress(slug);
      await progress.remove(slug);
    },

    async writeProgressPage({ preview, phase, sha, reason }) {
      // A late page must not come back under a name that has been released.
      const holder = await hostnames.bySlug(preview.slug);
      if (holder?.workflowId !== preview.workflowId) return;
      const url = publicUrl(`${preview.slug}.${settings.domain}`);
      await progress.begin({ label: preview.slug, phase, url }, { keep: true });
      await progress.phase({ label: preview.slug, phase, sha, reason });
    },
  };

  async function restore(slug: string, before: Awaited<ReturnType<CaddyPublisher['readAddress']>>): Promise<void> {
    if (before.length > 0) await caddy.writeAddress(slug, before);
    else await caddy.removeAddress(slug);
  }
}

/** Texts of one route. Throws CaddyRefused when the record can't be published at all. */
function published(settings: RouteSettings, preview: PreviewRef, route: RouteRecord) {
  const shapeOf: PreviewShape = { slug: preview.slug, hosts: route.hosts, meta: route.meta };
  const missing = declaredPorts(route.meta).filter((port) => !route.upstreams.some((up) => up.port === port));
  if (missing.length > 0) {
    throw failure(
      'CaddyRefused',
      `The deployment ${route.container} of ${preview.slug} can't be published: nothing listens on the declared port ${missing.join(', ')}.`,
    );
  }
  try {
    const shape = shapeKey(settings, shapeOf);
    const ports = declaredPorts(route.meta);
    const upstreams = route.upstreams.filter(({ port }) => ports.includes(port));
    const lines = upstreams.map(({ port, address }) => ({ port, address, sha: route.sha, shape }));
    return { fragment: previewFragment(settings, shapeOf), shape, lines };
  } catch (error) {
    throw failure('CaddyRefused', `${preview.slug} can't be published: ${(error as Error).message}`, { cause: error });
  }
}
