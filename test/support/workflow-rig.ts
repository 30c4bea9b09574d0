/**
 * Workflow tests' rig: one time-skipping Temporal server, one bundle, a model host a test. Every execution that a test starts is
 * replayed at its end, so that determinism is never a separate chore.
 */
import proto from '@temporalio/proto';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import {
  bundleWorkflowCode,
  type NativeConnection,
  Runtime,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { expect } from 'vitest';
import { resolveComponent } from '../../src/components/resolve.ts';
import { previewWorkflowId } from '../../src/domain/preview.ts';
import type { PullRequestEvent } from '../../src/domain/pull-request.ts';
import { searchAttributes } from '../../src/domain/search-attributes.ts';
import { workflowInterceptorModules, workflowsPath } from '../../src/worker/bundle.ts';
import type { previewWorkflow } from '../../src/workflows/index.ts';
import {
  buildTaskQueue,
  hostTaskQueue,
  pullRequestSignal,
  statusQuery,
  taskQueue,
} from '../../src/workflows/messages.ts';
import { createModelHost, type ModelHost } from './model-host.ts';

const hostName = 'test';

export interface WorkflowRig {
  withHost<T>(
    test: (host: ModelHost, preview: PreviewDriver, env: TestWorkflowEnvironment) => Promise<T>,
    options?: { server?: keyof typeof startServer },
  ): Promise<T>;
  close(): Promise<void>;
}

let installed = false;

export async function startWorkflowRig(): Promise<WorkflowRig> {
  if (!installed) {
    installed = true;
    Runtime.install({
      telemetryOptions: { logging: { filter: 'ERROR', forward: {} } },
      logger: { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error: console.error },
    });
  }
  const bundle = await bundleWorkflowCode({
    workflowsPath,
    workflowInterceptorModules,
    logger: { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error: console.error },
  });
  return {
    withHost: async (test, { server = 'local' } = {}) => {
      const env = await startServer[server]();
      const host = createModelHost();
      const workers = await startWorkers(env.nativeConnection, host, bundle);
      const preview = drivePreview(env);
      try {
        const result = await test(host, preview, env);
        expect(host.broken).toEqual([]);
        return result;
      } finally {
        await preview.end().finally(() => workers.stop());
        if (env !== (await shared)) await env.teardown();
        await replayAll(preview.histories, bundle);
      }
    },
    close: async () => {
      await (await shared)?.teardown();
      shared = undefined;
    },
  };
}

let shared: Promise<TestWorkflowEnvironment> | undefined;

/**
 * One real server serves a file's tests. The time-skipping one is each test's own: a workflow ended in the middle of an activity
 * keeps it from skipping; and it refuses to cancel an activity that has just ended, which a real server takes.
 */
const startServer = {
  local: () => {
    shared ??= startLocal(4096);
    return shared;
  },
  'time-skipping': () => startTimeSkipping(),
  'suggests continue-as-new': () => startLocal(60),
};

/** A development server, which keeps real time; it suggests continue-as-new after so many events. */
async function startLocal(suggestAfter: number): Promise<TestWorkflowEnvironment> {
  const { path } = await resolveComponent('temporal');
  const extraArgs = ['--dynamic-config-value', `limit.historyCount.suggestContinueAsNew=${suggestAfter}`];
  return TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'existing-path', path },
      extraArgs,
      searchAttributes: Object.values(searchAttributes),
      log: { format: 'json', level: 'error' },
    },
  });
}

async function startTimeSkipping(): Promise<TestWorkflowEnvironment> {
  const { path } = await resolveComponent('temporal-test-server');
  const env = await TestWorkflowEnvironment.createTimeSkipping({
    server: { executable: { type: 'existing-path', path } },
  });
  // The time-skipping server can add search attributes but not list them, so `ensureSearchAttributes` does not fit here.
  const { INDEXED_VALUE_TYPE_KEYWORD, INDEXED_VALUE_TYPE_INT } = proto.temporal.api.enums.v1.IndexedValueType;
  await env.connection.operatorService.addSearchAttributes({
    namespace: 'default',
    searchAttributes: Object.fromEntries(
      Object.values(searchAttributes).map(({ name, type }) => [
        name,
        type === 'INT' ? INDEXED_VALUE_TYPE_INT : INDEXED_VALUE_TYPE_KEYWORD,
      ]),
    ),
  });
  return env;
}

