import { RequestError } from 'octokit';

/** The HTTP status of GitHub's answer; undefined when there was none (octokit writes 500 for that). */
export function statusOf(error: unknown): number | undefined {
  return error instanceof RequestError && error.response !== undefined ? error.status : undefined;
}

/** Milliseconds until GitHub's rate limit lets us ask again; undefined when that is not what is wrong. */
export function rateLimitDelay(error: unknown, now: number): number | undefined {
  const status = statusOf(error);
  if (!(error instanceof RequestError) || (status !== 403 && status !== 429)) return undefined;
  const headers = error.response?.headers ?? {};
  const after = Number(headers['retry-after']);
  if (after > 0) return after * 1_000;
  if (headers['x-ratelimit-remaining'] === '0') {
    return Math.max(1_000, Number(headers['x-ratelimit-reset'] ?? 0) * 1_000 - now);
  }
  return /\bsecondary rate\b/i.test(error.message) || status === 429 ? 60_000 : undefined;
}

/** What GitHub answered, for a reason that people read. Octokit's messages hold no credentials. */
export function describeRefusal(error: unknown): string {
  const status = statusOf(error);
  const message = error instanceof Error ? (error.message.split(' - http')[0] ?? '') : String(error);
  return status === undefined ? `GitHub does not answer (${message})` : `GitHub answered ${status}: ${message}`;
}
