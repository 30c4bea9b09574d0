/** What still stands of an owner's containers, read back from the host itself. */
import type { InventoryItem } from '../../domain/preview.ts';
import type { HostLayout } from '../../host/layout.ts';
import { type Machine, marker } from './environment.ts';
import { findProcs, type Proc, type Snapshot, takeSnapshot } from './proc.ts';
import { type ContainerFile, listRecords } from './record.ts';

/**
 * Containers, their ports and processes, and builds.
 *
 * @param processesOf the processes of a container, found in a snapshot
 */
export async function inventoryOf(
  layout: HostLayout,
  machine: Machine,
  owner: string,
  processesOf: (name: string, record: ContainerFile, snapshot: Snapshot) => Proc[],
): Promise<InventoryItem[]> {
  const now = takeSnapshot();
  const items: InventoryItem[] = [];
  const processes = new Map<number, InventoryItem>();
  const addProcess = (pid: number, container: string, kind: 'process' | 'build') =>
    processes.set(pid, { kind, name: `${container} (pid ${pid})` });
  for (const record of (await listRecords(layout)).filter((one) => one.owner === owner)) {
    items.push({ kind: 'container', name: record.name });
    for (const port of Object.values(record.ports)) items.push({ kind: 'port', name: String(port) });
    for (const proc of processesOf(record.name, record, now)) addProcess(proc.pid, record.name, 'process');
  }
  // And those whose container has no record (any more).
  for (const { pid } of findProcs({ environ: { [marker.owner]: owner } }, now)) {
    const of = now.environ(pid).get(marker.container);
    if (!of?.startsWith(`${machine.stateId}/`)) continue;
    const kind = of.endsWith(':build') ? 'build' : 'process';
    addProcess(pid, of.slice(machine.stateId.length + 1).replace(/:build$/, ''), kind);
  }
  return [...items, ...processes.values()];
}
