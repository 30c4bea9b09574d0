/**
 * Processes as /proc shows them. A container's processes are found by the marker in their environment; and, because a program may
 * overwrite its environment or drop it, also by descent, session, and working folder.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Proc {
  pid: number;
  ppid: number;
  pgid: number;
  sid: number;
  /** Clock ticks since boot: with the pid, it names one process for ever. */
  start: number;
  /** Bytes of address space; a thread of the kernel has none. */
  size: number;
}

/** A process named for good: a pid may be used again, a pid with its start time is not. */
export type ProcId = Pick<Proc, 'pid' | 'start'>;

/** Parses `/proc/<pid>/stat`; undefined for a zombie or a dead process, which runs nothing any more. */
export function parseStat(text: string): Proc | undefined {
  // The command name is in parentheses and may itself hold spaces and parentheses: count from the last one.
  const open = text.indexOf(' ');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, ppid, pgid, sid] = fields;
  if (state === undefined || 'ZXx'.includes(state)) return undefined;
  return {
    pid: Number(text.slice(0, open)),
    ppid: Number(ppid),
    pgid: Number(pgid),
    sid: Number(sid),
    start: Number(fields[19]),
    size: Number(fields[20]),
  };
}

/** One process now, or undefined when it doesn't run. */
export function readProc(pid: number): Proc | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined;
  }
}

export function isAlive(id: ProcId): boolean {
  return readProc(id.pid)?.start === id.start;
}

/** Every process at one moment. Its environments are read when first asked for, then kept. */
export interface Snapshot {
  procs: Proc[];
  environ(pid: number): Map<string, string>;
}

/** Looks at all processes now. Synchronous on purpose: some 20 µs a process, and a consistent picture. */
export function takeSnapshot(): Snapshot {
  const procs: Proc[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const proc = readProc(pid);
    if (proc && proc.size > 0) procs.push(proc);
  }
  const environs = new Map<number, Map<string, string>>();
  return {
    procs,
    environ(pid) {
      const known = environs.get(pid) ?? environOf(pid);
      environs.set(pid, known);
      return known;
    },
  };
}

/** A process's environment as it was started with; empty when it may not be read. */
export function environOf(pid: number): Map<string, string> {
  const environ = new Map<string, string>();
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return environ;
  }
  for (const entry of text.split('\0')) {
    const equals = entry.indexOf('=');
    if (equals > 0) environ.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return environ;
}

function workingFolder(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

export interface ProcQuery {
  /** Variables that must all have exactly these values. */
  environ: Record<string, string>;
  /** Leaders of sessions known to belong to it: their descendants and sessions do too. */
  known?: ProcId[];
  /** A folder that only its processes work in. */
  folder?: string;
}

/** Finds the processes of a query. Never this process or one it descends from. */
export function findProcs(query: ProcQuery, snapshot = takeSnapshot()): Proc[] {
  const { procs } = snapshot;
  const spared = ancestry(procs, process.pid);
  const wanted = Object.entries(query.environ);
  const found = new Map<number, Proc>();
  const sessions = new Set<number>();
  for (const id of query.known ?? []) {
    const proc = procs.find((p) => p.pid === id.pid);
    // The number of a dead leader is not given out again while its session has members.
    if (proc && proc.start !== id.start) continue;
    sessions.add(id.pid);
    if (proc) found.set(proc.pid, proc);
  }
  for (const proc of procs) {
    if (found.has(proc.pid)) continue;
    const environ = snapshot.environ(proc.pid);
    if (wanted.length > 0 && wanted.every(([name, value]) => environ.get(name) === value)) {
      found.set(proc.pid, proc);
      if (proc.sid === proc.pid) sessions.add(proc.sid);
    } else if (query.folder !== undefined) {
      const cwd = workingFolder(proc.pid);
      if (cwd === query.folder || cwd?.startsWith(`${query.folder}/`)) found.set(proc.pid, proc);
    }
  }
  // Children may come before their parents in the list: until nothing is added.
  for (let grew = true; grew; ) {
    grew = false;
    for (const proc of procs) {
      if (found.has(proc.pid)) continue;
      if (found.has(proc.ppid) || sessions.has(proc.sid)) {
        found.set(proc.pid, proc);
        grew = true;
      }
    }
  }
  for (const pid of spared) found.delete(pid);
  return [...found.values()];
}

function ancestry(procs: Proc[], pid: number): Set<number> {
  const parents = new Map(procs.map((p) => [p.pid, p.ppid]));
  const line = new Set<number>([0, 1]);
  for (let at: number | undefined = pid; at !== undefined && !line.has(at); at = parents.get(at)) line.add(at);
  return line;
}

/** Sends a signal to each process that is still the one meant. */
export function signalAll(ids: ProcId[], signal: NodeJS.Signals): void {
  for (const id of ids) {
    if (!isAlive(id)) continue;
    try {
      process.kill(id.pid, signal);
    } catch {
      // Gone in between.
    }
  }
}

/**
 * Ends every process that `find` gives: SIGTERM, a grace, then SIGKILL until a search finds none (a process may fork while it is
 * being killed). Throws when some can't be killed within 10 s more.
 *
 * @param graceMs how long they may take to end by themselves; 0 kills at once
 */
export async function endProcs(find: () => Proc[], graceMs: number): Promise<number> {
  const seen = new Set<number>();
  const search = () => {
    const procs = find();
    for (const proc of procs) seen.add(proc.pid);
    return procs;
  };
  let left = search();
  if (left.length > 0 && graceMs > 0) {
    signalAll(left, 'SIGTERM');
    const deadline = Date.now() + graceMs;
    for (let pause = 5; left.some(isAlive) && Date.now() < deadline; pause = Math.min(pause * 2, 50))
      await sleep(pause);
    left = search();
  }
  const deadline = Date.now() + 10_000;
  while (left.length > 0) {
    if (Date.now() > deadline) {
      throw new Error(`Processes ${left.map((p) => p.pid).join(', ')} survive SIGKILL; they may hang in the kernel.`);
    }
    signalAll(left, 'SIGKILL');
    for (let i = 0; i < 20 && left.some(isAlive); i++) await sleep(2);
    left = search();
  }
  return seen.size;
}
