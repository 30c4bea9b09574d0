/**
 * `pull_request` deliveries as GitHub sends them, with the fields of its schema that a receiver may rely on. For the demo, which
 * plays GitHub, and for tests.
 */
import { createHmac, randomUUID } from 'node:crypto';

export interface PullRequestFacts {
  owner: string;
  repo: string;
  number: number;
  /** `opened`, `synchronize`, `closed`, … */
  action: string;
  /** Head commit, 40 hex digits. */
  sha: string;
  /** Head branch. */
  branch?: string;
  baseBranch?: string;
  title?: string;
  /** `owner/repo` of the head's repository; null when that fork has been deleted. The pull request's own repository by default. */
  headRepo?: string | null;
  /** `updated_at`; now by default. GitHub writes whole seconds. */
  updatedAt?: Date;
  merged?: boolean;
}

/** The payload of a `pull_request` event. */
export function pullRequestPayload(facts: PullRequestFacts) {
  const fullName = `${facts.owner}/${facts.repo}`;
  return {
    action: facts.action,
    number: facts.number,
    pull_request: pullRequestResource(facts),
    repository: repositoryResource(fullName),
    sender: userResource(facts.owner),
  };
}

/** A pull request as GitHub's API and its webhooks describe it. */
export function pullRequestResource(facts: PullRequestFacts) {
  const { owner, repo, number, action, sha, branch = 'changes', baseBranch = 'main' } = facts;
  const fullName = `${owner}/${repo}`;
  const headRepo = facts.headRepo === undefined ? fullName : facts.headRepo;
  const headOwner = headRepo?.split('/')[0] ?? 'ghost';
  const time = (facts.updatedAt ?? new Date()).toISOString().replace(/\.\d+Z$/, 'Z');
  const closed = action === 'closed';
  return {
    id: 1_000_000 + number,
    url: `https://api.github.com/repos/${fullName}/pulls/${number}`,
    html_url: `https://github.com/${fullName}/pull/${number}`,
    number,
    state: closed ? 'closed' : 'open',
    locked: false,
    title: facts.title ?? `Change ${number}`,
    user: userResource(headOwner),
    body: null,
    created_at: time,
    updated_at: time,
    closed_at: closed ? time : null,
    merged_at: closed && facts.merged ? time : null,
    draft: false,
    merged: closed && facts.merged === true,
    labels: [],
    head: {
      label: `${headOwner}:${branch}`,
      ref: branch,
      sha,
      user: userResource(headOwner),
      repo: headRepo === null ? null : repositoryResource(headRepo),
    },
    base: {
      label: `${owner}:${baseBranch}`,
      ref: baseBranch,
      sha: '0'.repeat(40),
      user: userResource(owner),
      repo: repositoryResource(fullName),
    },
  };
}

/** A repository as GitHub describes it. */
export function repositoryResource(fullName: string) {
  const [owner = '', name = ''] = fullName.split('/');
  return {
    name,
    full_name: fullName,
    private: true,
    owner: userResource(owner),
    html_url: `https://github.com/${fullName}`,
    clone_url: `https://github.com/${fullName}.git`,
    default_branch: 'main',
  };
}

function userResource(login: string) {
  return { login, type: 'User', html_url: `https://github.com/${login}` };
}

export interface SignedDelivery {
  headers: Record<string, string>;
  body: string;
}

/**
 * Body and headers as GitHub posts them.
 *
 * @param delivery the delivery id; GitHub sends the same one when it redelivers
 */
export function signedDelivery(
  event: string,
  payload: unknown,
  secret: string,
  delivery: string = randomUUID(),
): SignedDelivery {
  const body = JSON.stringify(payload);
  return {
    body,
    headers: {
      accept: '*/*',
      'content-type': 'application/json',
      'user-agent': 'GitHub-Hookshot/tekton',
      'x-github-delivery': delivery,
      'x-github-event': event,
      'x-github-hook-id': '1',
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
  };
}
