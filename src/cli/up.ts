import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { catalogue } from '../components/catalogue.ts';
import type { Component, PassedOver } from '../components/resolve.ts';
import { type PortName, type Ports, portTable } from '../stack/ports.ts';
import { defaultStateDir, type ServiceName, type StackRecord } from '../stack/record.ts';
import type { ServiceEvent } from '../stack/supervise.ts';

export { readStack } from '../stack/record.ts';

interface UpOptions extends Partial<Record<`${PortName}Port`, number>> {
  stateDir: string;
  domain?: string;
  subnet?: string;
  allowedRepos?: string;
  gitBaseUrl?: string;
  logLevel?: string;
  json?: boolean;
}

/** `tekton up`: the whole stack on this machine, until Ctrl-C. */
export function upCommand(): Command {
  const command = new Command('up')
    .description('start the whole stack on this machine: Temporal, PostgreSQL, Caddy, worker, webhook')
    .option('--state-dir <folder>', 'where everything is kept', defaultStateDir(process.env))
    .option('--domain <name>', 'previews answer under it (default: preview.localhost)')
    .option(
      '--subnet <network>',
      'loopback network of the previews, 127.<n>.0.0/24 (default: TEKTON_SUBNET, or the first free one)',
    )
    .option('--allowed-repos <list>', 'who may open previews: owner/repo,… or * (default: ALLOWED_REPOS, or *)')
    .option(
      '--git-base-url <url>',
      'where repositories are: a URL, or a folder of bare ones (default: GIT_BASE_URL, or GitHub)',
    )
    .option('--log-level <level>', 'of worker and webhook: error, warn, info, debug (default: LOG_LEVEL, or info)')
    .option('--json', 'print one line of JSON when everything serves');
  for (const [name, { flag, fallback, what }] of Object.entries(portTable)) {
    // The default is not given to commander: a port that was asked for is an error when it is taken, a default moves.
    command.option(
      `${optionFlag(name as PortName, flag)} <port>`,
      `port of ${what}; 0: any free one (default: ${fallback})`,
      port,
    );
  }
  return command.action(up);
}

/** `--http-port` as commander keys it is `httpPort`; each flag of the table must come out as `<name>Port`. */
function optionFlag(name: PortName, flag: string): string {
  const key = flag.slice(2).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  if (key !== `${name}Port`) throw new Error(`${flag} is not the flag of ${name}`);
  return flag;
}

function port(text: string): number {
  const number = Number(text);
  if (!/^\d{1,5}$/.test(text) || number > 65_535) throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return number;
}

async function up(options: UpOptions): Promise<void> {
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  const running = new Map<ServiceName, number>();
  const stopping = new AbortController();
  const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve()));
  let first = 0;
  const onSignal = (name: NodeJS.Signals) => {
    // npm, `timeout` and the like pass on what the terminal has sent us already: that is not a second wish.
    if (stopping.signal.aborted && Date.now() - first < 500) return;
    if (stopping.signal.aborted) {
      say('stopping at once');
      for (const pid of running.values()) killGroup(pid);
      process.exit(1);
    }
    say(name === 'SIGINT' ? '\nstopping (Ctrl-C again: at once)' : 'stopping');
    first = Date.now();
    stopping.abort(new Error('stopped before everything served'));
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal);

  // Loaded when it is needed: it takes a while, and `tekton --help` has no use for it.
  const { startStack } = await import('../stack/stack.ts');
  const begun = Date.now();
  let settled = false;
  const stack = await startStack({
    stateDir: options.stateDir,
    domain: options.domain,
    subnet: options.subnet ?? (process.env.TEKTON_SUBNET || undefined),
    allowedRepos: options.allowedRepos,
    gitBaseUrl: options.gitBaseUrl,
    logLevel: options.logLevel,
    ports: flaggedPorts(options),
    signal: stopping.signal,
    onNotice: (text) => say(`note: ${text}`),
    onComponent: (component) => componentLines(component).forEach(say),
    onEvent: (service, event) => {
      if (event.kind === 'started') running.set(service, event.pid);
      if (event.kind === 'died') running.delete(service);
      const line = eventLine(service, event, settled);
      if (line) say(line);
    },
  });
  settled = true;
  if (options.json) process.stdout.write(`${JSON.stringify(stack.record)}\n`);
  else process.stdout.write(`${addresses(stack.record, Date.now() - begun).join('\n')}\n`);
  await stopped;
  await stack.stop();
  say('stopped; `tekton up` brings everything back');
  // Something that still holds the event loop open must not hold the person.
  void sleep(2_000, undefined, { ref: false }).then(() => process.exit());
}

function flaggedPorts(options: UpOptions): Partial<Ports> {
  const names = Object.keys(portTable) as PortName[];
  const flags = names.map((name) => [name, options[`${name}Port`]] as const);
  return Object.fromEntries(flags.filter(([, value]) => value !== undefined));
}

const origins: Record<Component['origin'], string> = {
  environment: 'named by the environment',
  path: 'on this machine',
  cache: 'from the cache',
  download: 'fetched',
};

/** What was found, and what was passed over for it. */
export function componentLines({ name, version, path, origin, passedOver }: Component): string[] {
  return [`${catalogue[name].title} ${version} (${origins[origin]}: ${path})`, ...passedOver.map(passedOverLine)];
}

export function passedOverLine({ path, why }: PassedOver): string {
  return `  passed over ${path}: ${why}`;
}

/** A line for the person, or undefined when there is nothing to say. `settled`: everything has served once. */
export function eventLine(service: ServiceName, event: ServiceEvent, settled: boolean): string | undefined {
  switch (event.kind) {
    case 'started':
      return undefined;
    case 'ready':
      return `${service} serves ${settled ? 'again ' : ''}(pid ${event.pid}, ${(event.ms / 1000).toFixed(1)} s)`;
    case 'died':
      return `${service} ended (${event.how}); again in ${(event.restartMs / 1000).toFixed(1)} s`;
  }
}

/** The block that tells where everything is. */
export function addresses(record: StackRecord, ms: number): string[] {
  const elsewhere = record.stateDir === resolve(defaultStateDir(process.env)) ? '' : ` --state-dir ${record.stateDir}`;
  const rows: [string, string][] = [
    ['Previews', record.previewUrl],
    ['Webhook', record.webhookUrl],
    ['  its secret', record.webhookSecretFile ?? 'GITHUB_WEBHOOK_SECRET'],
    ['Temporal UI', record.temporalUiUrl],
    ['Temporal', record.temporalAddress],
    ['PostgreSQL', `127.0.0.1:${record.ports.postgres} (role tekton, password in ${record.postgresPasswordFile})`],
    ['State', record.stateDir],
    ['Logs', join(record.stateDir, 'var/log/tekton/services')],
  ];
  return [
    '',
    `Everything serves (${(ms / 1000).toFixed(1)} s).`,
    '',
    ...rows.map(([name, value]) => `  ${name.padEnd(14)}${value}`),
    '',
    `Try: tekton preview create <owner/repo> <branch>${elsewhere}`,
    'Ctrl-C stops everything, the apps too; the next `tekton up` brings each back.',
  ];
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
