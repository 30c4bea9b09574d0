import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import type { Temporal } from '../temporal/connection.ts';
import type { Readiness } from '../temporal/readiness.ts';
import { receiveDelivery } from './delivery.ts';
import { type Result, webhookMetrics } from './metrics.ts';

export interface WebhookOptions {
  config: Pick<Config, 'webhookSecret' | 'allowedRepos' | 'host'>;
  temporal: Temporal;
  readiness: Readiness;
  logger: Logger;
}

/** GitHub's own limit for a payload. */
export const maxBodyBytes = 25 * 1024 * 1024;

/** When GitHub (or a probe) may ask again. */
const retryAfterSeconds = '10';

/** The HTTP server of the design's table. It does not listen yet. */
export function buildWebhook({ config, temporal, readiness, logger }: WebhookOptions): FastifyInstance {
  const metrics = webhookMetrics();
  const app = Fastify({
    loggerInstance: logger as FastifyBaseLogger,
    // One line a delivery is enough; `finish` writes it.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: maxBodyBytes,
    // GitHub hangs up after 10 seconds; a client that dribbles holds its buffer no longer than this.
    requestTimeout: 30_000,
    forceCloseConnections: 'idle',
    genReqId: (request) => deliveryOf(request) ?? randomUUID(),
    childLoggerFactory: (parent, _bindings, options, request) => {
      const delivery = deliveryOf(request);
      return parent.child(delivery === undefined ? {} : { delivery }, options);
    },
  });

  // The signature is over the bytes as they came, whatever the sender calls them.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  // Fastify would answer an ill-formed content type itself, before the signature was looked at.
  const contentTypes = new WeakMap<IncomingMessage, string>();
  app.addHook('onRequest', async (request) => {
    const given = header(request, 'content-type');
    if (given !== undefined) contentTypes.set(request.raw, given);
    request.headers['content-type'] = 'application/octet-stream';
  });

  // A kept-alive connection that was busy when the server began to close would hold it open for over a minute.
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (closing) reply.header('connection', 'close');
  });

  const finish = (request: FastifyRequest, reply: FastifyReply, result: Result, detail: Record<string, unknown>) => {
    metrics.deliveries.inc({ result });
    if (result === 'bad-signature') metrics.signatureFailures.inc();
    const level = result === 'accepted' || result === 'ignored' ? 'info' : 'warn';
    request.log[level]({ result, status: reply.statusCode, ms: Math.round(reply.elapsedTime), ...detail }, 'delivery');
  };

  app.post('/webhook/github', async (request, reply) => {
    const answer = await receiveDelivery(
      {
        body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
        delivery: request.id,
        event: header(request, 'x-github-event'),
        signature: header(request, 'x-hub-signature-256'),
        contentType: contentTypes.get(request.raw),
      },
      { config, temporal, metrics },
    );
    reply.code(answer.status);
    if (answer.status === 503) {
      reply.header('retry-after', retryAfterSeconds);
      // It may have failed for want of a search attribute; asking mends that.
      void readiness.problem();
    }
    finish(request, reply, answer.result, { event: header(request, 'x-github-event'), ...answer.log });
    return answer.body;
  });

  app.get('/health', async () => ({ status: 'alive' }));

  app.get('/ready', async (_request, reply) => {
    const problem = await readiness.problem();
    metrics.ready.set(problem === undefined ? 1 : 0);
    if (problem === undefined) return { status: 'ready' };
    return reply.code(503).header('retry-after', retryAfterSeconds).send({ status: 'not ready', reason: problem });
  });

  app.get('/metrics', async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );

  app.setNotFoundHandler(async (request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const allowed = methodsOf(path);
    if (allowed === undefined) return reply.code(404).send(problem(`there is nothing at ${request.method} ${path}`));
    return reply
      .code(405)
      .header('allow', allowed)
      .send(problem(`${path} answers ${allowed} only`));
  });

  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500;
    reply.code(status);
    if (request.routeOptions.url === '/webhook/github') {
      finish(request, reply, resultOf(status, error), { reason: error.message });
    } else {
      request.log.error({ err: error }, 'request failed');
    }
    if (status === 413) {
      // What is left of the body is not read: the connection is of no further use.
      reply.header('connection', 'close');
      return reply.send(problem(`the body is larger than ${maxBodyBytes} bytes`));
    }
    return reply.send(problem(status < 500 ? error.message : 'internal error'));
  });

  return app;
}

/** The body of every answer that is an error. */
function problem(reason: string) {
  return { status: 'error', reason };
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}

/** GitHub's delivery id, if it looks like one: it is not covered by the signature, and it goes into logs and the workflow. */
function deliveryOf(request: { headers: IncomingMessage['headers'] }): string | undefined {
  const value = request.headers['x-github-delivery'];
  return typeof value === 'string' && /^[\w-]{1,64}$/.test(value) ? value : undefined;
}

function methodsOf(path: string): string | undefined {
  if (path === '/webhook/github') return 'POST';
  return ['/health', '/ready', '/metrics'].includes(path) ? 'GET, HEAD' : undefined;
}

function resultOf(status: number, error: FastifyError): Result {
  if (status === 413) return 'too-large';
  return status < 500 || error.code === 'ECONNRESET' ? 'broken-off' : 'error';
}
