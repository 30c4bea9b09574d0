/** Holds the logs of this host to their quotas while the worker runs. */
import type { Logger } from 'pino';
import type { HostLayout } from '../../host/layout.ts';
import { enforceQuota, enforceTotal } from './logs.ts';
import { logFolder } from './paths.ts';
import { listRecords } from './record.ts';

const everyMs = 5000;
const totalEveryMs = 3600_000;

export interface LogKeeper {
  /** Looks every few seconds at the logs in use, every hour at all of them. Again changes nothing. */
  start(): void;
  stop(): void;
}

export function createLogKeeper(layout: HostLayout, logger: Logger): LogKeeper {
  let timer: NodeJS.Timeout | undefined;
  let busy = false;
  let totalHeldAt = 0;

  async function hold(): Promise<void> {
    const records = await listRecords(layout);
    const names = records.map((record) => record.name);
    const inUse = (file: string) => names.some((name) => file.startsWith(`${name}-`) || file === `build-${name}.log`);
    for (const label of new Set(records.map((record) => record.label))) {
      await enforceQuota(logFolder(layout, label), inUse);
    }
    if (Date.now() - totalHeldAt < totalEveryMs) return;
    totalHeldAt = Date.now();
    await enforceTotal(layout.logs, inUse);
  }

  return {
    start() {
      timer ??= setInterval(() => {
        if (busy) return;
        busy = true;
        void hold()
          .catch((error) => logger.warn({ err: error }, 'logs could not be held to their quota'))
          .finally(() => {
            busy = false;
          });
      }, everyMs).unref();
    },
    stop() {
      clearInterval(timer);
      timer = undefined;
    },
  };
}
