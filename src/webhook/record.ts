import { WorkflowNotFoundError } from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import { previewWorkflowId } from '../domain/preview.ts';
import { initialSearchAttributes } from '../domain/search-attributes.ts';
import { candidateSlug } from '../domain/slug.ts';
import type { Interpretation } from '../domain/webhook-event.ts';
import type { Temporal } from '../temporal/connection.ts';
import { within } from '../temporal/deadline.ts';
import { previewWorkflowType, pullRequestSignal, taskQueue } from '../workflows/messages.ts';

type SignalToRecord = Extract<Interpretation, { kind: 'signal' }>;

export interface Recorded {
  /** False when there was no workflow to tell, and none may be started. */
  recorded: boolean;
  workflowId: string;
  /** The slug this preview will ask for. */
  slug: string;
}

/**
 * Hands a pull request's state to its workflow, which is started when there is none and it may be. Resolves only once Temporal has
 * recorded it.
 *
 * @param withinMs how long it may take
 * @throws Error when Temporal did not confirm in time or refused. It may then still have been recorded: a second telling changes nothing
 */
export async function record(temporal: Temporal, signal: SignalToRecord, withinMs: number): Promise<Recorded> {
  const { event, input, startable } = signal;
  const workflowId = previewWorkflowId(input.source);
  const slug = candidateSlug(input.source);
  const repo = `${event.owner}/${event.repo}`;

  const startOrTell = () =>
    temporal.client.workflow.signalWithStart(previewWorkflowType, {
      workflowId,
      taskQueue,
      args: [input],
      signal: pullRequestSignal,
      signalArgs: [event],
      workflowIdConflictPolicy: 'USE_EXISTING',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      typedSearchAttributes: new TypedSearchAttributes(
        initialSearchAttributes({ repo, number: event.number, slug, host: input.host, sha: event.sha }),
      ),
      staticSummary: `Preview of ${repo}#${event.number}`,
    });
  const tell = () => temporal.client.workflow.getHandle(workflowId).signal(pullRequestSignal, event);

  try {
    await within<unknown>(withinMs, temporal, startable ? startOrTell : tell);
    return { recorded: true, workflowId, slug };
  } catch (error) {
    if (!startable && error instanceof WorkflowNotFoundError) return { recorded: false, workflowId, slug };
    throw error;
  }
}
