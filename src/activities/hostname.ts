import type { ClaimedHost, PreviewRef } from '../domain/preview.ts';
import type { Hostnames } from '../host/hostnames.ts';
import type { Progress } from '../host/progress.ts';
import type { HostActivities } from './contract.ts';

export interface HostnameDeps {
  hostnames: Hostnames;
  progress: Progress;
  /** Previews are `<label>.<domain>`. */
  domain: string;
  /** A hostname's public address. */
  publicUrl(hostname: string): string;
}

/** The names a preview answers to: claimed before anything else of it exists, released last. */
export function hostnameActivities(
  deps: HostnameDeps,
): Pick<HostActivities, 'claimSlug' | 'claimHostnames' | 'releaseHostnames'> {
  const { hostnames, progress, domain, publicUrl } = deps;
  const claimedHost = (prefix: string, label: string): ClaimedHost => ({
    prefix,
    label,
    hostname: `${label}.${domain}`,
  });

  return {
    async claimSlug({ workflowId, source, candidate, fork }) {
      const slug = await hostnames.claimSlug({ workflowId, source, candidate });
      const url = publicUrl(`${slug}.${domain}`);
      // A redelivered activity must not set the page of a preview under way back to its beginning.
      await progress.begin({ label: slug, phase: fork ? 'awaiting-approval' : 'queued', url }, { keep: true });
      return { slug, url };
    },

    async claimHostnames({ preview, prefixes }) {
      const records = await hostnames.claimPrefixes({ workflowId: preview.workflowId, slug: preview.slug, prefixes });
      for (const { label } of records) await progress.alias(label, preview.slug);
      return [claimedHost('', preview.slug), ...records.map(({ prefix, label }) => claimedHost(prefix, label))];
    },

    async releaseHostnames({ preview }: { preview: PreviewRef }) {
      // The pages first: without its record a label would not lead to them any more.
      for (const { label } of await hostnames.byWorkflow(preview.workflowId)) await progress.remove(label);
      if (preview.slug) await removeUnlessTaken(preview);
      await hostnames.release(preview.workflowId);
    },
  };

  /** A page may be left of a release that was cut short; but by now the slug may be somebody else's. */
  async function removeUnlessTaken({ slug, workflowId }: PreviewRef): Promise<void> {
    const holder = await hostnames.bySlug(slug);
    if (holder === undefined || holder.workflowId === workflowId) await progress.remove(slug);
  }
}
