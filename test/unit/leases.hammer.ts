/** Leases and releases as fast as it can, and fails when a slot it holds is another's too. Run by leases.test.ts. */
import { hostLayout } from '../../src/host/layout.ts';
import { createLeases } from '../../src/host/leases.ts';

const [root, name] = process.argv.slice(2) as [string, string];
const leases = createLeases({ layout: hostLayout(root), subnet: '10.100.0.0/24' });

for (let round = 0; round < 25; round++) {
  const containers = [`${name}-${round}-x`, `${name}-${round}-y`];
  const slots = await Promise.all(
    containers.map((container) => leases.lease({ container, owner: name, purpose: 'new' })),
  );
  const all = await leases.list();
  for (const slot of slots) {
    if (slot === 'full') throw new Error('full');
    const holders = all.filter((lease) => lease.slot.number === slot.number);
    if (holders.length !== 1)
      throw new Error(`slot ${slot.number} is held by ${holders.map((one) => one.container).join(', ')}`);
  }
  for (const container of containers) await leases.release(container);
  process.stdout.write(`${round}\n`);
}
process.stdout.write('done\n');
