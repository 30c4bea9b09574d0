/** The one comment on a pull request that tells where its preview stands: pure text. */
import type { CommentState } from '../activities/contract.ts';
import { phases } from './phase.ts';

/** The hidden line by which the comment is found again. A workflow id holds nothing that could end an HTML comment. */
export function commentMarker(workflowId: string): string {
  return `<!-- tekton:${workflowId} -->`;
}

/** Whether this preview's comment may be made now; a pull request that never had a preview is not told that it is gone. */
export function deservesComment(state: CommentState): boolean {
  return state.phase !== 'gone' && state.phase !== 'destroying';
}

const longestReason = 1_500;
const mostReasonLines = 20;

/**
 * The comment's whole body in GitHub's Markdown. The address appears only while something serves there.
 *
 * @param preview its workflow id, and the repository's page (`https://github.com/owner/repo`) that commits are linked to
 */
export function commentBody(state: CommentState, preview: { workflowId: string; repoUrl: string }): string {
  const commit = (sha: string) => `[\`${sha.slice(0, 7)}\`](${preview.repoUrl}/commit/${sha})`;
  const rows = [`| **Preview** | **${state.phase}**: ${standing(state)} |`, '| :-- | :-- |'];
  if (state.url && state.servedSha) rows.push(`| Address | ${cell(state.url)} |`);
  if (state.servedSha) rows.push(`| Serves | ${commit(state.servedSha)} |`);
  if (state.sha && state.sha !== state.servedSha) rows.push(`| Wanted | ${commit(state.sha)} |`);

  const parts = [commentMarker(preview.workflowId), rows.join('\n')];
  if (state.reason) parts.push(fenced(excerpt(redact(state.reason))));
  const next = state.next ? escapeMarkdown(redact(state.next)) : nextByPhase(state, preview.workflowId);
  if (next) parts.push(`Next: ${next}`);
  return `${parts.join('\n\n')}\n`;
}

function standing({ phase, sha, servedSha }: CommentState): string {
  if (phase !== 'live') return phases[phase];
  return sha === undefined || sha === servedSha ? 'serves the wanted commit' : 'the last good commit serves';
}

function nextByPhase(state: CommentState, workflowId: string): string | undefined {
  if (state.phase !== 'awaiting-approval' || !state.sha) return undefined;
  // `preview/owner/repo/42`: the command line takes `owner/repo#42`.
  const [, owner, repo, number] = workflowId.split('/');
  return `\`tekton preview approve ${owner}/${repo}#${number} --sha ${state.sha}\``;
}

/** Text that says what it says: no markup, no link, no mention of a person. */
export function escapeMarkdown(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_{}[\]()<>#+!|~&$-]/g, '\\$&')
    .replace(/@(?=\w)/g, '@\u200b')
    .trim();
}

/** In a table, `|` ends a cell even inside a link. */
function cell(url: string): string {
  return url.replace(/[|\s<>`]/g, encodeURIComponent);
}

/** A code block whose fence is longer than any within: its text can't end it, and mentions nobody. */
function fenced(text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}

/** The last lines, where the error is, without a terminal's colours. */
function excerpt(text: string): string {
  const plain = text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is taken out
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is taken out
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '')
    .trim();
  const lines = plain.split('\n').slice(-mostReasonLines).join('\n');
  return lines.length <= longestReason ? lines : `…${lines.slice(-longestReason)}`;
}

/** A reason may quote what a program printed; everybody who sees the pull request sees the comment. */
export function redact(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, '$1***@')
    .replace(/\b(?:gh[pousr]_|github_pat_)\w+/g, '***')
    .replace(/-----BEGIN [A-Z ]+-----[\s\S]*?(?:-----END [A-Z ]+-----|$)/g, '***')
    .replace(/(\w*(?:password|passwd|secret|token|api_?key)\w*["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|\S+)/gi, '$1***');
}
