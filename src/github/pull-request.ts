import type { PullRequestTruth } from '../domain/pull-request.ts';
import { describeProblems, pullRequestSchema, pullRequestState } from '../domain/webhook-event.ts';
import { describeRefusal, statusOf } from './errors.ts';
import type { GitHub } from './github.ts';

interface PullRequestId {
  owner: string;
  repo: string;
  number: number;
}

/**
 * A pull request's state in GitHub's own words. Only an answer that is one counts: a 404 while the same credentials still list this
 * repository's pull requests is `missing`, anything else is `unavailable`, never "closed".
 */
export async function readPullRequest(
  github: GitHub,
  { owner, repo, number }: PullRequestId,
  signal: AbortSignal,
): Promise<PullRequestTruth> {
  const octokit = await github.octokit();
  const request = { signal };
  try {
    const { data } = await octokit.rest.pulls.get({ owner, repo, pull_number: number, request });
    const parsed = pullRequestSchema.safeParse(data);
    if (!parsed.success) return unavailable(`GitHub's answer is not a pull request: ${describeProblems(parsed.error)}`);
    return { kind: 'known', state: pullRequestState(parsed.data, 'truth') };
  } catch (error) {
    if (statusOf(error) !== 404) return unavailable(describeRefusal(error));
  }
  try {
    // Stronger than reading the repository itself: a token may see that and still be told 404 for every pull request.
    const { data } = await octokit.rest.pulls.list({ owner, repo, state: 'all', per_page: 1, request });
    return Array.isArray(data) ? { kind: 'missing' } : unavailable("GitHub's answer is not a list of pull requests");
  } catch (error) {
    return unavailable(`${owner}/${repo} can't be read: ${describeRefusal(error)}`);
  }
}

function unavailable(reason: string): PullRequestTruth {
  return { kind: 'unavailable', reason };
}
