import { readdir } from 'node:fs/promises';
import type { InventoryItem, PreviewRef } from '../domain/preview.ts';
import type { Hostnames } from '../host/hostnames.ts';
import type { HostLayout } from '../host/layout.ts';
import type { Leases } from '../host/leases.ts';
import type { Postgres } from '../host/postgres.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { HostActivities } from './contract.ts';

/** What the host itself says is left of a preview: nothing here trusts what the workflow remembers. */
export function inventoryActivities(host: {
  runtime: Runtime;
  leases: Leases;
  hostnames: Hostnames;
  postgres: Postgres;
  layout: HostLayout;
}): Pick<HostActivities, 'readInventory'> {
  const { runtime, leases, hostnames, postgres, layout } = host;
  return {
    async readInventory({ preview }) {
      const { workflowId } = preview;
      const parts = await Promise.all([
        runtime.inventory(workflowId),
        leases.ofOwner(workflowId).then((held) => held.map(({ container }) => item('slot', container))),
        hostnames.byWorkflow(workflowId).then((held) => held.map(({ label }) => item('hostname', label))),
        postgres.inventory(workflowId),
        routesOf(preview, hostnames, layout),
      ]);
      return parts.flat();
    },
  };
}

/** Site, address and progress page go by the slug; they are this preview's unless another one holds the slug by now. */
async function routesOf(preview: PreviewRef, hostnames: Hostnames, layout: HostLayout): Promise<InventoryItem[]> {
  const holder = await hostnames.bySlug(preview.slug);
  if (holder && holder.workflowId !== preview.workflowId) return [];
  const wanted = new Set([`${preview.slug}.caddy`, preview.slug, `${preview.slug}.html`]);
  const found = await Promise.all(
    [layout.caddyPreviews, layout.live, layout.progress].map(async (folder) => {
      const names = await readdir(folder).catch(() => []);
      return names.filter((name) => wanted.has(name)).map((name) => item('route', `${folder}/${name}`));
    }),
  );
  return found.flat();
}

function item(kind: InventoryItem['kind'], name: string): InventoryItem {
  return { kind, name };
}
