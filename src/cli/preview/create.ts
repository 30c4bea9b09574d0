import type { Command } from 'commander';
import { type PreviewSource, previewWorkflowId } from '../../domain/preview.ts';
import { initialSearchAttributes } from '../../domain/search-attributes.ts';
import { candidateSlug } from '../../domain/slug.ts';
import { type PreviewInput, previewWorkflowType, redeployUpdate, taskQueue } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { UsageError } from '../errors.ts';
import { describeSource, parseBranch, parseRepository, parseSlug, parseTarget } from '../target.ts';
import { settleAttempt } from './settle.ts';

interface CreateOptions extends DataOptions {
  slug?: string;
  wait: boolean;
}

/** `tekton preview create`: makes a preview by hand, of a branch or of a pull request. */
export function createCommand(): Command {
  return dataCommand('create', 'make a preview of a branch by hand, or bring the one of a pull request back')
    .argument('<owner/repo>', 'the repository; owner/repo#42 for a pull request')
    .argument('[branch]', 'the branch (not for a pull request)')
    .option('--slug <slug>', 'the name in the address, instead of <repo>-<branch>')
    .option('--no-wait', 'return once it is accepted')
    .action(create);
}

async function create(repository: string, branch: string | undefined, options: CreateOptions): Promise<void> {
  const source = parseSource(repository, branch);
  const slug = options.slug === undefined ? undefined : parseSlug(options.slug);
  await withTemporal(options, async ({ client, host }) => {
    const workflowId = previewWorkflowId(source);
    const input: PreviewInput = { source, host, slug };
    const { WithStartWorkflowOperation } = await import('@temporalio/client');
    const startWorkflowOperation = new WithStartWorkflowOperation(previewWorkflowType, {
      workflowId,
      taskQueue,
      args: [input],
      workflowIdConflictPolicy: 'USE_EXISTING',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      typedSearchAttributes: initialSearchAttributes({
        repo: `${source.owner}/${source.repo}`,
        number: source.number,
        slug: candidateSlug(source, slug),
        host,
      }),
      staticSummary: `Preview of ${describeSource(source)}`,
    });
    const { attempt } = await client.withDeadline(Date.now() + 15_000, () =>
      client.workflow.executeUpdateWithStart(redeployUpdate, { args: [{}], startWorkflowOperation }),
    );
    const handle = client.workflow.getHandle(workflowId);
    if (options.wait) {
      const status = await settleAttempt(client, handle, attempt, options);
      if (slug && status.slug !== slug)
        note(`Its slug is ${status.slug}: it had that one already, or "${slug}" was taken.`);
      return;
    }
    print(options, { workflowId, attempt }, []);
    note(`Accepted as attempt ${attempt}. Follow it: tekton preview status ${describeSource(source)}`);
  });
}

function parseSource(repository: string, branch: string | undefined): PreviewSource {
  if (/[#@]/.test(repository)) {
    const target = parseTarget(repository);
    if (target.kind === 'source') {
      if (branch === undefined) return target.source;
      throw new UsageError(`"${repository}" already says which branch or pull request: leave out "${branch}"`);
    }
  }
  const { owner, repo } = parseRepository(repository);
  if (branch === undefined) {
    throw new UsageError(`a branch is missing: tekton preview create ${owner}/${repo} <branch>`);
  }
  return { owner, repo, branch: parseBranch(branch) };
}
