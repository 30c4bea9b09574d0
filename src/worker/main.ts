/** `tekton worker`: configuration → activities → Temporal workers, one a task queue. */
import { DefaultLogger, NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import { type Logger, pino } from 'pino';
import { backgroundActivities } from '../activities/background.ts';
import { githubActivities } from '../activities/github.ts';
import { type Config, printableConfig, readConfig } from '../config.ts';
import { createGitHub } from '../github/github.ts';
import { type Environment, lazyTemporal, type Temporal, temporalOptions } from '../temporal/connection.ts';
import { keepSetUp } from '../temporal/readiness.ts';
import { buildTaskQueue, hostTaskQueue, resyncSignal, taskQueue } from '../workflows/messages.ts';
import { workflowBundle } from './bundle.ts';
import { createHost, type Host } from './host.ts';
import { activityInterceptors } from './interceptors.ts';
import { progressObserver } from './progress-observer.ts';

/** Activities in flight are let finish this long; the default, none, would cancel every step of every preview at each restart. */
const shutdownGraceTime = '5 seconds';
const shutdownForceTime = '30 seconds';
/** An activity hears that it was cancelled with its next heartbeat; the default of a minute would be felt at every push. */
const heartbeatThrottle = '1 second';
/** Waiting for a slot or a build place costs no more than a promise; places themselves are counted by the host. */
const maxConcurrentActivityTaskExecutions = 1000;

/** `tekton worker`: runs until SIGTERM or SIGINT. With `TEKTON_STOP_APPS=1` (`tekton up`) the apps then stop too. */
export async function runWorker(env: Environment): Promise<void> {
  const config = readConfig(env, 'worker');
  const logger = pino({ name: 'worker', level: config.logLevel });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  logger.info({ config: printableConfig(config) }, 'the worker starts');

  installTemporalRuntime(config, logger);
  const github = createGitHub(config, logger);
  const host = await createHost(config, github, logger);
  const temporal = lazyTemporal(env);
  const readiness = keepSetUp(temporal, logger);
  try {
    await host.recover();
    void host.settle(stop.signal);
    await Promise.race([readiness.whenSetUp(), aborted(stop.signal)]);
    if (stop.signal.aborted) return;

    const connection = await connectNative(env, stop.signal, logger);
    if (!connection) return;
    const workers = await createWorkers({ config, connection, namespace: temporal.namespace, host, github });
    const running = Promise.all(workers.map((worker) => worker.run()));
    void resyncPreviews(temporal, config.host, logger);
    logger.info({ taskQueues: workers.map((worker) => worker.options.taskQueue) }, 'the worker polls');
    await Promise.race([aborted(stop.signal), running]);
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
    await running;
    await connection.close();
  } finally {
    readiness.close();
    await temporal.connection.close();
    if (env.TEKTON_STOP_APPS === '1') await host.stopApps();
    await host.close();
    logger.info('the worker has stopped');
  }
}

interface WorkerParts {
  config: Config;
  connection: NativeConnection;
  namespace: string;
  host: Host;
  github: ReturnType<typeof createGitHub>;
}

/** One Temporal worker a task queue: workflows and GitHub; what must run on this host; builds. */
export async function createWorkers({ config, connection, namespace, host, github }: WorkerParts): Promise<Worker[]> {
  const common = {
    connection,
    namespace,
    shutdownGraceTime,
    shutdownForceTime,
    maxHeartbeatThrottleInterval: heartbeatThrottle,
    defaultHeartbeatThrottleInterval: heartbeatThrottle,
    maxConcurrentActivityTaskExecutions,
    interceptors: { activity: [activityInterceptors(progressObserver(host.progress))] },
  } satisfies Partial<WorkerOptions>;
  return Promise.all([
    Worker.create({
      ...common,
      taskQueue,
      workflowBundle: await workflowBundle(),
      activities: { ...githubActivities({ github }), ...backgroundActivities({ github }) },
    }),
    Worker.create({ ...common, taskQueue: hostTaskQueue(config.host), activities: { ...host.activities } }),
    Worker.create({ ...common, taskQueue: buildTaskQueue(config.host), activities: { ...host.buildActivities } }),
  ]);
}

/** Temporal's own runtime: metrics for Prometheus, its log lines through ours. Once a process, before any connection. */
function installTemporalRuntime(config: Config, logger: Logger): void {
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: {
      metrics: { prometheus: { bindAddress: `127.0.0.1:${config.metricsPort}` } },
      logging: { filter: 'WARN', forward: {} },
    },
    logger: new DefaultLogger('INFO', ({ level, message, meta }) => {
      const write = { TRACE: 'trace', DEBUG: 'debug', INFO: 'debug', WARN: 'warn', ERROR: 'error' } as const;
      logger[write[level]](meta ?? {}, message);
    }),
  });
}

/** Connects, and keeps trying while Temporal does not answer. */
async function connectNative(
  env: Environment,
  signal: AbortSignal,
  logger: Logger,
): Promise<NativeConnection | undefined> {
  const { options } = temporalOptions(env);
  while (!signal.aborted) {
    try {
      const { address, tls, apiKey, metadata } = options;
      return await NativeConnection.connect({ address, tls, apiKey: apiKey as string | undefined, metadata });
    } catch (error) {
      logger.warn({ error }, 'Temporal does not answer; trying again');
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  return undefined;
}

/** A worker that was away may have missed webhooks: every open preview of this host asks for the truth. */
async function resyncPreviews({ client }: Temporal, host: string, logger: Logger): Promise<void> {
  const query = `TektonHost = "${host}" AND WorkflowType = "previewWorkflow" AND ExecutionStatus = "Running"`;
  let count = 0;
  try {
    for await (const { workflowId, runId } of client.workflow.list({ query })) {
      await client.workflow
        .getHandle(workflowId, runId)
        .signal(resyncSignal)
        .catch(() => undefined);
      count += 1;
    }
    logger.info({ previews: count }, 'open previews were asked to look again');
  } catch (error) {
    logger.warn({ error }, 'open previews could not be listed; their slow timers will look again');
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
