/** What a webhook delivery of GitHub's means to us. Pure: no I/O, no clock. */
import { z } from 'zod';
import type { PreviewInput } from '../workflows/messages.ts';
import { type AllowedRepos, isAllowed } from './allowed-repos.ts';
import type { PullRequestEvent, PullRequestState } from './pull-request.ts';

/** What GitHub sent, once its signature has been checked. */
export interface Delivery {
  /** `X-GitHub-Event`. */
  event: string;
  /** `X-GitHub-Delivery`. */
  delivery: string;
  payload: unknown;
}

export type Interpretation =
  | { kind: 'malformed'; reason: string }
  | { kind: 'ignored'; reason: string }
  /** `startable` is false for a `closed` of a repository that is no longer allowed: it may end a preview, never start one. */
  | { kind: 'signal'; event: PullRequestEvent; input: PreviewInput; startable: boolean };

/**
 * The actions after which a preview may have to change. Labels, assignments, reviews and edits (of the title, or the base branch)
 * leave the head commit as it is and never build.
 */
const meaningfulActions: ReadonlySet<string> = new Set([
  'opened',
  'reopened',
  'synchronize',
  'ready_for_review',
  'closed',
]);

/** Owner and repository meet paths, refs and Temporal's ids later on: nothing but the characters GitHub allows. */
const ownerName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$/, 'is not the name of a GitHub account');
const repoName = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,100}$/, 'is not the name of a GitHub repository')
  .refine((name) => name !== '.' && name !== '..', 'is not the name of a GitHub repository');

const envelope = z.object({ action: z.string() });

/** What we read of a pull request, in a webhook and from GitHub's API alike. */
export const pullRequestSchema = z.object({
  number: z.int().min(1),
  state: z.enum(['open', 'closed']),
  updated_at: z.iso.datetime({ offset: true }),
  head: z.object({
    sha: z.string().regex(/^[0-9a-f]{40}$/, 'is not a full commit hash'),
    // Null once the fork has been deleted.
    repo: z.object({ full_name: z.string() }).nullish(),
  }),
  base: z.object({ repo: z.object({ full_name: z.string() }) }),
});

const pullRequestPayload = z.object({
  action: z.string(),
  repository: z.object({ name: repoName, owner: z.object({ login: ownerName }) }),
  pull_request: pullRequestSchema,
});

/** Says what a delivery means: nothing, or a signal to the workflow of its pull request. */
export function interpret(delivery: Delivery, config: { host: string; allowedRepos: AllowedRepos }): Interpretation {
  if (delivery.event === 'ping') return ignored('ping: the webhook is set up');
  if (delivery.event !== 'pull_request') {
    return ignored(`"${printable(delivery.event)}" events are none of ours; only "pull_request" is`);
  }
  const head = envelope.safeParse(delivery.payload);
  if (!head.success) return malformed(head.error);
  const { action } = head.data;
  if (!meaningfulActions.has(action)) {
    return ignored(`"${printable(action)}" does not change which commit is previewed`);
  }

  const parsed = pullRequestPayload.safeParse(delivery.payload);
  if (!parsed.success) return malformed(parsed.error);
  const { pull_request: pullRequest, repository } = parsed.data;
  const owner = repository.owner.login;
  const repo = repository.name;
  const allowed = isAllowed(config.allowedRepos, owner, repo);
  const state = pullRequestState(pullRequest, action);
  if (!allowed && action !== 'closed') return ignored(`${owner}/${repo} is not in ALLOWED_REPOS`);

  const source = { owner, repo, number: pullRequest.number };
  return {
    kind: 'signal',
    event: { ...source, ...state, delivery: delivery.delivery },
    input: { source, host: config.host },
    startable: allowed,
  };
}

/**
 * The state that GitHub's description of a pull request carries.
 *
 * @param action GitHub's `action`, or `truth` when GitHub was asked
 */
export function pullRequestState(pullRequest: z.infer<typeof pullRequestSchema>, action: string): PullRequestState {
  const { head, base } = pullRequest;
  return {
    open: pullRequest.state === 'open' && action !== 'closed',
    sha: head.sha,
    updatedAt: toSeconds(pullRequest.updated_at),
    fork: head.repo?.full_name.toLowerCase() !== base.repo.full_name.toLowerCase(),
    action,
  };
}

/** A zod error as one line that names every field. */
export function describeProblems(error: z.ZodError): string {
  return error.issues.map((issue) => `${issue.path.join('.') || 'the body'}: ${issue.message}`).join('; ');
}

/** GitHub's own form, `2019-05-15T15:20:33Z`, whatever the offset: these are compared as text. */
function toSeconds(time: string): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`;
}

/** The sender's text, short and on one line, for a reason that is shown and logged. */
function printable(text: string): string {
  return text.replace(/[^\w.-]+/g, '?').slice(0, 60);
}

function ignored(reason: string): Interpretation {
  return { kind: 'ignored', reason };
}

function malformed(error: z.ZodError): Interpretation {
  return { kind: 'malformed', reason: describeProblems(error) };
}
