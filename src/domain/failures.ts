/**
 * Every failure a person can meet, in one table: its type (what Temporal shows), what it means and what to do next.
 * Activities throw `ApplicationFailure`s of these types; those with `retry: false` are what a retry can't mend.
 */
export const failures = {
  CommitNotFound: {
    retry: false,
    means: 'The commit is not in the repository (any more).',
    next: 'Push again, or check GIT_BASE_URL and that the token may read the repository.',
  },
  PullRequestUnknown: {
    retry: false,
    means: 'No webhook has told of this pull request, and GitHub could not be asked.',
    next: 'Push to it, redeliver its webhook, or give the services a GITHUB_TOKEN.',
  },
  BranchNotFound: {
    retry: false,
    means: 'The repository has no such branch.',
    next: 'Check the spelling: git ls-remote --heads <url>.',
  },
  RepoNotFound: {
    retry: false,
    means: 'There is no such repository, or it may not be read with the credentials at hand.',
    next: 'Check GIT_BASE_URL, the name, and the token.',
  },
  InvalidMeta: {
    retry: false,
    means: 'What the repository declares of its preview is not valid.',
    next: 'Mend the named field; docs/declaring-a-preview.md lists them all.',
  },
  BuildFailed: {
    retry: false,
    means: 'The build ended with an error.',
    next: 'Read the log: tekton preview logs <slug> --build.',
  },
  SetupFailed: {
    retry: false,
    means: 'The setup or release command ended with an error.',
    next: 'Read the log: tekton preview logs <slug>.',
  },
  Unhealthy: {
    retry: false,
    means: 'The app did not answer its health check in time.',
    next: 'Read the log: tekton preview logs <slug>. Does the app listen on $PORT?',
  },
  PublicProbeFailed: {
    retry: false,
    means: 'The public address did not answer from the new commit.',
    next: 'Run tekton doctor; read the log of Caddy.',
  },
  MissingHostSecret: {
    retry: false,
    means: 'The meta names a host secret that this repository does not have on this host.',
    next: 'Add it to /var/secrets/previews/<owner>/<repo>.env (under the state folder on the local runtime).',
  },
  ForkRefused: {
    retry: false,
    means: 'The local runtime runs trusted code only; this pull request comes from a fork.',
    next: 'Push the branch to the repository itself, or use a host with the nixos runtime.',
  },
  HostnameTaken: {
    retry: false,
    means: 'The hostname is reserved or belongs to another preview.',
    next: 'Choose another --slug or prefix.',
  },
  CaddyRefused: {
    retry: false,
    means: 'Caddy refused the route.',
    next: 'Read the reason; if it is not the meta, it is a defect of tekton.',
  },
  CaddyUnavailable: {
    retry: true,
    means: "Caddy's admin endpoint does not answer.",
    next: 'Run tekton doctor; is Caddy running?',
  },
  DatabaseNotConfigured: {
    retry: false,
    means: 'The meta asks for a database of the host, and this host has none.',
    next: 'Set DATABASE_ADMIN_URL for the worker, or take "database": "host" out of the meta.',
  },
  DatabaseTaken: {
    retry: false,
    means: 'A role or a database of that name belongs to something else.',
    next: 'Rename or drop it if nobody needs it, or choose another --slug.',
  },
  DatabaseUnavailable: {
    retry: true,
    means: 'PostgreSQL does not answer.',
    next: 'Run tekton doctor; is PostgreSQL running? Check DATABASE_ADMIN_URL.',
  },
  GitUnavailable: {
    retry: true,
    means: 'The git server does not answer.',
    next: 'It is tried again by itself; check the network and GIT_BASE_URL.',
  },
  ContainerFailed: {
    retry: true,
    means: 'The container could not be created or started.',
    next: 'Read the log: tekton preview logs <slug>.',
  },
  GitHubUnavailable: {
    retry: true,
    means: 'GitHub does not answer, or its rate limit is used up.',
    next: 'It is tried again by itself; check the network and GITHUB_API_URL.',
  },
  GitHubRefused: {
    retry: false,
    means: 'GitHub does not let these credentials comment on the pull request.',
    next: 'Give the token or the App "Pull requests: write" for this repository; is the conversation locked?',
  },
} as const satisfies Record<string, { retry: boolean; means: string; next: string }>;

export type FailureType = keyof typeof failures;

/** The types that Temporal must not retry, for `retry.nonRetryableErrorTypes`. */
export const nonRetryableTypes: FailureType[] = (Object.keys(failures) as FailureType[]).filter(
  (t) => !failures[t].retry,
);

/** What to do next about a failure of this type, or undefined when the type is not ours. */
export function nextStep(type: string | null | undefined): string | undefined {
  return type && type in failures ? failures[type as FailureType].next : undefined;
}
