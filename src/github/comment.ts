import type { Octokit } from 'octokit';
import { commentMarker } from '../domain/comment.ts';
import { statusOf } from './errors.ts';
import type { GitHub } from './github.ts';

export interface StickyComment {
  owner: string;
  repo: string;
  number: number;
  workflowId: string;
  /** Where it was last time. */
  commentId?: number;
  body: string;
  /** Whether it may be made when there is none. */
  create: boolean;
}

/** Ours is made when the pull request is opened; a thousand comments further down it is not worth the search. */
const pagesToSearch = 10;

/**
 * Brings the one comment to say `body`: edits it in place, and only when it differs. Found by id, else by its marker among the
 * comments that these credentials wrote, else made.
 *
 * @returns the comment's id; undefined when there is none and none may be made
 * @throws octokit's RequestError
 */
export async function upsertStickyComment(
  github: GitHub,
  comment: StickyComment,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { owner, repo, number, body } = comment;
  const octokit = await github.octokit();
  const found = (await readKnown(octokit, comment, signal)) ?? (await search(octokit, github, comment, signal));
  if (found !== undefined) {
    if (normal(found.body) === normal(body)) return found.id;
    try {
      await octokit.rest.issues.updateComment({ owner, repo, comment_id: found.id, body, request: { signal } });
      return found.id;
    } catch (error) {
      // Deleted a moment ago.
      if (statusOf(error) !== 404) throw error;
    }
  }
  if (!comment.create) return undefined;
  // Not tried again at once: an answer that was lost may have made it, and only a new search would know.
  const request = { signal, retries: 0 };
  return (await octokit.rest.issues.createComment({ owner, repo, issue_number: number, body, request })).data.id;
}

interface Found {
  id: number;
  body: string | undefined;
}

async function readKnown(octokit: Octokit, comment: StickyComment, signal: AbortSignal): Promise<Found | undefined> {
  const { owner, repo, commentId } = comment;
  if (commentId === undefined) return undefined;
  try {
    const { data } = await octokit.rest.issues.getComment({ owner, repo, comment_id: commentId, request: { signal } });
    return { id: data.id, body: data.body };
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

async function search(
  octokit: Octokit,
  github: GitHub,
  { owner, repo, number, workflowId }: StickyComment,
  signal: AbortSignal,
): Promise<Found | undefined> {
  const marker = commentMarker(workflowId);
  const list = { owner, repo, issue_number: number, per_page: 100, request: { signal } };
  let page = 0;
  for await (const { data } of octokit.paginate.iterator(octokit.rest.issues.listComments, list)) {
    for (const candidate of data) {
      if (candidate.body?.startsWith(marker) && (await github.wrote(candidate, signal))) {
        return { id: candidate.id, body: candidate.body };
      }
    }
    page += 1;
    if (page === pagesToSearch) return undefined;
  }
  return undefined;
}

/** GitHub may give back other line ends than it was given. */
function normal(text: string | undefined): string {
  return (text ?? '').replaceAll('\r\n', '\n').trimEnd();
}
