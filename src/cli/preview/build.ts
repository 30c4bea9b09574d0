import type { Command } from 'commander';
import { containerName } from '../../domain/container-name.ts';
import { previewRef } from '../../domain/preview.ts';
import { candidateSlug } from '../../domain/slug.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { thisMachine } from '../connection.ts';
import { CliError } from '../errors.ts';
import { duration, printable } from '../render.ts';
import { describeSource, parseBranch, parseRepository } from '../target.ts';

/** `tekton preview build`: builds what a preview of the branch would run, without a preview; needs no stack. */
export function buildCommand(): Command {
  return dataCommand('build', 'build what a preview of the branch would run, without a preview; on this host')
    .argument('<owner/repo>', 'the repository')
    .argument('<branch>', 'the branch')
    .option(
      '--git-base-url <url>',
      'where repositories are: a URL, or a folder of bare ones (default: that of the stack, GIT_BASE_URL, or GitHub)',
    )
    .action(build);
}

async function build(repository: string, branchName: string, options: DataOptions & { gitBaseUrl?: string }) {
  const { owner, repo } = parseRepository(repository);
  const branch = parseBranch(branchName);
  const source = { owner, repo, branch };
  const machine = await thisMachine(options);
  if (machine.runtime === 'nixos') {
    throw new CliError(
      'this command builds on the local runtime only',
      'On nixos: nix build, from a checkout of the branch.',
    );
  }
  const { withLocalRuntime } = await import('../local-runtime.ts');
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new CliError('interrupted'));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const started = Date.now();
  await withLocalRuntime(
    machine,
    async (runtime, mirror) => {
      const { sha } = await mirror.resolveBranch({ owner, repo, branch, signal: interrupted.signal });
      note(`building ${describeSource(source)} at ${sha.slice(0, 8)}`);
      // A name of its own: it must neither find nor end what the worker builds for the preview of this branch.
      const workflowId = `build/${owner}/${repo}/@${branch}`.toLowerCase();
      const container = containerName(workflowId, `${process.pid} ${started}`, 1);
      const slug = candidateSlug(source);
      const preview = { ...source, workflowId, slug };
      const deployment = { preview, container, sha, ref: previewRef(source), fork: false };
      try {
        const closure = await runtime.buildClosure(deployment, {
          signal: interrupted.signal,
          progress: progressPrinter(),
        });
        const { path, logPath, cached } = closure;
        if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
        note(cached ? 'it was built before' : `built in ${duration(Date.now() - started)}; its log: ${logPath}`);
        print(options, { sha, path, logPath, cached, meta: closure.meta }, [path]);
      } finally {
        if (interrupted.signal.aborted) await runtime.abortBuild(container);
      }
    },
    options.gitBaseUrl ?? machine.stack?.gitBaseUrl,
  );
}

/** The build's own words on stderr: in place on a terminal; elsewhere each once, and no counting. */
function progressPrinter(): (text: string) => void {
  const { stderr } = process;
  let last = '';
  return (text) => {
    if (text === last) return;
    last = text;
    const line = `  ${printable(text)}`;
    if (stderr.isTTY) stderr.write(`\r\x1b[K${line.slice(0, stderr.columns - 1)}`);
    else if (!/\d+%/.test(text)) note(line);
  };
}