async function startWorkers(
  connection: NativeConnection,
  host: ModelHost,
  workflowBundle: WorkflowBundleWithSourceMap,
) {
  const common = {
    connection,
    namespace: 'default',
    maxHeartbeatThrottleInterval: 100,
    defaultHeartbeatThrottleInterval: 100,
  };
  const workers = await Promise.all([
    Worker.create({ ...common, taskQueue, workflowBundle, activities: host.activities }),
    Worker.create({ ...common, taskQueue: hostTaskQueue(hostName), activities: host.activities }),
    Worker.create({ ...common, taskQueue: buildTaskQueue(hostName), activities: host.activities }),
  ]);
  const running = Promise.all(workers.map((worker) => worker.run()));
  return {
    stop: async () => {
      for (const worker of workers) worker.shutdown();
      await running;
    },
  };
}

async function replayAll(histories: unknown[], workflowBundle: WorkflowBundleWithSourceMap): Promise<void> {
  const results = Worker.runReplayHistories(
    { workflowBundle },
    histories.map((history, i) => ({ workflowId: `replay-${i}`, history: history as never })),
  );
  for await (const { error } of results) if (error) throw error;
}

export type PreviewDriver = ReturnType<typeof drivePreview>;

let previews = 0;

/** Speaks to one pull request's workflow as the webhook and the command line do. */
export function drivePreview(env: TestWorkflowEnvironment) {
  const number = ++previews;
  const source = { owner: 'Acme', repo: 'app', number };
  const workflowId = previewWorkflowId(source);
  const handle = env.client.workflow.getHandle<typeof previewWorkflow>(workflowId);
  const histories: unknown[] = [];
  let firstRunId: string | undefined;
  let time = Date.UTC(2026, 0, 1);

  const event = (action: string, sha: string, more: Partial<PullRequestEvent> = {}): PullRequestEvent => {
    time += 1000;
    return {
      ...source,
      action,
      sha,
      open: action !== 'closed',
      fork: false,
      updatedAt: new Date(time).toISOString(),
      delivery: `d-${time}`,
      ...more,
    };
  };
  const deliver = async (told: PullRequestEvent) => {
    const { signaledRunId } = await env.client.workflow.signalWithStart<typeof previewWorkflow, [PullRequestEvent]>(
      'previewWorkflow',
      {
        workflowId,
        taskQueue,
        args: [{ source, host: hostName }],
        signal: pullRequestSignal,
        signalArgs: [told],
        workflowIdConflictPolicy: 'USE_EXISTING',
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      },
    );
    firstRunId ??= signaledRunId;
    return told;
  };

  return {
    source,
    workflowId,
    handle,
    histories,
    firstRunId: () => firstRunId,
    event,
    deliver,
    send: (action: string, sha: string, more: Partial<PullRequestEvent> = {}) => deliver(event(action, sha, more)),
    status: () => handle.query(statusQuery),
    /** Waits, in real time, until the status is as wished. */
    async until(
      what: string,
      wish: (
        status: Awaited<ReturnType<typeof handle.query<import('../../src/workflows/messages.ts').PreviewStatus>>>,
      ) => boolean,
    ) {
      const deadline = Date.now() + 20_000;
      for (;;) {
        const status = await handle.query(statusQuery);
        if (wish(status)) return status;
        if (Date.now() > deadline) throw new Error(`never ${what}: ${JSON.stringify(status, null, 1)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    /** Ends the workflow and keeps the histories of all its runs, for the replay. */
    async end() {
      const description = await handle.describe().catch(() => undefined);
      if (!description) return;
      let runId: string | undefined = description.runId;
      while (runId) {
        const history = await env.client.workflow.getHandle(workflowId, runId).fetchHistory();
        // A run that has not had its first task yet can't be replayed: there is nothing to compare with.
        if (history.events?.some((event) => event.workflowTaskCompletedEventAttributes)) histories.push(history);
        runId = history.events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId || undefined;
      }
      if (description.status.name === 'RUNNING') await handle.terminate('the test is over').catch(() => undefined);
    },
  };
}
