import { type Logger, pino } from 'pino';
import { printableConfig, readConfig } from '../config.ts';
import { type Environment, lazyTemporal } from '../temporal/connection.ts';
import { keepSetUp } from '../temporal/readiness.ts';
import { buildWebhook } from './server.ts';

export interface RunningWebhook {
  /** Where it listens: `http://127.0.0.1:3100`. */
  url: string;
  /** Answers what is in flight, then lets go. */
  close(): Promise<void>;
}

/**
 * Starts the webhook. It listens at once, whether Temporal answers or not: until it does, `/ready` and deliveries are answered 503.
 *
 * @throws Error that lists what is wrong with the environment, or that the port is taken
 */
export async function startWebhook(env: Environment, logger?: Logger): Promise<RunningWebhook> {
  const config = readConfig(env, 'webhook');
  const log = logger ?? pino({ name: 'webhook', level: config.logLevel });
  const temporal = lazyTemporal(env);
  const readiness = keepSetUp(temporal, log);
  const app = buildWebhook({ config, temporal, readiness, logger: log });
  const close = async () => {
    await app.close();
    readiness.close();
    await temporal.connection.close();
  };
  try {
    const url = await app.listen({ host: config.webhookHost, port: config.webhookPort });
    log.info({ url, config: printableConfig(config) }, 'the webhook listens');
    if (config.allowedRepos.length === 0) log.warn('ALLOWED_REPOS is empty: every pull request is ignored');
    return { url, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** `tekton webhook`: runs until SIGTERM or SIGINT, answers what is in flight, and returns. */
export async function runWebhook(env: Environment): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  const webhook = await startWebhook(env);
  await stopped;
  await webhook.close();
}
