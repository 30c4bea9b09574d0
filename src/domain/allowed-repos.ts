/** The allow-list of repositories: `*` for all, `owner/*`, or `owner/repo`. GitHub's names are case-insensitive, and so is this. */
export type AllowedRepos = readonly string[];

const owner = '[a-z0-9_][a-z0-9_-]*';
const entry = new RegExp(`^(?:\\*|${owner}/(?:\\*|[a-z0-9._-]+))$`);

/**
 * Reads `ALLOWED_REPOS`. Empty means none.
 *
 * @returns the entries in lower case, and those that are not well-formed, as written
 */
export function parseAllowedRepos(text: string): { allowed: AllowedRepos; bad: string[] } {
  const entries = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  return {
    allowed: entries.map((part) => part.toLowerCase()),
    bad: entries.filter((part) => !entry.test(part.toLowerCase())),
  };
}

/** Whether the list lets this repository have previews. */
export function isAllowed(allowed: AllowedRepos, repoOwner: string, repo: string): boolean {
  const ownerName = repoOwner.toLowerCase();
  return (
    allowed.includes('*') ||
    allowed.includes(`${ownerName}/*`) ||
    allowed.includes(`${ownerName}/${repo.toLowerCase()}`)
  );
}
