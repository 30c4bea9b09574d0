/**
 * The desired state of one preview, and the reducer that messages go through. Messages change nothing else: so pushes coalesce,
 * duplicates vanish, and order hardly matters. Pure; runs inside the workflow.
 */
import type { PullRequestState } from './pull-request.ts';

export interface Desired {
  /** The pull request is open (or the branch's preview is wanted). */
  open: boolean;
  /** The commit that should serve; unknown until GitHub, git or a webhook told it. */
  sha?: string;
  /** GitHub's `updated_at` of the newest thing known; `''` before anything is known. */
  updatedAt: string;
  fork: boolean;
  /** Destroyed by hand while open: only a reopen, a push, or somebody's hand revives it. */
  heldDown: boolean;
  /** Approval is for one exact commit. */
  approvedSha?: string;
  /** Counts deployments asked for by hand; a higher number than the last attempt's means "again". */
  redeploys: number;
  /** The next deployment starts with an empty database. */
  resetDatabase: boolean;
}

export const nothingDesired: Desired = {
  open: false,
  updatedAt: '',
  fork: false,
  heldDown: false,
  redeploys: 0,
  resetDatabase: false,
};

export interface Reduced {
  desired: Desired;
  /** Something changed that the loop has to act on. */
  changed: boolean;
  /** What was told contradicts what is known: ask GitHub. */
  ask: boolean;
  /** What happened, for the story. */
  because: string;
}

/**
 * Feeds one telling of the pull request's state in. `updated_at` orders: older is stale, newer wins. On a tie a `closed` acts at
 * once, other changes are taken and GitHub is asked; GitHub's own answer (`truth`) settles a tie.
 */
export function applyPullRequest(desired: Desired, told: PullRequestState): Reduced {
  const keep = (because: string, ask = false): Reduced => ({ desired, changed: false, ask, because });
  const sameContent = desired.open === told.open && desired.sha === told.sha && desired.fork === told.fork;
  const truth = told.action === 'truth';

  if (told.updatedAt < desired.updatedAt) {
    return keep(`a stale "${told.action}" was ignored`, !sameContent && !truth);
  }
  const tie = told.updatedAt === desired.updatedAt;
  if (tie && sameContent) return keep(`a repeated "${told.action}" changed nothing`);
  // Without GitHub's word a tie between open and closed stays closed: a ghost is worse than a preview that a push revives.
  if (tie && !desired.open && told.open && !truth) {
    return keep(`"${told.action}" carries the same time as the close`, true);
  }

  const pushed = told.sha !== desired.sha;
  const reopened = told.open && (!desired.open || told.action === 'reopened');
  const heldDown = told.open && desired.heldDown && !(pushed || reopened);
  return {
    desired: { ...desired, ...only(told), heldDown },
    changed: !sameContent || heldDown !== desired.heldDown,
    ask: tie && !truth,
    because: describe(told, pushed),
  };
}

/** Somebody's hand: deploy again (or for the first time), even the same commit. Lifts a hold. */
export function applyRedeploy(desired: Desired, options: { resetDatabase?: boolean } = {}): Desired {
  return {
    ...desired,
    open: true,
    heldDown: false,
    redeploys: desired.redeploys + 1,
    resetDatabase: desired.resetDatabase || options.resetDatabase === true,
  };
}

/** Somebody's hand: take it away. An open pull request is held down; a branch made by hand is simply over. */
export function applyDestroy(desired: Desired, byHandOnly: boolean): Desired {
  return byHandOnly ? { ...desired, open: false, heldDown: false } : { ...desired, heldDown: desired.open };
}

/** Approval of one exact commit of a fork. */
export function applyApproval(desired: Desired, sha: string): Desired {
  return { ...desired, approvedSha: sha };
}

/** The preview should stand. */
export function isWanted(desired: Desired): boolean {
  return desired.open && !desired.heldDown;
}

/** A fork's commit that nobody has approved yet. */
export function needsApproval(desired: Desired): boolean {
  return desired.fork && desired.approvedSha !== desired.sha;
}

/** What an attempt is for. Two attempts with the same key would do the same. */
export interface Attempted {
  /** `''` when it failed before the commit was known. */
  sha: string;
  redeploys: number;
}

/** The attempt that the desired state asks for, when it is not the one already made. `sha` may still have to be resolved. */
export function attemptWanted(desired: Desired, last: Attempted | undefined): boolean {
  if (!isWanted(desired)) return false;
  return last === undefined || last.redeploys !== desired.redeploys || last.sha !== (desired.sha ?? '');
}

function only(told: PullRequestState): Pick<Desired, 'open' | 'sha' | 'updatedAt' | 'fork'> {
  return { open: told.open, sha: told.sha, updatedAt: told.updatedAt, fork: told.fork };
}

function describe(told: PullRequestState, pushed: boolean): string {
  if (!told.open) return told.action === 'truth' ? 'GitHub says it is closed' : 'the pull request was closed';
  const commit = told.sha.slice(0, 7);
  if (told.action === 'truth') return pushed ? `GitHub says the head is ${commit}` : 'GitHub was asked';
  if (told.action === 'synchronize') return `${commit} was pushed`;
  return `the pull request was ${told.action} at ${commit}`;
}
