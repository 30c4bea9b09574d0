import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createQueue, createWaitingRoom, ReplacedError } from '../../src/host/waiting-room.ts';

/** Lets everything that is ready happen. */
const settle = () => sleep(1);

describe('a waiting room', () => {
  it('lets in as many as it holds, without a word', async () => {
    const room = createWaitingRoom(2);
    const places: number[] = [];
    await room.enter({ key: 'a', since: 1, onPlace: (n) => places.push(n) });
    await room.enter({ key: 'b', since: 2, onPlace: (n) => places.push(n) });
    expect(places).toEqual([]);
  });

  it('lets the others in by the time they began to wait, and tells each its place', async () => {
    const room = createWaitingRoom(1);
    const release = await room.enter({ key: 'first', since: 0 });
    const told: string[] = [];
    const entered: string[] = [];
    const wait = (key: string, since: number) =>
      room.enter({ key, since, onPlace: (n) => told.push(`${key}:${n}`) }).then((leave) => {
        entered.push(key);
        return leave;
      });
    const late = wait('late', 30);
    await settle();
    // After a worker restart the one who has waited longest may come back last.
    const early = wait('early', 10);
    const middle = wait('middle', 20);
    await settle();
    expect(told).toEqual(['late:1', 'early:1', 'middle:2', 'late:3']);
    told.length = 0;

    release();
    (await early)();
    (await middle)();
    (await late)();
    expect(entered).toEqual(['early', 'middle', 'late']);
    expect(told.filter((one) => one.endsWith(':0'))).toEqual(['early:0', 'middle:0', 'late:0']);
    expect(told.at(-1)).toBe('late:0');
  });

  it('forgets who is aborted, before and while waiting', async () => {
    const room = createWaitingRoom(1);
    const release = await room.enter({ key: 'a', since: 0 });
    await expect(room.enter({ key: 'b', since: 1, signal: AbortSignal.abort('gone') })).rejects.toBe('gone');
    const controller = new AbortController();
    const places: number[] = [];
    const left = room.enter({ key: 'c', since: 2, signal: controller.signal });
    const stays = room.enter({ key: 'd', since: 3, onPlace: (n) => places.push(n) });
    await settle();
    controller.abort(new Error('superseded'));
    await expect(left).rejects.toThrow('superseded');
    await settle();
    expect(places).toEqual([2, 1]);
    release();
    await stays;
    expect(places).toEqual([2, 1, 0]);
  });

  it('gives a place back once, however often it is released', async () => {
    const room = createWaitingRoom(1);
    const release = await room.enter({ key: 'a', since: 0 });
    release();
    const second = await room.enter({ key: 'b', since: 1 });
    release();
    let third = false;
    const waiting = room.enter({ key: 'c', since: 2 }).then((leave) => {
      third = true;
      return leave;
    });
    await settle();
    expect(third).toBe(false);
    second();
    (await waiting)();
  });

  it('takes the same key for the same work begun again', async () => {
    const room = createWaitingRoom(1);
    const stale = await room.enter({ key: 'a', since: 0 });
    const again = await room.enter({ key: 'a', since: 0 });
    stale();
    const earlier = room.enter({ key: 'b', since: 1 });
    const refused = expect(earlier).rejects.toThrow(ReplacedError);
    await settle();
    const places: number[] = [];
    const later = room.enter({ key: 'b', since: 1, onPlace: (n) => places.push(n) });
    await refused;
    await settle();
    expect(places).toEqual([]);
    again();
    await later;
    expect(places).toEqual([0]);
  });

  it('never holds more than it may, and serves everyone, in whatever order things happen', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.record({ key: fc.integer({ min: 0, max: 12 }), since: fc.nat(20), abort: fc.boolean() }), {
          maxLength: 30,
        }),
        fc.scheduler(),
        async (capacity, waits, scheduler) => {
          const room = createWaitingRoom(capacity);
          const inside = new Set<string>();
          const done = waits.map(async ({ key, since, abort }, index) => {
            await scheduler.schedule(Promise.resolve());
            const controller = new AbortController();
            if (abort) void scheduler.schedule(Promise.resolve()).then(() => controller.abort('aborted'));
            // Keys are unique here: taking a place over lets two of the same work be inside for a moment.
            const name = `${key}/${index}`;
            try {
              const leave = await room.enter({ key: name, since, signal: controller.signal });
              inside.add(name);
              expect(inside.size).toBeLessThanOrEqual(capacity);
              await scheduler.schedule(Promise.resolve());
              inside.delete(name);
              leave();
            } catch (error) {
              if (error !== 'aborted') throw error;
            }
          });
          await scheduler.waitFor(Promise.all(done));
          // Nothing leaked: the room is as good as new.
          await Promise.all(Array.from({ length: capacity }, (_, n) => room.enter({ key: `new${n}`, since: 0 })));
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('a queue', () => {
  it('offers what there is to the first in line alone, in the order told', async () => {
    let free = 0;
    const offered: string[] = [];
    const queue = createQueue<string, { key: string; since: number; urgent: boolean }>({
      take: async ({ key }) => {
        offered.push(key);
        await settle();
        return free-- > 0 ? `for ${key}` : undefined;
      },
      before: (a, b) => (a.urgent === b.urgent ? a.since < b.since : a.urgent),
    });
    const calm = queue.enter({ key: 'calm', since: 1, urgent: false });
    const urgent = queue.enter({ key: 'urgent', since: 2, urgent: true });
    await sleep(20);
    expect(new Set(offered.slice(1))).toEqual(new Set(['urgent']));
    free = 1;
    queue.wake();
    expect(await urgent).toBe('for urgent');
    free = 1;
    queue.wake();
    expect(await calm).toBe('for calm');
  });

  it('notices by itself what others gave back', async () => {
    let free = false;
    const queue = createQueue({ take: () => (free ? 'it' : undefined), pollMs: 10 });
    const waiting = queue.enter({ key: 'a', since: 0 });
    await sleep(30);
    free = true;
    expect(await waiting).toBe('it');
  });

  it('tells the first in line why nothing can be taken, and goes on', async () => {
    const queue = createQueue({
      take: ({ key }) => {
        if (key === 'a') throw new Error('torn record');
        return key;
      },
    });
    const first = queue.enter({ key: 'a', since: 0 });
    const second = queue.enter({ key: 'b', since: 1 });
    await expect(first).rejects.toThrow('torn record');
    expect(await second).toBe('b');
  });

  it('gives back what was taken for one who has left meanwhile, and lets it go only then', async () => {
    const events: string[] = [];
    const queue = createQueue<string>({
      take: async ({ key }) => {
        await sleep(10);
        events.push('taken');
        return key;
      },
      giveBack: (taken) => events.push(`back: ${taken}`),
    });
    const controller = new AbortController();
    const left = queue.enter({ key: 'a', since: 0, signal: controller.signal });
    controller.abort('gone');
    await expect(left).rejects.toBe('gone');
    expect(events).toEqual(['taken', 'back: a']);
    expect(await queue.enter({ key: 'b', since: 0 })).toBe('b');
  });

  it('goes on when one who waits throws at hearing its place, and tells each in its own context', async () => {
    const context = new AsyncLocalStorage<string>();
    const heard: string[] = [];
    let free = 0;
    const queue = createQueue({ take: () => (free-- > 0 ? 'it' : undefined) });
    const wait = (name: string, since: number) =>
      context.run(name, () =>
        queue.enter({
          key: name,
          since,
          onPlace: (place) => {
            heard.push(`${context.getStore()}:${place}`);
            throw new Error('deaf');
          },
        }),
      );
    const all = Promise.all([wait('a', 1), wait('b', 2)]);
    await settle();
    free = 2;
    context.run('somebody else', () => queue.wake());
    await all;
    expect(heard).toEqual(['a:1', 'b:2', 'a:0', 'b:0']);
  });
});
