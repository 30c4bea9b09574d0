import type { Client, WorkflowHandle } from '@temporalio/client';
import type { PreviewStatus } from '../../workflows/messages.ts';
import { type DataOptions, note, print } from '../command.ts';
import { attemptOver, destroyOver, follow, showOn } from '../follow.ts';
import { renderFailure } from '../render.ts';
import { readStatus } from '../resolve.ts';

/** Follows attempt `attempt` to its end, then prints the URL (stdout), or the reason (stderr, exit 1). */
export async function settleAttempt(
  client: Client,
  handle: WorkflowHandle,
  attempt: number,
  options: DataOptions,
): Promise<PreviewStatus> {
  const { ok, status } = await followPreview(client, handle, attemptOver(attempt));
  if (ok || options.json) print(options, status, [status.url ?? '']);
  if (!ok) fail(status);
  return status;
}

/** Follows a destroy until nothing is left. */
export async function settleDestroy(client: Client, handle: WorkflowHandle, options: DataOptions) {
  const { ok, status } = await followPreview(client, handle, destroyOver);
  const held = status.desired.heldDown ? ['It is held down until it is pushed to, reopened or created by hand.'] : [];
  const lines = [`${status.slug} is gone; nothing is left on ${status.host}.`, ...held];
  if (ok || options.json) print(options, status, lines);
  if (!ok) fail(status);
}

function followPreview(client: Client, handle: WorkflowHandle, over: (status: PreviewStatus) => boolean | undefined) {
  return follow({
    read: () => readStatus(client, handle),
    over,
    show: showOn(process.stderr),
    ended: async () => {
      const { status } = await handle.describe();
      return status.name === 'RUNNING' || status.name === 'COMPLETED' ? undefined : status.name.toLowerCase();
    },
  });
}

function fail(status: PreviewStatus): void {
  note(...renderFailure(status));
  process.exitCode = 1;
}
