import type { Command } from 'commander';
import { type DataOptions, dataCommand, print } from '../command.ts';
import { type Place, withTemporal } from '../connection.ts';
import { renderStatus, renderStory } from '../render.ts';
import { readStatus, resolvePreview } from '../resolve.ts';

/** `tekton preview status`: where it stands now. */
export function statusCommand(): Command {
  return dataCommand('status', 'where the preview stands: phase, commits, steps, address')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action(async (typed: string, options: DataOptions) => {
      await withTemporal(options, async ({ client }) => {
        const { handle } = await resolvePreview(client, typed, true);
        const status = await readStatus(client, handle);
        print(options, status, renderStatus(status, Date.now()));
      });
    });
}

/** `tekton preview explain`: the story of the preview, of one that is gone too. */
export function explainCommand(): Command {
  return dataCommand('explain', 'the story of the preview: what happened, why, and what to do next')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action(async (typed: string, options: DataOptions) => {
      await withTemporal(options, async (place) => {
        const { handle } = await resolvePreview(place.client, typed, true);
        const status = await readStatus(place.client, handle);
        const more = [
          ...(status.buildLog ? [`build log   ${status.buildLog}`] : []),
          ...(place.uiUrl ? [`in Temporal ${workflowPage(place, status.workflowId, status.runId)}`] : []),
        ];
        print(options, status, renderStory(status, Date.now(), more));
      });
    });
}

/** The workflow's page in Temporal's web UI. */
function workflowPage(place: Place, workflowId: string, runId: string): string {
  const namespace = encodeURIComponent(place.client.options.namespace);
  return `${place.uiUrl}/namespaces/${namespace}/workflows/${encodeURIComponent(workflowId)}/${runId}/history`;
}
