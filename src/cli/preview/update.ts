import type { Command } from 'commander';
import { approveUpdate, redeployUpdate } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { resolvePreview } from '../resolve.ts';
import { parseSha } from '../target.ts';
import { settleAttempt } from './settle.ts';

/** How long an update may take to be accepted: the worker answers in milliseconds when it is there. */
const acceptMs = 15_000;

/** `tekton preview update`: a new deployment of the newest commit. */
export function updateCommand(): Command {
  return dataCommand('update', 'deploy the newest commit anew, beside the old, and switch')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action((typed: string, options: DataOptions) => redeploy(typed, options, false));
}

/** `tekton preview reset-db`: a new deployment with an empty database. */
export function resetDbCommand(): Command {
  return dataCommand('reset-db', 'drop the database of the preview and deploy anew with an empty one')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action((typed: string, options: DataOptions) => redeploy(typed, options, true));
}

/** `tekton preview approve`: lets exactly one commit of a fork be built. */
export function approveCommand(): Command {
  return dataCommand('approve', 'let one exact commit of a fork be built and run')
    .argument('<slug>', 'slug, owner/repo#42, or URL')
    .requiredOption('--sha <commit>', 'the commit that was read and found harmless, all 40 digits')
    .action(async (typed: string, options: DataOptions & { sha: string }) => {
      const sha = parseSha(options.sha);
      await withTemporal(options, async ({ client }) => {
        const { handle } = await resolvePreview(client, typed, false);
        const { attempt } = await client.withDeadline(Date.now() + acceptMs, () =>
          handle.executeUpdate(approveUpdate, { args: [{ sha }] }),
        );
        await settleAttempt(client, handle, attempt, options);
      });
    });
}

async function redeploy(typed: string, options: DataOptions, resetDatabase: boolean) {
  await withTemporal(options, async ({ client }) => {
    const { handle } = await resolvePreview(client, typed, false);
    const { attempt } = await client.withDeadline(Date.now() + acceptMs, () =>
      handle.executeUpdate<{ attempt: number }, [{ resetDatabase: boolean }]>(redeployUpdate.name, {
        args: [{ resetDatabase }],
      }),
    );
    await settleAttempt(client, handle, attempt, options);
  });
}
