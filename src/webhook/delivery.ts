import { previewWorkflowId } from '../domain/preview.ts';
import { interpret } from '../domain/webhook-event.ts';
import type { Result, WebhookMetrics } from './metrics.ts';
import { record } from './record.ts';
import type { WebhookOptions } from './server.ts';
import { isSigned } from './signature.ts';

/** One delivery as it came over the wire. */
export interface ReceivedDelivery {
  body: Buffer;
  delivery: string;
  event: string | undefined;
  signature: string | undefined;
  contentType: string | undefined;
}

export interface DeliveryAnswer {
  status: 200 | 202 | 400 | 401 | 415 | 503;
  result: Result;
  body: Record<string, unknown>;
  /** For the log line. */
  log: Record<string, unknown>;
}

/**
 * How long Temporal may take. GitHub gives up after 10 seconds and the design promises an answer after 5; the rest is for the way
 * there and back.
 */
export const recordWithinMs = 4_500;

/** From bytes to answer: signature, type, JSON, meaning, record; in this order, so that nothing unsigned is parsed. */
export async function receiveDelivery(
  received: ReceivedDelivery,
  { config, temporal, metrics }: Pick<WebhookOptions, 'config' | 'temporal'> & { metrics: WebhookMetrics },
): Promise<DeliveryAnswer> {
  const { body, delivery, event, signature, contentType } = received;

  if (!config.webhookSecret || !isSigned(config.webhookSecret, body, signature)) {
    const why = signature === undefined ? 'is missing' : 'does not match the body';
    const next = "Is the secret in the webhook's settings on GitHub the same as GITHUB_WEBHOOK_SECRET?";
    return refused(401, 'bad-signature', `X-Hub-Signature-256 ${why}. ${next}`);
  }

  const type = contentType?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    const setting = 'In the webhook\'s settings on GitHub, set "Content type" to application/json.';
    return refused(415, 'unsupported-type', `the content type is ${quoted(type)}. ${setting}`);
  }
  if (event === undefined) return refused(400, 'malformed', 'the header X-GitHub-Event is missing');

  const payload = parseJson(body);
  if (payload === undefined) return refused(400, 'malformed', 'the body is not JSON in UTF-8');

  const meaning = interpret({ event, delivery, payload }, config);
  if (meaning.kind === 'malformed') return refused(400, 'malformed', meaning.reason);
  if (meaning.kind === 'ignored') return ignored(meaning.reason);

  const { owner, repo, number, action, sha } = meaning.event;
  const log = {
    action,
    repo: `${owner}/${repo}`,
    pr: number,
    sha,
    workflowId: previewWorkflowId(meaning.input.source),
  };
  const endTimer = metrics.recording.startTimer();
  try {
    const { recorded, workflowId, slug } = await record(temporal, meaning, recordWithinMs);
    endTimer({ outcome: recorded ? 'recorded' : 'no workflow' });
    if (!recorded) return ignored(`${owner}/${repo} is not in ALLOWED_REPOS, and #${number} has no preview`, log);
    return { status: 202, result: 'accepted', body: { status: 'accepted', workflowId, slug }, log };
  } catch (error) {
    endTimer({ outcome: 'failed' });
    return {
      status: 503,
      result: 'unrecorded',
      body: { status: 'error', reason: 'Temporal could not record this delivery. Redeliver it.' },
      log: { ...log, reason: reasonOf(error) },
    };
  }
}

function refused(status: 400 | 401 | 415, result: Result, reason: string): DeliveryAnswer {
  return { status, result, body: { status: 'error', reason }, log: { reason } };
}

function ignored(reason: string, log: Record<string, unknown> = {}): DeliveryAnswer {
  return { status: 200, result: 'ignored', body: { status: 'ignored', reason }, log: { ...log, reason } };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The parsed body, or undefined when it is not JSON in UTF-8. */
function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(utf8.decode(body)) as unknown;
  } catch {
    return undefined;
  }
}

function quoted(type: string | undefined): string {
  return type === undefined ? 'not given' : `"${type.replace(/[^\w./+-]+/g, '?').slice(0, 80)}"`;
}

/** The client wraps gRPC's answer; the cause says more. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
