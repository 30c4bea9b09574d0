/**
 * The host-wide registry of hostnames: one file a label, `<hostnames>/<label>.json`. A label belongs to one workflow until the
 * preview is gone. The files are the registry; nothing is kept in memory, so any number of processes may read it.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../activities/failure.ts';
import type { PreviewSource } from '../domain/preview.ts';
import { candidateSlug, disambiguatedLabel, labelPattern, prefixedLabel, reservedLabels } from '../domain/slug.ts';
import { readOrUndefined, withLock, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

/** One claimed label. */
export interface HostnameRecord {
  label: string;
  workflowId: string;
  /** The preview's slug; the same as `label` when `prefix` is empty. */
  slug: string;
  prefix: string;
  claimedAt: string;
  /** On the preview's own label: what it is a preview of, so that a slug leads to its workflow without Temporal. */
  source?: PreviewSource;
}

export interface Hostnames {
  /**
   * The preview's slug: `candidate`, or `candidate-<hash>` when another workflow holds it or it is reserved. The same answer when
   * asked again. Throws HostnameTaken when the name was chosen by hand and is reserved or no DNS label.
   */
  claimSlug(claim: { workflowId: string; source: PreviewSource; candidate: string }): Promise<string>;
  /** One label for each prefix, in their order; `<prefix>-<slug>`, with a hash when another workflow holds that. */
  claimPrefixes(claim: { workflowId: string; slug: string; prefixes: string[] }): Promise<HostnameRecord[]>;
  /** Ensures the workflow holds no label. Gives those it held. */
  release(workflowId: string): Promise<string[]>;
  list(): Promise<HostnameRecord[]>;
  /** The record of a preview's own label. */
  bySlug(slug: string): Promise<HostnameRecord | undefined>;
  byWorkflow(workflowId: string): Promise<HostnameRecord[]>;
}

export function createHostnames(layout: Pick<HostLayout, 'hostnames'>): Hostnames {
  const fileOf = (label: string) => join(layout.hostnames, `${label}.json`);
  /** Claims and releases happen one at a time on this host; the lock dies with its holder. */
  const exclusively = <T>(work: () => Promise<T>) => withLock(layout.hostnames, work);

  async function read(label: string): Promise<HostnameRecord | undefined> {
    const text = await readOrUndefined(fileOf(label));
    return text === undefined ? undefined : (JSON.parse(text) as HostnameRecord);
  }

  async function list(): Promise<HostnameRecord[]> {
    const names = await readdir(layout.hostnames).catch(() => []);
    const labels = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
    const records = await Promise.all(labels.filter((label) => labelPattern.test(label)).map(read));
    return records
      .filter((record) => record !== undefined)
      .sort((a, b) => (a.claimedAt < b.claimedAt ? -1 : a.claimedAt > b.claimedAt ? 1 : a.label < b.label ? -1 : 1));
  }

  async function byWorkflow(workflowId: string): Promise<HostnameRecord[]> {
    return (await list()).filter((record) => record.workflowId === workflowId);
  }

  /** The first of `labels` that is free, as this workflow's. Call under the lock. */
  async function take(labels: string[], record: Omit<HostnameRecord, 'label' | 'claimedAt'>): Promise<HostnameRecord> {
    for (const label of labels) {
      if (reservedLabels.has(label)) continue;
      const held = await read(label);
      if (held && (held.workflowId !== record.workflowId || held.prefix !== record.prefix)) continue;
      if (held) return held;
      const slug = record.prefix === '' ? label : record.slug;
      const claimed = { label, ...record, slug, claimedAt: new Date().toISOString() };
      await writeAtomic(fileOf(label), `${JSON.stringify(claimed, null, 2)}\n`, { sync: true });
      return claimed;
    }
    throw failure(
      'HostnameTaken',
      `${labels.join(' and ')} belong to other previews; choose another --slug or prefix.`,
    );
  }

  return {
    claimSlug: ({ workflowId, source, candidate }) =>
      exclusively(async () => {
        const byHand = candidate !== candidateSlug(source);
        if (!labelPattern.test(candidate)) {
          throw failure(
            'HostnameTaken',
            `${JSON.stringify(candidate.slice(0, 80))} can't be a slug: use at most 63 lower-case letters, digits and hyphens, neither first nor last a hyphen.`,
          );
        }
        if (byHand && reservedLabels.has(candidate)) {
          throw failure('HostnameTaken', `The slug ${candidate} is reserved for the server itself; choose another.`);
        }
        const own = (await byWorkflow(workflowId)).find(({ prefix }) => prefix === '');
        if (own) return own.slug;
        const labels = [candidate, disambiguatedLabel(candidate, workflowId)];
        return (await take(labels, { workflowId, slug: '', prefix: '', source })).slug;
      }),

    claimPrefixes: ({ workflowId, slug, prefixes }) =>
      exclusively(async () => {
        const own = await byWorkflow(workflowId);
        const claimed: HostnameRecord[] = [];
        for (const prefix of prefixes) {
          const held = own.find((record) => record.prefix === prefix && record.slug === slug);
          const label = prefixedLabel(prefix, slug);
          if (!labelPattern.test(label)) {
            throw failure('HostnameTaken', `The prefix ${JSON.stringify(prefix.slice(0, 80))} makes no DNS label.`);
          }
          claimed.push(
            held ?? (await take([label, disambiguatedLabel(label, workflowId)], { workflowId, slug, prefix })),
          );
        }
        return claimed;
      }),

    release: (workflowId) =>
      exclusively(async () => {
        const labels = (await byWorkflow(workflowId)).map(({ label }) => label);
        for (const label of labels) await rm(fileOf(label), { force: true });
        return labels;
      }),

    list,
    byWorkflow,
    async bySlug(slug) {
      const record = labelPattern.test(slug) ? await read(slug) : undefined;
      return record?.prefix === '' ? record : undefined;
    },
  };
}
