/** What an app finds in its environment, and the text of the file that holds it. */
import type { DeploymentRef } from './preview.ts';

/** A line of an environment file that isn't `NAME=value`. Says the line's number, never what it holds: it may be a secret. */
export class EnvFileError extends Error {
  override readonly name = 'EnvFileError';
}

const namePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * What `/etc/preview.env` holds for one deployment. Ports are the local runtime's to add.
 *
 * @param url the preview's public address
 * @param repoUrl where the repo is cloned from; credentials in it are left out
 * @param databaseUrl only when the meta says "host"
 * @param secrets the host secrets that the meta names
 */
export function previewEnvironment(input: {
  deployment: DeploymentRef;
  url: string;
  repoUrl: string;
  databaseUrl?: string;
  secrets?: Record<string, string>;
}): Record<string, string> {
  const { preview, sha, ref } = input.deployment;
  return {
    ...input.secrets,
    PREVIEW_REPO_URL: withoutCredentials(input.repoUrl),
    PREVIEW_BRANCH: preview.branch ?? ref,
    PREVIEW_SHA: sha,
    PREVIEW_PR: preview.number === undefined ? '' : String(preview.number),
    PREVIEW_SLUG: preview.slug,
    PREVIEW_HOST: new URL(input.url).hostname,
    PREVIEW_URL: input.url,
    ...(input.databaseUrl === undefined ? {} : { DATABASE_URL: input.databaseUrl }),
  };
}

/** The URL without user, password and query; a path or an scp-like address without what stands before its `@`. */
export function withoutCredentials(repoUrl: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(repoUrl)) {
    return repoUrl.startsWith('/') ? repoUrl : repoUrl.replace(/^[^@/]*@/, '');
  }
  try {
    const url = new URL(repoUrl);
    url.username = '';
    url.password = '';
    url.search = '';
    url.hash = '';
    return url.href;
  } catch {
    return '';
  }
}

/**
 * The environment as text that systemd's `EnvironmentFile=`, `sh` (`set -a; . file`) and `parseEnvFile` read alike: each value in
 * double quotes, where only `\` `"` `$` and the backquote are escaped. (Single quotes would do for all of these but the single quote
 * itself: systemd, unlike `sh`, doesn't join `'a'\''b'`.)
 *
 * @throws EnvFileError on a name that is none, or a NUL, which no environment can hold
 */
export function formatEnvFile(env: Record<string, string>): string {
  return Object.entries(env)
    .map(([name, value]) => {
      if (!namePattern.test(name)) throw new EnvFileError(`${JSON.stringify(name)} is not the name of a variable`);
      if (value.includes('\0')) throw new EnvFileError(`${name} holds a NUL, which no environment can`);
      return `${name}="${value.replace(/[\\"$`]/g, '\\$&')}"\n`;
    })
    .join('');
}

/**
 * Reads such a file the way systemd does: `NAME=value` lines (an `export` before it is allowed), comments that start a line with `#`
 * or `;`, values bare or in quotes, which may span lines. Nothing is expanded: `$` stands for itself.
 *
 * @throws EnvFileError that names the line, never what it holds
 */
export function parseEnvFile(text: string): Record<string, string> {
  const env: Record<string, string> = {};
  const source = text.replace(/^\ufeff/, '');
  let at = 0;
  while (true) {
    at = after(source, /(?:\s|[#;].*)*/y, at);
    if (at >= source.length) return env;
    const assignment = /(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=/y;
    assignment.lastIndex = at;
    const name = assignment.exec(source)?.[1];
    if (name === undefined) throw new EnvFileError(`line ${lineOf(source, at)} is not NAME=value`);
    const read = readValue(source, assignment.lastIndex);
    if (read === undefined) throw new EnvFileError(`line ${lineOf(source, at)}: the quote of ${name} is never closed`);
    // An own property whatever the name: `__proto__` too.
    Object.defineProperty(env, name, { value: read.value, enumerable: true, configurable: true, writable: true });
    at = read.end;
  }
}

/** The value that starts at `start`, and where it ends; undefined when a quote stays open. */
function readValue(source: string, start: number): { value: string; end: number } | undefined {
  let value = '';
  let at = start;
  while (true) {
    at = after(source, /[ \t]*/y, at);
    const quote = source[at];
    if (quote !== '"' && quote !== "'") break;
    const end = after(source, quote === '"' ? /"(?:[^"\\]|\\.)*"/sy : /'[^']*'/y, at);
    if (end === at) return undefined;
    const inner = source.slice(at + 1, end - 1);
    value += quote === '"' ? inner.replace(/\\([\\"$`\n])/g, unescaped) : inner;
    at = end;
  }
  const end = after(source, /(?:[^\\\r\n]|\\.)*/sy, at);
  const bare = source.slice(at, end).replace(/[ \t]+$/, '');
  return { value: value + bare.replace(/\\(.)/gs, unescaped), end };
}

/** An escaped newline joins two lines; any other escaped character stands for itself. */
function unescaped(_: string, one: string): string {
  return one === '\n' ? '' : one;
}

/** Where a sticky pattern that matches at `at` ends; `at` itself when it doesn't. */
function after(source: string, pattern: RegExp, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(source) ? pattern.lastIndex : at;
}

function lineOf(source: string, at: number): number {
  return source.slice(0, at).split('\n').length;
}
