import { ApplicationFailure } from '@temporalio/common';
import { type FailureType, failures } from '../domain/failures.ts';

/**
 * A failure of the table in `domain/failures.ts`: typed, and non-retryable where a retry can't mend it.
 *
 * @param message names the thing and says what is wrong; never holds a secret
 * @param details what a person needs to see besides, such as an app's last lines
 */
export function failure(
  type: FailureType,
  message: string,
  options: { cause?: unknown; details?: unknown[] } = {},
): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    message,
    nonRetryable: !failures[type].retry,
    details: options.details,
    cause: options.cause instanceof Error ? options.cause : undefined,
  });
}
