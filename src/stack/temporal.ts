import type { Connection } from '@temporalio/client';

export interface TemporalSettings {
  program: string;
  /** SQLite file that keeps every workflow. */
  database: string;
  port: number;
  uiPort: number;
}

/** How long a closed workflow can be looked at. The dev server's own is a day. */
const retentionSeconds = 30 * 24 * 3600;

const searchAttributes = {
  TektonRepo: 'Keyword',
  TektonPr: 'Int',
  TektonSlug: 'Keyword',
  TektonPhase: 'Keyword',
  TektonHost: 'Keyword',
  TektonSha: 'Keyword',
};

const dynamicConfig = {
  // One partition: a task never waits for a forward between partitions, of which one machine has no use.
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
};

export function temporalArgv({ program, database, port, uiPort }: TemporalSettings): [string, ...string[]] {
  return [
    program,
    'server',
    'start-dev',
    '--db-filename',
    database,
    '--ip',
    '127.0.0.1',
    '--port',
    String(port),
    '--ui-port',
    String(uiPort),
    '--ui-disable-news-fetch',
    '--log-level',
    'warn',
    ...Object.entries(searchAttributes).flatMap(([name, type]) => ['--search-attribute', `${name}=${type}`]),
    ...Object.entries(dynamicConfig).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]),
  ];
}

/** Whether Temporal answers and has its namespace. */
export async function temporalReady(address: string, namespace: string): Promise<boolean> {
  return withConnection(address, async (connection) => {
    await connection.workflowService.describeNamespace({ namespace });
    return true;
  });
}

/** Keeps closed workflows long enough to be explained. */
export async function setRetention(address: string, namespace: string): Promise<void> {
  await withConnection(address, (connection) =>
    connection.workflowService.updateNamespace({
      namespace,
      config: { workflowExecutionRetentionTtl: { seconds: retentionSeconds as never } },
    }),
  );
}

/** Whether a worker that was started after `since` (ms) polls the task queue. */
export async function isPolled(address: string, namespace: string, taskQueue: string, since: number): Promise<boolean> {
  return withConnection(address, async (connection) => {
    // 1: workflow tasks.
    const { pollers } = await connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name: taskQueue },
      taskQueueType: 1,
    });
    return (pollers ?? []).some(({ lastAccessTime }) => Number(lastAccessTime?.seconds ?? 0) * 1000 + 1000 > since);
  });
}

async function withConnection<T>(address: string, work: (connection: Connection) => Promise<T>): Promise<T> {
  // Loaded late: most of the stack's own start doesn't need it, and it takes a third of a second.
  const { Connection } = await import('@temporalio/client');
  const connection = await Connection.connect({ address, connectTimeout: 2_000 });
  try {
    return await connection.withDeadline(Date.now() + 5_000, () => work(connection));
  } finally {
    await connection.close();
  }
}
