import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseSubnet,
  pickSlot,
  placeOf,
  slotCapacity,
  slotNumberAt,
  slotOf,
  updateReserve,
} from '../../src/domain/slot.ts';

const subnets = fc
  .tuple(fc.nat(0xffffffff), fc.integer({ min: 8, max: 29 }))
  .map(([address, prefix]) =>
    parseSubnet(`${[24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')}/${prefix}`),
  );

const toNumber = (address: string) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

describe('slots', () => {
  it('are pairs of addresses, the first pair left to the network', () => {
    const subnet = parseSubnet('10.100.0.0/24');
    expect(slotOf(subnet, 1)).toEqual({ number: 1, hostAddress: '10.100.0.2', address: '10.100.0.3' });
    expect(slotOf(subnet, 126)).toEqual({ number: 126, hostAddress: '10.100.0.252', address: '10.100.0.253' });
    expect(slotCapacity(subnet)).toBe(126);
  });

  it.each([
    ['10.100.0.0/24', 126, 4],
    ['10.100.0.0/27', 14, 1],
    ['10.100.0.8/29', 2, 1],
    ['10.0.0.0/8', 8_388_606, 4],
    ['127.100.0.0/24', 126, 4],
  ])('%s has %i, %i of them kept for updates', (text, capacity, reserve) => {
    expect([slotCapacity(parseSubnet(text)), updateReserve(parseSubnet(text))]).toEqual([capacity, reserve]);
  });

  it('count from the start of the subnet, whichever of its addresses it is named by', () => {
    expect(parseSubnet('10.100.0.77/24')).toEqual(parseSubnet('10.100.0.0/24'));
    expect(slotOf(parseSubnet('192.168.5.168/29'), 1).hostAddress).toBe('192.168.5.170');
  });

  it.each(['', '10.0.0.0', '10.0.0.0/30', '10.0.0.0/7', '256.0.0.0/24', 'fd00::/64', '10.0.0/24', '10.0.0.0/24 '])(
    'not from %j',
    (text) => {
      expect(() => parseSubnet(text)).toThrow(RangeError);
    },
  );

  it('never hold the network or the broadcast address, stay in the subnet, and never overlap', () => {
    fc.assert(
      fc.property(subnets, fc.nat(), fc.nat(), (subnet, a, b) => {
        const capacity = slotCapacity(subnet);
        const numbers = [...new Set([1, capacity, (a % capacity) + 1, (b % capacity) + 1])];
        const addresses = numbers.flatMap((number) => {
          const slot = slotOf(subnet, number);
          expect(slotNumberAt(subnet, slot.hostAddress)).toBe(number);
          expect(slotNumberAt(subnet, slot.address)).toBe(number);
          return [toNumber(slot.hostAddress), toNumber(slot.address)];
        });
        expect(new Set(addresses).size).toBe(2 * numbers.length);
        expect(Math.min(...addresses)).toBe(subnet.base + 2);
        expect(Math.max(...addresses)).toBe(subnet.base + 2 ** (32 - subnet.prefix) - 3);
        expect(() => slotOf(subnet, 0)).toThrow(RangeError);
        expect(() => slotOf(subnet, capacity + 1)).toThrow(RangeError);
        for (const outside of [slotOf(subnet, 1).hostAddress.replace(/^\d+/, '250'), 'x']) {
          if (!outside.startsWith(slotOf(subnet, 1).hostAddress.split('.')[0] as string)) {
            expect(slotNumberAt(subnet, outside)).toBeUndefined();
          }
        }
      }),
    );
  });
});

describe('the ring', () => {
  const subnet = parseSubnet('10.100.0.0/28');

  it('hands out the ticket’s place, round and round', () => {
    expect([1, 2, 6, 7, 8, 1_000_000].map((ticket) => placeOf(subnet, ticket))).toEqual([1, 2, 6, 1, 2, 4]);
  });

  it('passes over what is leased', () => {
    const leased = new Set([3, 4]);
    expect(pickSlot({ subnet, ticket: 9, leased, purpose: 'new' })).toEqual({
      slot: slotOf(subnet, 5),
      nextTicket: 12,
    });
  });

  it('keeps the last for an update', () => {
    const leased = new Set([1, 2, 3, 5, 6]);
    expect(pickSlot({ subnet, ticket: 1, leased, purpose: 'new' })).toBe('full');
    expect(pickSlot({ subnet, ticket: 1, leased, purpose: 'update' })).toEqual({
      slot: slotOf(subnet, 4),
      nextTicket: 5,
    });
    expect(pickSlot({ subnet, ticket: 1, leased: new Set([...leased, 4]), purpose: 'update' })).toBe('full');
  });

  it('never gives a slot to two, and an address back as late as it can', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 26, max: 29 }),
        fc.integer({ min: 1, max: 10_000 }),
        fc.array(fc.oneof(fc.constant('new' as const), fc.constant('update' as const), fc.nat()), { maxLength: 300 }),
        (prefix, first, steps) => {
          const ring = parseSubnet(`10.100.0.0/${prefix}`);
          const capacity = slotCapacity(ring);
          const leased = new Set<number>();
          const since = new Map<number, { others: Set<number> }>();
          let ticket = first;
          for (const step of steps) {
            if (typeof step === 'number') {
              const held = [...leased];
              if (held.length > 0) leased.delete(held[step % held.length] as number);
              continue;
            }
            const picked = pickSlot({ subnet: ring, ticket, leased, purpose: step });
            const keep = step === 'new' ? updateReserve(ring) : 0;
            expect(picked === 'full').toBe(capacity - leased.size <= keep);
            if (picked === 'full') continue;
            const { number } = picked.slot;
            expect(leased.has(number)).toBe(false);
            expect(picked.nextTicket).toBeGreaterThan(ticket);
            // Every other slot was in use when this one was last handed out, or has been handed out since.
            const before = since.get(number);
            if (before) expect(before.others.size).toBe(capacity - 1);
            for (const { others } of since.values()) others.add(number);
            since.set(number, { others: new Set([...leased]) });
            leased.add(number);
            ticket = picked.nextTicket;
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
