/** Where a container's processes really listen, read from the kernel's tables. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';

/** A listening TCP socket. `address` is an IPv4 or IPv6 address as Node writes it (`0.0.0.0`, `::`, `::1`). */
export interface Listener {
  address: string;
  port: number;
  inode: number;
}

/** The LISTEN rows of `/proc/net/tcp` or `/proc/net/tcp6`. */
export function parseListeners(table: string): Listener[] {
  const listeners: Listener[] = [];
  for (const line of table.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    const [, local, , state] = fields;
    if (state !== '0A' || local === undefined) continue;
    const [hex = '', port = ''] = local.split(':');
    listeners.push({ address: parseAddress(hex), port: Number.parseInt(port, 16), inode: Number(fields[9]) });
  }
  return listeners;
}

/** The kernel writes addresses as native 32-bit words; every machine this runs on is little-endian. */
function parseAddress(hex: string): string {
  const bytes: number[] = [];
  for (let word = 0; word < hex.length; word += 8) {
    for (let i = 6; i >= 0; i -= 2) bytes.push(Number.parseInt(hex.slice(word + i, word + i + 2), 16));
  }
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255)
    return bytes.slice(12).join('.');
  if (bytes.every((b) => b === 0)) return '::';
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  const longest = groups
    .join(':')
    .match(/(?:^|:)0(?::0)+(?=:|$)/g)
    ?.sort((a, b) => b.length - a.length)[0];
  if (longest === undefined) return groups.join(':');
  const text = groups.join(':').replace(longest, '::').replace(':::', '::');
  return text;
}

/** All listening TCP sockets of this network namespace. */
export function readListeners(): Listener[] {
  const read = (path: string) => {
    try {
      return parseListeners(readFileSync(path, 'utf8'));
    } catch {
      // A kernel without IPv6 has no tcp6.
      return [];
    }
  };
  return [...read('/proc/net/tcp'), ...read('/proc/net/tcp6')];
}

/** The inodes of the sockets that a process holds. */
export function socketInodes(pid: number): Set<number> {
  const inodes = new Set<number>();
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return inodes;
  }
  for (const name of names) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${name}`))?.[1];
      if (inode) inodes.add(Number(inode));
    } catch {
      // Closed in between.
    }
  }
  return inodes;
}

/**
 * Which of a container's own listeners to publish for a declared port: at its real port first, then, for an app that ignores `PORT`,
 * at the declared one; on the slot's address first, then on all addresses, then on whatever loopback it chose.
 */
export function chooseListener(
  own: Listener[],
  wanted: { declared: number; real: number; slotAddress: string },
): Listener | undefined {
  const preference = [wanted.slotAddress, '0.0.0.0', '::', '127.0.0.1', '::1'];
  const rank = (listener: Listener) => {
    const at = preference.indexOf(listener.address);
    return at < 0 ? preference.length : at;
  };
  for (const port of [wanted.real, wanted.declared]) {
    const there = own.filter((listener) => listener.port === port).sort((a, b) => rank(a) - rank(b));
    if (there[0]) return there[0];
  }
  return undefined;
}

/**
 * `IP:port` at which a listener is reached from this host; IPv6 in brackets.
 *
 * @param v6only true when a listener on `::` takes no IPv4
 */
export function upstreamAddress(listener: Listener, slotAddress: string, v6only: boolean): string {
  const { address, port } = listener;
  if (address === '0.0.0.0' || (address === '::' && !v6only)) return `${slotAddress}:${port}`;
  if (address === '::') return `[::1]:${port}`;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Whether a listener on `::` takes no IPv4. The kernel's table doesn't tell: somebody else's listener on all IPv4 addresses proves
 * it, otherwise a connection that is closed at once does.
 */
export async function isV6Only(listener: Listener, all: Listener[], slotAddress: string): Promise<boolean> {
  const rival = all.some((other) => other.address === '0.0.0.0' && other.port === listener.port);
  return rival || !(await accepts(slotAddress, listener.port));
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 500 });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    // A full backlog is still a listener.
    socket.once('timeout', () => end(true));
  });
}
