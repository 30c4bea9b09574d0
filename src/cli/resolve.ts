import type { Client, WorkflowExecutionInfo, WorkflowHandle } from '@temporalio/client';
import { previewWorkflowId } from '../domain/preview.ts';
import { maxLabel } from '../domain/slug.ts';
import { type PreviewStatus, previewWorkflowType, statusQuery } from '../workflows/messages.ts';
import { CliError, isNotFound, isSilentWorker, workerSilent } from './errors.ts';
import { describeSource, nearest, parseTarget } from './target.ts';

export interface Found {
  workflowId: string;
  /** What the person typed. */
  typed: string;
  running: boolean;
  handle: WorkflowHandle;
}

/**
 * Finds the workflow that a person means. Among those that run first; one that is gone only when `gone` allows it (its story can
 * still be read while Temporal keeps it).
 *
 * @throws UsageError when the text names nothing; CliError when nothing, or more than one thing, answers to it
 */
export async function resolvePreview(client: Client, typed: string, gone: boolean): Promise<Found> {
  const target = parseTarget(typed);
  if (target.kind === 'source') return resolveExact(client, typed, previewWorkflowId(target.source), gone);
  return resolveLabel(client, typed, target.label, gone);
}

/** Asks the workflow for its status; a worker that is away gives a clear error after 10 s. */
export async function readStatus(client: Client, handle: WorkflowHandle): Promise<PreviewStatus> {
  try {
    return await client.withDeadline(Date.now() + 10_000, () => handle.query(statusQuery));
  } catch (error) {
    if (isSilentWorker(error)) throw new CliError(workerSilent.message, workerSilent.next, error);
    throw error;
  }
}

/** Every preview workflow that runs, newest first. */
export async function runningPreviews(client: Client): Promise<WorkflowExecutionInfo[]> {
  return collect(client, `WorkflowType = "${previewWorkflowType}" AND ExecutionStatus = "Running"`, 10_000);
}

/** A search attribute's first value as text, or undefined. */
export function attribute(info: WorkflowExecutionInfo, name: string): string | undefined {
  const value = info.typedSearchAttributes.getAll().find((pair) => pair.key.name === name)?.value;
  return value === undefined ? undefined : String(value);
}

async function resolveExact(client: Client, typed: string, workflowId: string, gone: boolean): Promise<Found> {
  const handle = client.workflow.getHandle(workflowId);
  try {
    const { status } = await handle.describe();
    const running = status.name === 'RUNNING';
    if (!running && !gone) throw new CliError(`${typed} is gone`, reviveHint);
    return { workflowId, typed, running, handle };
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw await unknown(client, typed, typed);
  }
}

async function resolveLabel(client: Client, typed: string, label: string, gone: boolean): Promise<Found> {
  // The label has passed labelPattern: nothing in it can end the quoted string.
  const query = `WorkflowType = "${previewWorkflowType}" AND TektonSlug = "${label}"`;
  const running = await collect(client, `${query} AND ExecutionStatus = "Running"`, 10);
  if (running.length > 1) {
    const names = running.map((info) => info.workflowId.replace(/^preview\//, '').replace(/\/(?=\d+$)/, '#'));
    throw new CliError(
      `"${label}" could be any of: ${names.join(', ')}`,
      'Name the one you mean as owner/repo#42 or owner/repo@branch.',
    );
  }
  const info = running[0] ?? (await collect(client, query, 1))[0];
  if (!info) throw await unknown(client, typed, label);
  if (running.length === 0 && !gone) throw new CliError(`${typed} is gone`, reviveHint);
  return {
    workflowId: info.workflowId,
    typed,
    running: running.length > 0,
    handle: client.workflow.getHandle(info.workflowId),
  };
}

async function collect(client: Client, query: string, limit: number): Promise<WorkflowExecutionInfo[]> {
  const found: WorkflowExecutionInfo[] = [];
  for await (const info of client.workflow.list({ query })) {
    found.push(info);
    if (found.length >= limit) break;
  }
  return found;
}

const reviveHint =
  'Bring it back: reopen or push to the pull request, or make it by hand with tekton preview create <owner/repo> <branch>.';

async function unknown(client: Client, typed: string, wanted: string): Promise<CliError> {
  const infos = await runningPreviews(client).catch(() => []);
  const slugs = infos.map((info) => attribute(info, 'TektonSlug')).filter((slug) => slug !== undefined);
  const near = nearest(
    wanted
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .slice(-maxLabel),
    slugs,
  );
  const hint = near.length > 0 ? `Did you mean ${near.join(' or ')}? ` : '';
  return new CliError(`there is no preview "${typed}"`, `${hint}See them all: tekton preview list.`);
}

/** How a person names the preview of a status, in messages. */
export function nameOf(status: PreviewStatus): string {
  return status.slug || describeSource(status.source);
}
