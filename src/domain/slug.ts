import { shortHash } from './container-name.ts';
import type { PreviewSource } from './preview.ts';

/** The longest DNS label (RFC 1035 §2.3.4). */
export const maxLabel = 63;

/** Labels under the preview domain that the server itself uses, or that a visitor would take for the server's. */
export const reservedLabels: ReadonlySet<string> = new Set([
  'webhook',
  'tekton',
  'temporal',
  'www',
  'admin',
  'api',
  'app',
  'auth',
  'caddy',
  'grafana',
  'localhost',
  'mail',
  'metrics',
  'ns',
  'prometheus',
  'root',
  'smtp',
  'status',
]);

/** A DNS label: lower-case letters, digits and hyphens, neither first nor last a hyphen, at most 63 characters. */
export const labelPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** The name a preview asks for: `--slug` when given, else `<repo>-<number>` or `<repo>-<branch>`, cut to fit. */
export function candidateSlug(source: PreviewSource, chosen?: string): string {
  if (chosen !== undefined) return chosen;
  const tail = source.number === undefined ? toLabel(source.branch ?? '') || 'branch' : String(source.number);
  return joinLabel(toLabel(source.repo) || 'repo', tail);
}

/** The name a second claimant gets: the label with a 6-character hash of its workflow id, cut to fit. */
export function disambiguatedLabel(label: string, workflowId: string): string {
  return joinLabel(label, shortHash(workflowId, 6));
}

/** `<prefix>-<slug>`, cut to fit; the slug's end, which tells previews apart, is kept. */
export function prefixedLabel(prefix: string, slug: string): string {
  const label = `${prefix}-${slug}`;
  return label.length <= maxLabel ? label : joinLabel(label.slice(0, -7), shortHash(label, 6));
}

/** Any text as a DNS label's characters; may be empty. */
function toLabel(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
}

/** `head-tail` of at most 63 characters: the head gives way, because the tail is what tells names apart. */
function joinLabel(head: string, tail: string): string {
  const cutTail = tail.slice(0, 40).replace(/-+$/, '');
  const room = maxLabel - cutTail.length - 1;
  return `${head.slice(0, room).replace(/-+$/, '')}-${cutTail}`;
}
