import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { App, Octokit } from 'octokit';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';

export interface GitHub {
  /** Whose words the comments are. */
  kind: 'token' | 'app';
  octokit(): Promise<Octokit>;
  /** What git authenticates with against this GitHub. Never a URL, an argv, or a container's business. */
  gitToken(): Promise<string>;
  /** Where people read: `https://github.com`. */
  webUrl: string;
  /** Whether a comment was written with these credentials: anybody may write one with our marker in it. */
  wrote(comment: CommentAuthor, signal: AbortSignal): Promise<boolean>;
}

export interface CommentAuthor {
  user?: { id: number; type?: string } | null;
  performed_via_github_app?: { id: number } | null;
}

/** A longer wait is Temporal's to take: a timer there costs nothing, a waiting activity holds a place. */
const longestWaitSeconds = 5;

/**
 * GitHub through octokit, with an App's credentials or a token's; undefined without either.
 *
 * @throws Error when the App's private key can't be read
 */
export function createGitHub(
  config: Pick<Config, 'githubCredentials' | 'githubApiUrl'>,
  logger?: Logger,
): GitHub | undefined {
  const credentials = config.githubCredentials;
  if (credentials === undefined) return undefined;
  const webUrl = webUrlOf(config.githubApiUrl);
  const Client = Octokit.defaults(octokitOptions(config.githubApiUrl, logger));

  if (credentials.kind === 'token') {
    const octokit = new Client({ auth: credentials.token });
    let me: Promise<number | undefined> | undefined;
    return {
      kind: 'token',
      webUrl,
      octokit: async () => octokit,
      gitToken: async () => credentials.token,
      wrote: async (comment, signal) => {
        me ??= readMe(octokit, signal).catch((error: unknown) => {
          me = undefined;
          throw error;
        });
        const id = await me;
        return id === undefined ? comment.user?.type === 'Bot' : comment.user?.id === id;
      },
    };
  }

  const { appId, installationId, privateKeyPath } = credentials;
  const app = new App({ appId, privateKey: readFileSync(privateKeyPath, 'utf8'), Octokit: Client });
  let installed: Promise<Octokit> | undefined;
  const octokit = () => {
    installed ??= app.getInstallationOctokit(installationId).catch((error: unknown) => {
      installed = undefined;
      throw error;
    });
    return installed;
  };
  return {
    kind: 'app',
    webUrl,
    octokit,
    gitToken: async () => {
      const { token } = (await (await octokit()).auth({ type: 'installation' })) as { token: string };
      return token;
    },
    wrote: async (comment) => comment.performed_via_github_app?.id === appId,
  };
}

/** The token's own account; undefined for a token that is nobody's (an installation's), whose comments are a bot's. */
async function readMe(octokit: Octokit, signal: AbortSignal): Promise<number | undefined> {
  try {
    return (await octokit.rest.users.getAuthenticated({ request: { signal } })).data.id;
  } catch (error) {
    if ((error as { status?: number }).status === 403) return undefined;
    throw error;
  }
}

/**
 * Octokit's throttling spaces writes as GitHub asks (a second apart, comments three) and its retrying mends one blip. Both are
 * bounded: an activity that waits for an hour's quota would hold its worker's place.
 */
function octokitOptions(baseUrl: string, logger: Logger | undefined) {
  const shortWait = (retryAfter: number, options: { request?: { retryCount?: number } }) =>
    retryAfter <= longestWaitSeconds && (options.request?.retryCount ?? 0) < 1;
  return {
    baseUrl,
    userAgent: 'tekton',
    // Octokit's own log would print to the console.
    log: {
      debug: () => undefined,
      info: () => undefined,
      warn: (message: string) => logger?.warn(message),
      error: (message: string) => logger?.warn(message),
    },
    // Without a name of its own, every client in the process would share one queue.
    throttle: { id: randomUUID(), onRateLimit: shortWait, onSecondaryRateLimit: shortWait },
    retry: { retries: 1, doNotRetry: [400, 401, 403, 404, 410, 422, 429, 451] },
  };
}

/** `https://api.github.com` → `https://github.com`; GitHub Enterprise: `https://host/api/v3` → `https://host`. */
export function webUrlOf(apiUrl: string): string {
  const { protocol, host, pathname } = new URL(apiUrl);
  const page = host === 'api.github.com' || /^api\..+\.ghe\.com$/.test(host) ? host.slice('api.'.length) : host;
  return `${protocol}//${page}${pathname.replace(/\/(?:api\/v3\/?)?$/, '')}`;
}
