import type { MachineClaims } from '../host/machine-claims.ts';

/** Subnets that a stack takes by itself: `127.100.0.0/24`, `127.101.0.0/24`, … */
const first = 100;
const last = 254;

/**
 * The loopback subnet of a stack's slots, claimed for its state folder: the one asked for, that of last time, or the first that no
 * other stack of this machine has. Throws when the one asked for belongs to another.
 */
export async function chooseSubnet(
  wanted: string | undefined,
  previous: string | undefined,
  claims: MachineClaims,
  owner: string,
): Promise<string> {
  const claim = (subnet: string) => claims.claim('subnet', subnet, owner);
  if (wanted) {
    if (await claim(wanted)) return wanted;
    throw new Error(
      `subnet ${wanted} belongs to another stack on this machine: choose another with --subnet (127.<n>.0.0/24), or none`,
    );
  }
  if (previous && (await claim(previous))) return previous;
  for (let n = first; n <= last; n++) {
    const subnet = `127.${n}.0.0/24`;
    if (await claim(subnet)) return subnet;
  }
  throw new Error(`every subnet from 127.${first}.0.0/24 to 127.${last}.0.0/24 belongs to another stack: use --subnet`);
}
