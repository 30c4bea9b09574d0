import { Context } from '@temporalio/activity';
import type { Slot } from '../domain/preview.ts';
import type { Leases } from '../host/leases.ts';
import { createQueue, type Wait } from '../host/waiting-room.ts';
import type { HostActivities } from './contract.ts';
import { notifyPlace, placeToldLast } from './place.ts';
import { currentStep } from './step.ts';

interface SlotWait extends Wait {
  owner: string;
  purpose: 'new' | 'update';
}

/**
 * `allocateSlot` and `releaseSlot`: waiting while the ring is full, updates before new containers, each in the order in which they
 * were first asked for.
 */
export function slotActivities({ leases }: { leases: Leases }): Pick<HostActivities, 'allocateSlot' | 'releaseSlot'> {
  const queue = createQueue<Slot, SlotWait>({
    async take({ key, owner, purpose }) {
      const slot = await leases.lease({ container: key, owner, purpose });
      return slot === 'full' ? undefined : slot;
    },
    // What is leased for one who has left stays leased: its own undo releases it, and a next attempt may hold it already.
    before: (a, b) => (a.purpose === b.purpose ? a.since < b.since : a.purpose === 'update'),
    pollMs: 2000,
  });

  return {
    async allocateSlot({ container, owner, purpose }) {
      // Its own slot costs no wait, however long the line.
      const held = await leases.find(container);
      if (held?.owner === owner) return held.slot;
      const step = currentStep();
      const slot = await queue.enter({
        key: container,
        owner,
        purpose,
        since: Context.current().info.scheduledTimestampMs,
        signal: step.signal,
        onPlace(place) {
          if (place > 0) step.progress(`waits for a slot, place ${place}`);
          notifyPlace({ container, queue: 'slot', place });
        },
      });
      await placeToldLast();
      return slot;
    },
    async releaseSlot({ container }) {
      await leases.release(container);
      queue.wake();
    },
  };
}
