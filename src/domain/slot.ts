/**
 * Slots: pairs of addresses of one IPv4 subnet. Slot N is host `base + 2N` and container `base + 2N + 1`; slot 0 and the last one
 * hold the network's and the broadcast address and are never used.
 */
import { Address4 } from 'ip-address';
import type { Slot } from './preview.ts';

/** An IPv4 subnet, `/8` to `/29`. */
export interface Subnet {
  /** Its network address as a number. */
  base: number;
  /** Length of its prefix. */
  prefix: number;
}

/**
 * Reads `10.100.0.0/24`. An address inside the subnet stands for the subnet.
 *
 * @throws RangeError when it is none, or too small or too large for slots
 */
export function parseSubnet(text: string): Subnet {
  const parts = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(text);
  const prefix = Number(parts?.[2]);
  if (!parts || !Address4.isValid(text) || prefix < 8 || prefix > 29) {
    throw new RangeError(`${JSON.stringify(text)} is not an IPv4 subnet of /8 to /29, such as 10.100.0.0/24`);
  }
  return { base: Number(new Address4(text).startAddress().bigInt()), prefix };
}

/** How many slots the subnet has. */
export function slotCapacity(subnet: Subnet): number {
  return 2 ** (31 - subnet.prefix) - 2;
}

/** How many slots new previews leave free, so that a full ring can't block a push. */
export function updateReserve(subnet: Subnet): number {
  return Math.max(1, Math.min(4, Math.floor(slotCapacity(subnet) / 10)));
}

/** Slot `number` of the subnet, from 1. Throws RangeError when the subnet has no such slot. */
export function slotOf(subnet: Subnet, number: number): Slot {
  if (!Number.isInteger(number) || number < 1 || number > slotCapacity(subnet)) {
    throw new RangeError(`slot ${number} is not one of 1–${slotCapacity(subnet)}`);
  }
  return { number, hostAddress: dotted(subnet.base + 2 * number), address: dotted(subnet.base + 2 * number + 1) };
}

/** The number of the slot that holds this address, or undefined when none of the subnet's does. */
export function slotNumberAt(subnet: Subnet, address: string): number | undefined {
  if (!Address4.isValid(address)) return undefined;
  const number = Math.floor((Number(new Address4(address).bigInt()) - subnet.base) / 2);
  return number >= 1 && number <= slotCapacity(subnet) ? number : undefined;
}

/** The place on the ring that a ticket (from 1, ever growing) stands for. */
export function placeOf(subnet: Subnet, ticket: number): number {
  return ((ticket - 1) % slotCapacity(subnet)) + 1;
}

/**
 * The slot for the next ticket. Tickets whose place is still leased are passed over, so an address is never used by two and comes back
 * as late as possible.
 *
 * @param ticket the next one to hand out
 * @param leased numbers of the slots in use
 * @param purpose only updates may use the last few slots
 * @returns the slot and the ticket to go on with; `full` when there is none for this purpose
 */
export function pickSlot(input: {
  subnet: Subnet;
  ticket: number;
  leased: ReadonlySet<number>;
  purpose: 'new' | 'update';
}): { slot: Slot; nextTicket: number } | 'full' {
  const { subnet, leased, purpose } = input;
  const free = slotCapacity(subnet) - leased.size;
  if (free <= (purpose === 'update' ? 0 : updateReserve(subnet))) return 'full';
  let ticket = input.ticket;
  while (leased.has(placeOf(subnet, ticket))) ticket += 1;
  return { slot: slotOf(subnet, placeOf(subnet, ticket)), nextTicket: ticket + 1 };
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}
