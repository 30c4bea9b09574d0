import type { Client, WorkflowExecutionInfo } from '@temporalio/client';
import type { Command } from 'commander';
import { statusQuery } from '../../workflows/messages.ts';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { workerSilent } from '../errors.ts';
import { type PreviewRow, renderList } from '../render.ts';
import { attribute, runningPreviews } from '../resolve.ts';

/** How many workflows are asked for their address at the same time. */
const askAtOnce = 10;

/** `tekton preview list`: every preview that is not gone. */
export function listCommand(): Command {
  return dataCommand('list', 'every preview that is not gone').action(async (options: DataOptions) => {
    await withTemporal(options, async ({ client }) => {
      const rows = await withAddresses(client, await runningPreviews(client));
      print(options, rows, renderList(rows, Date.now()));
    });
  });
}

/** Phase and names come from Temporal's index, which needs no worker; the address only the workflow knows. */
async function withAddresses(client: Client, infos: WorkflowExecutionInfo[]): Promise<PreviewRow[]> {
  const rows = infos.map(toRow).sort((a, b) => a.slug.localeCompare(b.slug));
  let silent = false;
  const waiting = [...rows];
  const ask = async () => {
    for (let row = waiting.shift(); row && !silent; row = waiting.shift()) {
      const handle = client.workflow.getHandle(row.workflowId);
      try {
        const status = await client.withDeadline(Date.now() + 5000, () => handle.query(statusQuery));
        Object.assign(row, {
          phase: status.phase,
          heldDown: status.desired.heldDown,
          slug: status.slug,
          sha: status.servedSha ?? status.desiredSha,
          url: status.url,
        });
      } catch {
        silent = true;
      }
    }
  };
  await Promise.all(Array.from({ length: askAtOnce }, ask));
  if (silent) note(`${workerSilent.message}: addresses are missing. ${workerSilent.next}`);
  return rows;
}

function toRow(info: WorkflowExecutionInfo): PreviewRow {
  return {
    slug: attribute(info, 'TektonSlug') ?? '-',
    phase: attribute(info, 'TektonPhase') ?? '-',
    sha: attribute(info, 'TektonSha'),
    host: attribute(info, 'TektonHost'),
    source: info.workflowId
      .replace(/^preview\//, '')
      .replace(/\/(\d+)$/, '#$1')
      .replace(/\/@/, '@'),
    workflowId: info.workflowId,
    startedAt: info.startTime.toISOString(),
  };
}
