import type { PreviewSource } from '../domain/preview.ts';
import { labelPattern, maxLabel, reservedLabels } from '../domain/slug.ts';
import { UsageError } from './errors.ts';

/** What a person typed to name a preview: its workflow's source exactly, or a DNS label that must be looked up. */
export type Target = { kind: 'source'; source: PreviewSource } | { kind: 'label'; label: string };

const ownerPattern = /^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})$/;
const repoPattern = /^[A-Za-z0-9._-]{1,100}$/;
const forms = 'write a slug (hello-42), owner/repo#42, owner/repo@branch, or the address of the preview';

/**
 * Reads `hello-42`, `owner/repo#42`, `owner/repo@branch`, a preview's URL, or the URL of a GitHub pull request.
 *
 * @throws UsageError that names what is wrong
 */
export function parseTarget(text: string): Target {
  if (/^https?:\/\//i.test(text)) return targetOfUrl(text);
  if (!text.includes('/')) {
    const label = text.toLowerCase();
    if (!labelPattern.test(label)) throw new UsageError(`"${text}" does not name a preview: ${forms}`);
    return { kind: 'label', label };
  }
  const exact = /^([^/]+)\/([^/@#]+)(?:#(.*)|@(.*))$/s.exec(text);
  if (!exact) throw new UsageError(`"${text}" names a repository, not a preview: ${forms}`);
  const { owner, repo } = parseRepository(`${exact[1]}/${exact[2]}`);
  if (exact[3] !== undefined) return { kind: 'source', source: { owner, repo, number: parseNumber(exact[3]) } };
  return { kind: 'source', source: { owner, repo, branch: parseBranch(exact[4] ?? '') } };
}

/**
 * `owner/repo` as GitHub allows it.
 *
 * @throws UsageError
 */
export function parseRepository(text: string): { owner: string; repo: string } {
  const [owner = '', repo = '', ...rest] = text.split('/');
  const right = 'write it as owner/repo, such as acme/shop';
  if (rest.length > 0 || !owner || !repo) throw new UsageError(`"${text}" is not a repository: ${right}`);
  if (!ownerPattern.test(owner)) throw new UsageError(`"${owner}" is not an owner's name on GitHub: ${right}`);
  if (!repoPattern.test(repo) || repo === '.' || repo === '..') {
    throw new UsageError(`"${repo}" is not a repository's name on GitHub: ${right}`);
  }
  return { owner, repo };
}

/**
 * A branch name by git's own rules (git-check-ref-format), so that a name git would refuse is refused before anything starts.
 *
 * @throws UsageError
 */
export function parseBranch(text: string): string {
  const bad = (why: string) => new UsageError(`"${printableName(text)}" is not a branch name: ${why}`);
  if (text === '') throw bad('it is empty');
  if (text.length > 244) throw bad('it is longer than 244 characters');
  if (text.startsWith('refs/')) throw bad('leave out refs/heads/');
  if (text.startsWith('-')) throw bad('it starts with a hyphen');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what git forbids here
  const forbidden = /[\x00-\x20\x7f~^:?*[\\]/.exec(text);
  if (forbidden) throw bad(`git does not allow ${JSON.stringify(forbidden[0])} in it`);
  if (text === '@' || text.includes('@{')) throw bad('git does not allow "@" alone or "@{" in it');
  if (text.includes('..') || text.endsWith('.')) throw bad('git does not allow ".." in it, nor a dot at its end');
  for (const part of text.split('/')) {
    if (part === '') throw bad('a slash is first, last or doubled');
    if (part.startsWith('.') || part.endsWith('.lock'))
      throw bad('a part of it starts with a dot or ends with ".lock"');
  }
  return text;
}

/**
 * `--slug`: a DNS label that the server does not use itself.
 *
 * @throws UsageError
 */
export function parseSlug(text: string): string {
  if (!labelPattern.test(text)) {
    throw new UsageError(
      `"${printableName(text)}" is not a slug: use lower-case letters, digits and hyphens, at most ${maxLabel}, no hyphen first or last`,
    );
  }
  if (reservedLabels.has(text)) throw new UsageError(`the slug "${text}" is reserved for the server: choose another`);
  return text;
}

/**
 * `--sha`: a whole commit, because an approval is for exactly one.
 *
 * @throws UsageError
 */
export function parseSha(text: string): string {
  if (!/^[0-9a-f]{40}$/i.test(text)) {
    throw new UsageError(
      `"${printableName(text)}" is not a whole commit: give all 40 hexadecimal digits (git rev-parse <commit>)`,
    );
  }
  return text.toLowerCase();
}

/**
 * An agent's name: a DNS label, as it becomes a host name and a folder.
 *
 * @throws UsageError
 */
export function parseAgentName(text: string): string {
  if (!labelPattern.test(text)) {
    throw new UsageError(
      `"${printableName(text)}" is not an agent's name: use lower-case letters, digits and hyphens, no hyphen first or last`,
    );
  }
  return text;
}

/** `owner/repo#42` or `owner/repo@branch`, as a person writes a source. */
export function describeSource(source: PreviewSource): string {
  const repo = `${source.owner}/${source.repo}`;
  return source.number === undefined ? `${repo}@${source.branch}` : `${repo}#${source.number}`;
}

/** The names nearest to what was typed, best first, at most three: for "did you mean". */
export function nearest(typed: string, names: string[]): string[] {
  const limit = Math.max(2, Math.floor(typed.length / 3));
  return names
    .map((name) => ({ name, distance: name.includes(typed) || typed.includes(name) ? 1 : editDistance(typed, name) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name))
    .slice(0, 3)
    .map(({ name }) => name);
}

function targetOfUrl(text: string): Target {
  if (!URL.canParse(text)) throw new UsageError(`"${printableName(text)}" is not an address: ${forms}`);
  const url = new URL(text);
  const pull = /^\/([^/]+)\/([^/]+)\/pull\/(\d+)(?:\/|$)/.exec(url.pathname);
  if (pull) {
    const source = { ...parseRepository(`${pull[1]}/${pull[2]}`), number: parseNumber(pull[3] ?? '') };
    return { kind: 'source', source };
  }
  const label = url.hostname.split('.')[0] ?? '';
  if (!labelPattern.test(label) || !url.hostname.includes('.')) {
    throw new UsageError(`"${text}" is not the address of a preview: ${forms}`);
  }
  return { kind: 'label', label };
}

function parseNumber(text: string): number {
  const number = Number(text);
  if (!/^[1-9]\d{0,9}$/.test(text) || !Number.isSafeInteger(number)) {
    throw new UsageError(`"${printableName(text)}" is not a pull request's number: write owner/repo#42`);
  }
  return number;
}

/** What was typed, safe to print on a terminal. */
function printableName(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
