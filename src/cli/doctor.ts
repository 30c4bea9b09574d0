import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Command } from 'commander';
import { type Inspection, inspectComponents } from '../components/resolve.ts';
import { unprivilegedUser } from '../components/unprivileged.ts';
import { compareVersions } from '../components/version.ts';
import { hostLayout } from '../host/layout.ts';
import { isFree } from '../host/machine-claims.ts';
import { type PortName, portTable } from '../stack/ports.ts';
import { defaultStateDir, type FoundStack, readStack, serviceNames } from '../stack/record.ts';
import { findLeftover, serviceFolders } from '../stack/supervise.ts';
import { passedOverLine } from './up.ts';

/** The least Node that runs Tekton; package.json says the same. */
const leastNode = '20.19';

/** One thing that was looked at. */
export interface Check {
  name: string;
  state: 'ok' | 'note' | 'wrong';
  /** What was found. */
  found: string;
  /** The command that mends it, or what to know. */
  cure?: string;
  /** Programs that were passed over, and why. */
  passedOver?: string[];
  version?: string;
  origin?: string;
  path?: string;
}

/** `tekton doctor`: what is missing on this machine, and the command that mends it. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('what is missing on this machine, and the command that mends it')
    .option('--state-dir <folder>', 'the state folder of `tekton up`', defaultStateDir(process.env))
    .option('--json', 'print data as JSON')
    .action(async (options: { stateDir: string; json?: boolean }) => {
      const checks = await examine(resolve(options.stateDir));
      const ok = checks.every(({ state }) => state !== 'wrong');
      process.stdout.write(
        options.json ? `${JSON.stringify({ ok, checks }, null, 2)}\n` : `${report(checks).join('\n')}\n`,
      );
      if (!ok) process.exitCode = 1;
    });
}

/** Looks at everything, and changes nothing. */
export async function examine(stateDir: string): Promise<Check[]> {
  const stack = await readStack(stateDir);
  const left = stack?.running ? [] : await leftovers(stateDir);
  return [
    nodeCheck(process.versions.node),
    ...(await inspectComponents()).map(componentCheck),
    await postgresUserCheck(),
    await stateCheck(stateDir),
    stackCheck(stack, stateDir, left),
    ...(stack?.running || left.length > 0 ? [] : await portChecks(stack)),
  ];
}

function nodeCheck(version: string): Check {
  const ok = compareVersions(version, leastNode) >= 0;
  return {
    name: 'Node',
    state: ok ? 'ok' : 'wrong',
    found: `${version} ${process.execPath}`,
    version,
    path: process.execPath,
    ...(ok ? {} : { cure: `install Node ${leastNode} or newer: https://nodejs.org` }),
  };
}

/** What a component's inspection means for the person. */
export function componentCheck({ spec, component, passedOver, available }: Inspection): Check {
  const over = passedOver.length > 0 ? { passedOver: passedOver.map(passedOverLine) } : {};
  if (component) {
    const { version, origin, path } = component;
    return { name: spec.title, state: 'ok', found: `${version} ${path} (${origin})`, version, origin, path, ...over };
  }
  const wanted = spec.minimum === '0' ? 'missing' : `missing (needs ${spec.minimum} or newer)`;
  // npm has brought it already; unpacking needs no network.
  if (available && spec.name === 'postgres') {
    return { name: spec.title, state: 'ok', found: 'brought by npm, unpacked when it is first needed', ...over };
  }
  const cure = available ? `fetch it: npm run setup. Or ${spec.cure}` : spec.cure;
  return { name: spec.title, state: spec.needed ? 'wrong' : 'note', found: wanted, cure, ...over };
}

async function postgresUserCheck(): Promise<Check> {
  try {
    const user = await unprivilegedUser();
    return { name: "PostgreSQL's user", state: 'ok', found: user ? `${user.name} (we are root)` : 'our own' };
  } catch (error) {
    return { name: "PostgreSQL's user", state: 'wrong', found: 'none', cure: (error as Error).message };
  }
}

async function stateCheck(stateDir: string): Promise<Check> {
  const writable = await mayWrite(stateDir);
  return {
    name: 'State folder',
    state: writable ? 'ok' : 'wrong',
    found: stateDir,
    path: stateDir,
    ...(writable
      ? {}
      : { cure: `${stateDir} can't be written to: chown it, or choose another with --state-dir or TEKTON_STATE_DIR` }),
  };
}

/** Whether the folder, or the nearest above it that exists, can be written to. */
async function mayWrite(folder: string): Promise<boolean> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(folder) === folder) return false;
    return mayWrite(dirname(folder));
  }
}

/** Services that still run although their `tekton up` was killed. */
async function leftovers(stateDir: string): Promise<string[]> {
  const folders = serviceFolders(hostLayout(stateDir));
  const found = await Promise.all(serviceNames.map((name) => findLeftover(name, folders)));
  return serviceNames.filter((_, i) => found[i] !== undefined);
}

function stackCheck(stack: FoundStack | undefined, stateDir: string, left: string[]): Check {
  if (stack?.running) {
    return {
      name: 'Stack',
      state: 'ok',
      found: `runs with pid ${stack.pid}: previews at ${stack.previewUrl}, Temporal UI ${stack.temporalUiUrl}`,
    };
  }
  const killed = left.length > 0 ? `its \`tekton up\` was killed; still running: ${left.join(', ')}` : undefined;
  const found = killed ?? (stack ? `not running (last started ${stack.startedAt})` : 'never started here');
  const flag = stateDir === resolve(defaultStateDir(process.env)) ? '' : ` --state-dir ${stateDir}`;
  return {
    name: 'Stack',
    state: 'note',
    found,
    cure: `start it${killed ? ' (it stops those first)' : ''}: tekton up${flag}`,
  };
}

/** Ports that the next `tekton up` would like to have. */
async function portChecks(stack: FoundStack | undefined): Promise<Check[]> {
  const names = Object.keys(portTable) as PortName[];
  const checks = names.map(async (name): Promise<Check | undefined> => {
    const { flag, fallback, what } = portTable[name];
    const port = stack?.ports[name] ?? fallback;
    if (await isFree(port)) return undefined;
    return {
      name: `Port ${port}`,
      state: 'note',
      found: `in use, wanted for ${what}`,
      cure: `\`tekton up\` takes the next free one, or that of ${flag}`,
    };
  });
  const taken = (await Promise.all(checks)).filter((check) => check !== undefined);
  return taken.length > 0 ? taken : [{ name: 'Ports', state: 'ok', found: 'all free' }];
}

const marks: Record<Check['state'], string> = { ok: 'ok   ', note: 'note ', wrong: 'WRONG' };

/** The checks as lines for a person. */
export function report(checks: Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, state, found, cure, passedOver = [] }) => [
    `${marks[state]}  ${name.padEnd(width)}  ${found}`,
    ...passedOver.map((line) => `       ${line}`),
    ...(cure ? [`         → ${cure}`] : []),
  ]);
  const wrong = checks.filter(({ state }) => state === 'wrong').map(({ name }) => name);
  const verdict = wrong.length > 0 ? `Missing or wrong: ${wrong.join(', ')}.` : 'Nothing is missing.';
  return [...lines, '', verdict];
}
