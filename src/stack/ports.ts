import { isFree, type MachineClaims } from '../host/machine-claims.ts';

/** Every port of a stack: the flag that sets it, its default, and what it is for. */
export const portTable = {
  http: { flag: '--http-port', fallback: 8080, what: 'previews (plain HTTP)' },
  webhook: { flag: '--webhook-port', fallback: 3100, what: 'the webhook' },
  temporal: { flag: '--temporal-port', fallback: 7233, what: 'Temporal' },
  temporalUi: { flag: '--temporal-ui-port', fallback: 8233, what: "Temporal's web UI" },
  // Not 5432, where a machine's own PostgreSQL is; and below the ports that the kernel gives to outgoing connections.
  postgres: { flag: '--postgres-port', fallback: 15432, what: 'PostgreSQL' },
  caddyAdmin: { flag: '--caddy-admin-port', fallback: 2019, what: "Caddy's admin endpoint" },
  metrics: { flag: '--metrics-port', fallback: 9464, what: "the worker's metrics" },
} as const satisfies Record<string, { flag: string; fallback: number; what: string }>;

export type PortName = keyof typeof portTable;
export type Ports = Record<PortName, number>;

/** Where `0` (any free port) looks: below the kernel's ephemeral range and the range of the previews' ports. */
const anyRange = { first: 10_000, last: 19_999 };
/** How many ports after a default are tried. */
const steps = 200;

/** What can be known of a port before taking it. */
export interface PortCheck {
  /** Nobody listens there now. */
  isFree(port: number): Promise<boolean>;
  /** No other stack of this machine has it for its own, running or not; it is now ours. */
  claim(port: number): Promise<boolean>;
}

export function machinePortCheck(claims: MachineClaims, owner: string): PortCheck {
  return { isFree, claim: (port) => claims.claim('port', String(port), owner) };
}

/**
 * Chooses every port of a stack. A flag's port is taken or is an error; otherwise the port of last time, so that a DATABASE_URL
 * stays valid; otherwise the default, or the next one that is free.
 *
 * @param flags 0 means any free port (that of last time, if it is free)
 * @param notice told of each port that is not where one would look for it
 * @throws Error naming port and flag when a flag's port can't be had
 */
export async function choosePorts(
  flags: Partial<Ports>,
  previous: Partial<Ports> | undefined,
  check: PortCheck,
  notice: (text: string) => void,
): Promise<Ports> {
  const chosen: Partial<Ports> = {};
  const taken = new Set<number>();
  const names = Object.keys(portTable) as PortName[];
  // What is fixed comes first: a default must not sit on another service's flag.
  const fixed = (name: PortName) => Number(Boolean(flags[name]));
  for (const name of names.sort((a, b) => fixed(b) - fixed(a))) {
    const port = await choosePort(
      name,
      flags[name],
      previous?.[name],
      {
        claim: check.claim,
        isFree: async (port) => !taken.has(port) && (await check.isFree(port)),
      },
      notice,
    );
    chosen[name] = port;
    taken.add(port);
  }
  return chosen as Ports;
}

async function choosePort(
  name: PortName,
  flag: number | undefined,
  previous: number | undefined,
  check: PortCheck,
  notice: (text: string) => void,
): Promise<number> {
  const { flag: flagName, fallback, what } = portTable[name];
  if (flag) {
    if (!(await check.isFree(flag))) {
      throw new Error(`port ${flag} (${flagName}, for ${what}) is in use: free it, or choose another with ${flagName}`);
    }
    // The person's word counts more than a claim of a stack that doesn't run.
    await check.claim(flag);
    return flag;
  }
  const has = async (port: number) => (await check.isFree(port)) && (await check.claim(port));
  if (previous && (await has(previous))) return previous;
  const candidates = flag === 0 ? anyPorts() : Array.from({ length: steps }, (_, i) => fallback + i);
  for (const port of candidates) {
    if (!(await has(port))) continue;
    if (previous) notice(`${what}: port ${previous} of last time is taken, now ${port} (${flagName})`);
    else if (flag === undefined && port !== fallback)
      notice(`${what}: port ${fallback} is taken, now ${port} (${flagName})`);
    return port;
  }
  throw new Error(`no free port for ${what}: choose one with ${flagName}`);
}

/** Ports of the range in a random order, so that stacks started together seldom meet. */
function anyPorts(): number[] {
  const size = anyRange.last - anyRange.first + 1;
  const start = Math.floor(Math.random() * size);
  return Array.from({ length: size }, (_, i) => anyRange.first + ((start + i * 7) % size));
}
