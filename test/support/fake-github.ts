/**
 * A GitHub to talk to over real HTTP: the REST calls that tekton makes, with state that a test can look at and break. It checks
 * credentials, pages its lists, and can be told to fail.
 */
import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type PullRequestFacts, pullRequestResource, repositoryResource } from '../../src/github/payload.ts';

export interface FakeComment {
  id: number;
  /** `owner/repo#number`, in lower case. */
  on: string;
  body: string;
  user: { id: number; login: string; type: 'User' | 'Bot' };
  performed_via_github_app: { id: number } | null;
  edits: number;
}

export interface FakeAnswer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
  /** Drop the connection instead of answering. */
  hangUp?: boolean;
  /** Milliseconds before the answer. */
  delay?: number;
}

export interface FakeGitHubOptions {
  /** The one token that is accepted. */
  token?: string;
  /** Accept an App: its public key in PEM form. */
  app?: { id: number; installationId: number; publicKey: string };
  /** Comments in one page; GitHub's own limit is 100. */
  pageSize?: number;
}

export interface FakeGitHub {
  /** For `GITHUB_API_URL`. */
  url: string;
  /** What was asked, `GET /repos/…`, in order. */
  requests: string[];
  comments: FakeComment[];
  /** Makes the repository known; pull requests do so too. */
  addRepo(fullName: string): void;
  removeRepo(fullName: string): void;
  /** Sets a pull request's state; `action: 'closed'` closes it. */
  setPull(facts: PullRequestFacts): void;
  removePull(owner: string, repo: string, number: number): void;
  addComment(on: string, body: string, by?: { id: number; login: string }): FakeComment;
  /** Answers requests that match, instead of the real answer, the given number of times (always by default). */
  fail(match: RegExp, answer: FakeAnswer, times?: number): void;
  heal(): void;
  close(): Promise<void>;
}

/** The account the token belongs to. */
const me = { id: 4242, login: 'tekton-bot', type: 'User' as const };

