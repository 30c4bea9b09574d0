/** Who holds which slot: one record a container, written under a lock that dies with its holder. Shared by agents and previews. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Slot } from '../domain/preview.ts';
import { parseSubnet, pickSlot, slotNumberAt } from '../domain/slot.ts';
import { isMissing, readOrUndefined, withLock, writeAtomic } from './files.ts';
import type { HostLayout } from './layout.ts';

/** One slot in use. */
export interface Lease {
  container: string;
  /** The workflow id of the preview or agent. */
  owner: string;
  slot: Slot;
  /** ISO 8601 UTC. */
  leasedAt: string;
}

export interface Leases {
  /**
   * A slot for this container; the same one when it has one already.
   *
   * @returns `full` when there is none for this purpose: new containers leave a few to updates
   * @throws LeaseRecordError when a record can't be read: nobody knows which slot is in use then
   */
  lease(input: { container: string; owner: string; purpose: 'new' | 'update' }): Promise<Slot | 'full'>;
  /** Ensure absent; a record that can't be read goes too. */
  release(container: string): Promise<void>;
  /** This container's lease. Throws LeaseRecordError when its record can't be read. */
  find(container: string): Promise<Lease | undefined>;
  /** All leases that can be read, by container name. */
  list(): Promise<Lease[]>;
  /** The leases of one workflow. */
  ofOwner(owner: string): Promise<Lease[]>;
  /** The files of records that can't be read, for `tekton doctor`. */
  invalid(): Promise<string[]>;
}

/** A lease record that can't be read. Names the file; until it is mended or its container destroyed, no slot is handed out. */
export class LeaseRecordError extends Error {
  override readonly name = 'LeaseRecordError';
  constructor(files: string[]) {
    super(
      `${files.join(', ')}: not a valid slot lease, so nobody knows which slot is in use. ` +
        'Destroy the preview or agent of that container, or remove the file once the container is gone.',
    );
  }
}

const containerPattern = /^[a-z0-9](?:[a-z0-9-]{0,9}[a-z0-9])?$/;

const recordSchema = z.strictObject({
  container: z.string(),
  owner: z.string().min(1),
  slot: z.strictObject({ number: z.int().positive(), hostAddress: z.ipv4(), address: z.ipv4() }),
  leasedAt: z.iso.datetime(),
});

/**
 * The leases kept in `layout.leases`, with the ticket counter at `layout.nextSlot`.
 *
 * @param subnet such as `10.100.0.0/24`; throws RangeError when it is none
 */
export function createLeases(options: { layout: HostLayout; subnet: string }): Leases {
  const { layout } = options;
  const subnet = parseSubnet(options.subnet);
  const locked = <T>(work: () => Promise<T>) => withLock(layout.leases, work);

  function fileOf(container: string): string {
    if (!containerPattern.test(container)) {
      throw new RangeError(`${JSON.stringify(container)} is not a container name: at most 11 of a-z, 0-9 and -`);
    }
    return join(layout.leases, `${container}.json`);
  }

  async function read(container: string): Promise<Lease | 'invalid' | undefined> {
    const text = await readOrUndefined(fileOf(container));
    if (text === undefined) return undefined;
    try {
      const record = recordSchema.parse(JSON.parse(text));
      return record.container === container ? record : 'invalid';
    } catch {
      return 'invalid';
    }
  }

  async function find(container: string): Promise<Lease | undefined> {
    const record = await read(container);
    if (record === 'invalid') throw new LeaseRecordError([fileOf(container)]);
    return record;
  }

  async function readAll(): Promise<{ leases: Lease[]; invalid: string[] }> {
    const names = await readdir(layout.leases).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const leases: Lease[] = [];
    const invalid: string[] = [];
    for (const name of names.filter((one) => one.endsWith('.json') && !one.startsWith('.')).sort()) {
      const container = name.slice(0, -'.json'.length);
      const record = containerPattern.test(container) ? await read(container) : 'invalid';
      if (record === 'invalid') invalid.push(join(layout.leases, name));
      else if (record) leases.push(record);
    }
    return { leases, invalid };
  }

  /** The next ticket. Losing it costs only that addresses come back sooner, so an unreadable counter starts after the leases. */
  async function readTicket(leases: Lease[]): Promise<number> {
    const text = (await readOrUndefined(layout.nextSlot))?.trim() ?? '';
    if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
    return Math.max(0, ...leases.map((lease) => lease.slot.number)) + 1;
  }

  return {
    find,
    lease({ container, owner, purpose }) {
      return locked(async () => {
        const held = await find(container);
        if (held) {
          if (held.owner !== owner) throw new Error(`Slot of ${container} belongs to ${held.owner}, not to ${owner}`);
          return held.slot;
        }
        const { leases, invalid } = await readAll();
        if (invalid.length > 0) throw new LeaseRecordError(invalid);
        // By address, not by number: a lease may date from when another subnet was configured.
        const leased = new Set(
          leases
            .flatMap(({ slot }) => [slotNumberAt(subnet, slot.hostAddress), slotNumberAt(subnet, slot.address)])
            .filter((number) => number !== undefined),
        );
        const picked = pickSlot({ subnet, ticket: await readTicket(leases), leased, purpose });
        if (picked === 'full') return picked;
        // The counter first: a crash in between loses a ticket, which nobody misses.
        await writeAtomic(layout.nextSlot, `${picked.nextTicket}\n`);
        const record: Lease = { container, owner, slot: picked.slot, leasedAt: new Date().toISOString() };
        await mkdir(layout.leases, { recursive: true });
        await writeAtomic(fileOf(container), `${JSON.stringify(record)}\n`, { sync: true });
        return picked.slot;
      });
    },
    async release(container) {
      const file = fileOf(container);
      await locked(() => rm(file, { force: true }));
    },
    async list() {
      return (await readAll()).leases;
    },
    async ofOwner(owner) {
      return (await readAll()).leases.filter((lease) => lease.owner === owner);
    },
    async invalid() {
      return (await readAll()).invalid;
    },
  };
}
