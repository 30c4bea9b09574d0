/** What a preview can be found by in Temporal. The services create them when missing (`temporal/search-attributes.ts`). */
import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import type { Phase } from './phase.ts';

export const searchAttributes = {
  repo: defineSearchAttributeKey('TektonRepo', 'KEYWORD'),
  pr: defineSearchAttributeKey('TektonPr', 'INT'),
  slug: defineSearchAttributeKey('TektonSlug', 'KEYWORD'),
  phase: defineSearchAttributeKey('TektonPhase', 'KEYWORD'),
  host: defineSearchAttributeKey('TektonHost', 'KEYWORD'),
  sha: defineSearchAttributeKey('TektonSha', 'KEYWORD'),
} as const;

/**
 * The attributes that a preview starts with, whoever starts it.
 *
 * @param repo `owner/repo`; kept in lower case, so that one query finds it however it is written
 */
export function initialSearchAttributes(preview: {
  repo: string;
  number?: number;
  slug: string;
  host: string;
  sha?: string;
  phase?: Phase;
}): SearchAttributePair[] {
  const pairs: SearchAttributePair[] = [
    { key: searchAttributes.repo, value: preview.repo.toLowerCase() },
    { key: searchAttributes.slug, value: preview.slug },
    { key: searchAttributes.phase, value: preview.phase ?? 'queued' },
    { key: searchAttributes.host, value: preview.host },
  ];
  if (preview.number !== undefined) pairs.push({ key: searchAttributes.pr, value: preview.number });
  if (preview.sha !== undefined) pairs.push({ key: searchAttributes.sha, value: preview.sha });
  return pairs;
}
