import type { Temporal } from './connection.ts';

/**
 * A call to Temporal that ends in time. The connection's own deadline ends the request; the timer is for the pauses between the
 * client's retries, which that deadline does not see.
 *
 * @throws Error when there was no answer within `ms`
 */
export async function within<T>(ms: number, temporal: Temporal, call: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  const answer = temporal.connection.withDeadline(Date.now() + ms, call);
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
