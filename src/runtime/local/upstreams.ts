/** Where a container's declared ports are reached: where its processes really listen. */
import type { Upstream } from '../../domain/preview.ts';
import { chooseListener, isV6Only, type Listener, readListeners, socketInodes, upstreamAddress } from './listeners.ts';
import type { Proc } from './proc.ts';
import type { ContainerFile } from './record.ts';

/**
 * An upstream for each of the ports that one of the processes listens at; the others are left out.
 *
 * @param processes asked only when somebody on this machine listens at one of the ports
 */
export async function findUpstreams(
  record: Pick<ContainerFile, 'ports' | 'slot'>,
  ports: number[],
  processes: () => Proc[],
): Promise<Upstream[]> {
  const wanted = new Map(ports.map((port) => [port, record.ports[port] ?? port]));
  const numbers = new Set([...wanted].flat());
  const all = readListeners();
  const candidates = all.filter((listener) => numbers.has(listener.port));
  // The usual answer while an app boots; it costs no look at any process.
  if (candidates.length === 0) return [];
  const inodes = new Set(processes().flatMap((proc) => [...socketInodes(proc.pid)]));
  const own = candidates.filter((listener) => inodes.has(listener.inode));
  const found: Upstream[] = [];
  for (const [declared, real] of wanted) {
    const listener = chooseListener(own, { declared, real, slotAddress: record.slot.address });
    if (listener) found.push({ port: declared, address: await addressOf(listener, all, record.slot.address) });
  }
  return found;
}

async function addressOf(listener: Listener, all: Listener[], slotAddress: string): Promise<string> {
  const v6only = listener.address === '::' && (await isV6Only(listener, all, slotAddress));
  return upstreamAddress(listener, slotAddress, v6only);
}
