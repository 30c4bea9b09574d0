import type { Command } from 'commander';
import { destroyUpdate } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { resolvePreview } from '../resolve.ts';
import { settleDestroy } from './settle.ts';

/** `tekton preview destroy`: takes everything away and follows until nothing is left. */
export function destroyCommand(): Command {
  return dataCommand('destroy', 'take the preview away, its database too; a push or a reopen brings it back')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action(async (typed: string, options: DataOptions) => {
      await withTemporal(options, async ({ client }) => {
        const { handle } = await resolvePreview(client, typed, false);
        await client.withDeadline(Date.now() + 15_000, () => handle.executeUpdate(destroyUpdate));
        await settleDestroy(client, handle, options);
      });
    });
}
