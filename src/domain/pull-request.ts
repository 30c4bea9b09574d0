/** A pull request's state as a webhook, GitHub's API or the command line tells it. A webhook is a hint; `updatedAt` orders. */
export interface PullRequestState {
  open: boolean;
  /** Head commit, 40 hex digits. */
  sha: string;
  /** GitHub's `updated_at`, ISO 8601 UTC. */
  updatedAt: string;
  /** The head is in another repository. */
  fork: boolean;
  /** GitHub's `action`, for the story; `truth` when GitHub was asked. */
  action: string;
}

/** The signal `pullRequest`: what the webhook hands to the workflow. */
export interface PullRequestEvent extends PullRequestState {
  owner: string;
  repo: string;
  number: number;
  /** `X-GitHub-Delivery`. */
  delivery: string;
}

/** GitHub's answer when asked for the truth. Only `known` changes anything; an error is never read as "closed". */
export type PullRequestTruth =
  | { kind: 'known'; state: PullRequestState }
  /** 404 while the same credential still reads the repository; counts as closed only when seen twice. */
  | { kind: 'missing' }
  /** No credentials, or GitHub can't be reached. */
  | { kind: 'unavailable'; reason: string };
