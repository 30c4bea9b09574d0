import type { Logger } from 'pino';
import type { Temporal } from './connection.ts';
import { within } from './deadline.ts';
import { ensureSearchAttributes, missingSearchAttributes } from './search-attributes.ts';

export interface Readiness {
  /** Undefined when Temporal answers and is set up, else the reason why not. Asks Temporal, within 2 seconds. */
  problem(): Promise<string | undefined>;
  /** Temporal was set up once; resolves when it is (again). */
  whenSetUp(): Promise<void>;
  close(): void;
}

const askMs = 2_000;
const againMs = 1_000;

/**
 * Sets Temporal up (search attributes) as soon as it answers, and keeps trying while it does not: the service starts before or
 * after Temporal, and outlives its absence.
 */
export function keepSetUp(temporal: Temporal, logger: Logger): Readiness {
  const stop = new AbortController();
  let working: Promise<void> | undefined;
  let lastProblem: string | undefined = 'Temporal has not been asked yet';
  let asking: Promise<string | undefined> | undefined;

  const setUp = () => {
    working ??= tryUntilSetUp().finally(() => {
      working = undefined;
    });
    return working;
  };

  async function tryUntilSetUp(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        await within(askMs, temporal, () => ensureSearchAttributes(temporal.connection, temporal.namespace));
        logger.info({ address: temporal.address, namespace: temporal.namespace }, 'Temporal is set up');
        lastProblem = undefined;
        return;
      } catch (error) {
        const problem = describe(temporal, error);
        // Once for each reason, not once a second.
        if (problem !== lastProblem) logger.warn(problem);
        lastProblem = problem;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, againMs);
        stop.signal.addEventListener('abort', () => resolve(clearTimeout(timer)), { once: true });
      });
    }
  }

  async function ask(): Promise<string | undefined> {
    try {
      const missing = await within(askMs, temporal, () =>
        missingSearchAttributes(temporal.connection, temporal.namespace),
      );
      if (missing.length === 0) return undefined;
      // A dev server without a database file forgets them when it restarts.
      void setUp();
      return `Temporal lacks the search attributes ${missing.map((key) => key.name).join(', ')}; they are being created`;
    } catch (error) {
      return describe(temporal, error);
    }
  }

  void setUp();
  return {
    problem: () => {
      asking ??= ask().finally(() => {
        asking = undefined;
      });
      return asking;
    },
    whenSetUp: setUp,
    close: () => stop.abort(),
  };
}

function describe(temporal: Temporal, error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.startsWith('Temporal') ? message : `Temporal at ${temporal.address}: ${message}`;
}
