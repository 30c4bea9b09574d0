import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CancelledFailure, defaultPayloadConverter } from '@temporalio/common';
import { MockActivityEnvironment, TestWorkflowEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { slotActivities } from '../../src/activities/slot.ts';
import { resolveComponent } from '../../src/components/resolve.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createLeases } from '../../src/host/leases.ts';
import type { PlaceNotice } from '../../src/workflows/messages.ts';

let temporal: TestWorkflowEnvironment;
let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'tekton-slots-'));
  const { path } = await resolveComponent('temporal');
  temporal = await TestWorkflowEnvironment.createLocal({ server: { executable: { type: 'existing-path', path } } });
});
afterAll(async () => {
  await temporal?.teardown();
  await rm(root, { recursive: true });
});

/** An activity's surroundings, with a real workflow execution that records its signals (no worker runs it). */
async function surroundings(workflowId: string, since: number) {
  const { client } = temporal;
  const handle = await client.workflow.start('nobodyRunsIt', { workflowId, taskQueue: `none-${randomUUID()}` });
  const environment = new MockActivityEnvironment(
    { scheduledTimestampMs: since, workflowExecution: { workflowId, runId: handle.firstExecutionRunId } },
    { client },
  );
  const places = async () => {
    const { events } = await handle.fetchHistory();
    return (events ?? [])
      .flatMap((event) => event.workflowExecutionSignaledEventAttributes?.input?.payloads ?? [])
      .map((payload) => defaultPayloadConverter.fromPayload<PlaceNotice>(payload).place);
  };
  return { environment, places };
}

describe('the slots of a full ring', () => {
  it('go to updates first, then by age; each workflow hears its place, and 0 before its slot', async () => {
    const leases = createLeases({ layout: hostLayout(join(root, 'a')), subnet: '10.100.0.0/28' });
    const { allocateSlot, releaseSlot } = slotActivities({ leases });
    const order: string[] = [];
    async function ask(name: string, since: number, purpose: 'new' | 'update') {
      const { environment, places } = await surroundings(`preview/a/${name}`, since);
      const input = { container: name, owner: `preview/a/${name}`, purpose };
      const slot = environment.run(allocateSlot, input).then((got) => {
        order.push(name);
        return got;
      });
      return { environment, places, slot, input };
    }
    // Six slots, one of them for updates only.
    for (const name of ['one', 'two', 'three', 'four', 'five']) {
      const { slot, places } = await ask(name, 0, 'new');
      await slot;
      expect(await places()).toEqual([]);
    }
    const late = await ask('late', 30, 'new');
    const early = await ask('early', 10, 'new');
    const update = await ask('update', 40, 'update');
    await expect(update.slot).resolves.toMatchObject({ number: 6 });
    const second = await ask('second', 50, 'update');
    await vi.waitFor(async () => expect((await late.places()).at(-1)).toBe(3), 5000);
    expect(order.slice(5)).toEqual(['update']);

    await releaseSlot({ container: 'two' });
    expect(await second.slot).toMatchObject({ number: 2 });
    await releaseSlot({ container: 'one' });
    await releaseSlot({ container: 'three' });
    // Not 1, which is free too: the ring goes on from where it was.
    expect(await early.slot).toMatchObject({ number: 3 });
    await releaseSlot({ container: 'four' });
    expect(await late.slot).toMatchObject({ number: 4 });
    expect(order.slice(5)).toEqual(['update', 'second', 'early', 'late']);
    for (const { places } of [early, late]) expect((await places()).at(-1)).toBe(0);
    // The next attempt of the same activity is given the same slot.
    expect(await late.environment.run(allocateSlot, late.input)).toEqual(await late.slot);
  });

  it('are noticed when another process gives them back; who is cancelled leaves the line', async () => {
    const layout = hostLayout(join(root, 'b'));
    const leases = createLeases({ layout, subnet: '10.100.0.0/29' });
    const { allocateSlot } = slotActivities({ leases });
    await leases.lease({ container: 'held', owner: 'x', purpose: 'new' });
    const [gone, next] = [await surroundings('preview/b/gone', 1), await surroundings('preview/b/next', 2)];
    const purpose = 'new' as const;
    const left = gone.environment.run(allocateSlot, { container: 'gone', owner: 'preview/b/gone', purpose });
    const waiting = next.environment.run(allocateSlot, { container: 'next', owner: 'preview/b/next', purpose });
    await vi.waitFor(async () => expect(await next.places()).toEqual([2]), 5000);
    gone.environment.cancel('CANCELLED');
    await expect(left).rejects.toThrow(CancelledFailure);
    await createLeases({ layout, subnet: '10.100.0.0/29' }).release('held');
    expect(await waiting).toMatchObject({ number: 2 });
    expect((await next.places()).at(-1)).toBe(0);
    expect(await leases.find('gone')).toBeUndefined();
  });
});