/** Starts a GitHub on a free port of 127.0.0.1. */
export async function startFakeGitHub(options: FakeGitHubOptions = {}): Promise<FakeGitHub> {
  const { token = 'ghp_test', app, pageSize = 100 } = options;
  const repos = new Set<string>();
  const pulls = new Map<string, PullRequestFacts>();
  const comments: FakeComment[] = [];
  const requests: string[] = [];
  const installationTokens = new Set<string>();
  let failures: { match: RegExp; answer: FakeAnswer; left: number }[] = [];
  let lastId = 1000;

  const key = (owner: string, repo: string, number: number | string) => `${owner}/${repo}#${number}`.toLowerCase();

  const fake: Omit<FakeGitHub, 'url' | 'close'> = {
    requests,
    comments,
    addRepo: (fullName) => void repos.add(fullName.toLowerCase()),
    removeRepo: (fullName) => void repos.delete(fullName.toLowerCase()),
    setPull: (facts) => {
      repos.add(`${facts.owner}/${facts.repo}`.toLowerCase());
      pulls.set(key(facts.owner, facts.repo, facts.number), facts);
    },
    removePull: (owner, repo, number) => void pulls.delete(key(owner, repo, number)),
    addComment: (on, body, by) => {
      lastId += 1;
      const user = by ? { ...by, type: 'User' as const } : me;
      const comment = { id: lastId, on: on.toLowerCase(), body, user, performed_via_github_app: null, edits: 0 };
      comments.push(comment);
      return comment;
    },
    fail: (match, answer, times = Number.POSITIVE_INFINITY) => void failures.push({ match, answer, left: times }),
    heal: () => {
      failures = [];
    },
  };

  const notFound: FakeAnswer = { status: 404, body: { message: 'Not Found' } };
  const shown = ({ on: _on, edits: _edits, ...comment }: FakeComment) => comment;

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const line = `${request.method} ${request.url}`;
    requests.push(line);
    const failing = failures.find((f) => f.left > 0 && f.match.test(line));
    if (failing) failing.left -= 1;
    const answer =
      failing?.answer ?? respond(request, new URL(request.url ?? '/', url), text === '' ? {} : JSON.parse(text));
    if (answer.delay) await new Promise((resolve) => setTimeout(resolve, answer.delay));
    if (answer.hangUp) {
      request.socket.destroy();
      return;
    }
    response.writeHead(answer.status, { 'content-type': 'application/json; charset=utf-8', ...answer.headers });
    response.end(
      answer.body === undefined ? '' : typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body),
    );
  }

  function respond(request: IncomingMessage, at: URL, body: Record<string, unknown>): FakeAnswer {
    const authorization = request.headers.authorization ?? '';
    const given = authorization.replace(/^(?:token|bearer) /i, '');
    const path = at.pathname;

    const tokenFor = /^\/app\/installations\/(\d+)\/access_tokens$/.exec(path);
    if (tokenFor) {
      if (!app || !isAppToken(given, app) || Number(tokenFor[1]) !== app.installationId) return badCredentials();
      lastId += 1;
      const installationToken = `ghs_installation${lastId}`;
      installationTokens.add(installationToken);
      const expires_at = new Date(Date.now() + 3_600_000).toISOString();
      return { status: 201, body: { token: installationToken, expires_at, permissions: { pull_requests: 'write' } } };
    }
    const viaApp = installationTokens.has(given);
    if (!viaApp && given !== token) return badCredentials();
    if (path === '/user') {
      return viaApp
        ? { status: 403, body: { message: 'Resource not accessible by integration' } }
        : { status: 200, body: me };
    }

    const match = /^\/repos\/([^/]+)\/([^/]+)(\/.*)?$/.exec(path);
    if (!match) return notFound;
    const [, owner = '', repo = '', rest = ''] = match;
    if (!repos.has(`${owner}/${repo}`.toLowerCase())) return notFound;
    if (rest === '') return { status: 200, body: repositoryResource(`${owner}/${repo}`) };

    const pull = /^\/pulls\/(\d+)$/.exec(rest);
    if (pull) {
      const facts = pulls.get(key(owner, repo, pull[1] ?? ''));
      return facts ? { status: 200, body: pullRequestResource(facts) } : notFound;
    }
    if (rest === '/pulls') {
      const all = [...pulls.values()].filter((p) => key(p.owner, p.repo, 0) === key(owner, repo, 0));
      return { status: 200, body: all.slice(0, 1).map(pullRequestResource) };
    }

    const list = /^\/issues\/(\d+)\/comments$/.exec(rest);
    if (list) {
      const on = key(owner, repo, list[1] ?? '');
      if (!pulls.has(on)) return notFound;
      if (request.method === 'POST') {
        const comment = fake.addComment(on, String(body.body));
        if (viaApp && app) {
          comment.user = { id: 9, login: 'tekton[bot]', type: 'Bot' };
          comment.performed_via_github_app = { id: app.id };
        }
        return { status: 201, body: shown(comment) };
      }
      const size = Math.min(pageSize, Number(at.searchParams.get('per_page') ?? 30));
      const page = Number(at.searchParams.get('page') ?? 1);
      const all = comments.filter((comment) => comment.on === on);
      const next = new URL(at);
      next.searchParams.set('page', String(page + 1));
      const headers: Record<string, string> = page * size < all.length ? { link: `<${next.href}>; rel="next"` } : {};
      return { status: 200, body: all.slice((page - 1) * size, page * size).map(shown), headers };
    }

    const one = /^\/issues\/comments\/(\d+)$/.exec(rest);
    if (one) {
      const comment = comments.find((c) => c.id === Number(one[1]) && c.on.startsWith(`${key(owner, repo, '')}`));
      if (!comment) return notFound;
      if (request.method === 'PATCH') {
        comment.body = String(body.body);
        comment.edits += 1;
      }
      if (request.method === 'DELETE') {
        comments.splice(comments.indexOf(comment), 1);
        return { status: 204 };
      }
      return { status: 200, body: shown(comment) };
    }
    return notFound;
  }

  return {
    ...fake,
    url,
    close: async () => {
      server.close();
      server.closeAllConnections();
      if (server.listening) await once(server, 'close');
    },
  };
}

/** GitHub's answer when the hour's quota is used up. */
export function rateLimited(resetInSeconds: number): FakeAnswer {
  return {
    status: 403,
    body: { message: 'API rate limit exceeded' },
    headers: {
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': String(Math.ceil(Date.now() / 1000) + resetInSeconds),
    },
  };
}

function badCredentials(): FakeAnswer {
  return { status: 401, body: { message: 'Bad credentials' } };
}

/** An App proves itself by a short-lived RS256 token of its own. */
function isAppToken(jwt: string, app: { id: number; publicKey: string }): boolean {
  const [head, claims, signature] = jwt.split('.');
  if (!head || !claims || !signature) return false;
  const { iss, exp } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { iss: unknown; exp: number };
  const signed = Buffer.from(`${head}.${claims}`);
  const good = verify('RSA-SHA256', signed, createPublicKey(app.publicKey), Buffer.from(signature, 'base64url'));
  return good && Number(iss) === app.id && exp > Date.now() / 1000;
}
