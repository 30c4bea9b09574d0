import { msToNumber } from '@temporalio/common/lib/time.js';
import { describe, expect, it } from 'vitest';
import { policies } from '../../src/workflows/policies.ts';

/** Duration strings aren't type-checked: a wrong one compiles, and then fails every workflow task. */
describe('policies', () => {
  const durations = Object.entries(policies).flatMap(([policy, options]) =>
    Object.entries({ ...options, ...options.retry })
      .filter(([name]) => /Timeout|Interval/.test(name))
      .map(([name, value]) => [policy, name, value as string] as const),
  );

  it('name every duration', () => expect(durations.length).toBeGreaterThan(15));

  it.each(durations)('%s.%s parses', (_policy, _name, value) => {
    expect(msToNumber(value as '1 second')).toBeGreaterThan(0);
  });

  it.each(Object.entries(policies))('%s waits until a cancelled activity has ended', (_name, options) => {
    expect(options.cancellationType).toBe('WAIT_CANCELLATION_COMPLETED');
    expect(options.heartbeatTimeout).toBeDefined();
  });

  it('never give up an undo', () => expect(policies.undo.retry).not.toHaveProperty('maximumAttempts'));
});
