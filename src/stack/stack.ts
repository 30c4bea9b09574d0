/** The whole stack of one machine, of one state folder: Temporal, PostgreSQL, Caddy, worker and webhook. */
import { chmod, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Component, resolveComponent } from '../components/resolve.ts';
import { unprivilegedUser } from '../components/unprivileged.ts';
import { type HostLayout, hostLayout } from '../host/layout.ts';
import { createMachineClaims } from '../host/machine-claims.ts';
import { prepareCaddy } from './caddy.ts';
import { choosePorts, machinePortCheck, type Ports } from './ports.ts';
import { adminUrl, closeDatabases, dataVersion, preparePostgres } from './postgres.ts';
import { becomeSupervisor, readStack, type ServiceName, type StackRecord, serviceNames, writeStack } from './record.ts';
import { secretOf } from './secret.ts';
import { caddyAdmin, namespace, type StackSettings, serviceSpecs, temporalAddress } from './services.ts';
import { chooseSubnet } from './subnet.ts';
import { type Service, type ServiceEvent, serviceFolders, stopLeftover, supervise } from './supervise.ts';
import { setRetention } from './temporal.ts';

export interface StackOptions {
  stateDir: string;
  /** Default `preview.localhost`. */
  domain?: string;
  subnet?: string;
  /** Ports set by flags; 0: any free one. */
  ports?: Partial<Ports>;
  /** `owner/repo` list or `*`. Default: ALLOWED_REPOS, else `*`. */
  allowedRepos?: string;
  gitBaseUrl?: string;
  logLevel?: string;
  /** Default: `process.env`. */
  env?: NodeJS.ProcessEnv;
  /** Which services to start; all by default. */
  services?: readonly ServiceName[];
  /** Stops what has been started so far. */
  signal?: AbortSignal;
  /** Told of what is not as one would expect. */
  onNotice?(text: string): void;
  /** Told of each component that was found. */
  onComponent?(component: Component): void;
  onEvent?(service: ServiceName, event: ServiceEvent): void;
}

export interface Stack {
  record: StackRecord;
  services: Service<ServiceName>[];
  /** Stops everything in reverse order, apps too; nothing is forgotten. */
  stop(): Promise<void>;
  /** Kills the services at once. */
  kill(): void;
}

/**
 * Starts the stack and gives it once everything serves. Ports, subnet, secrets and data are those of last time.
 *
 * @throws Error when another stack runs on the state folder, a component is missing, a flag's port is in use, or a service doesn't
 *   start; what was started is stopped first
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const stateDir = resolve(options.stateDir);
  const notice = options.onNotice ?? (() => {});
  await mkdir(stateDir, { recursive: true });
  const release = await becomeSupervisor(stateDir);
  const services: Service<ServiceName>[] = [];
  const kill = () => {
    for (const service of services) service.kill();
  };
  const stop = async () => {
    await stopInOrder(services);
    await release();
  };
  try {
    const layout = hostLayout(stateDir);
    const folders = serviceFolders(layout);
    for (const name of [...serviceNames].reverse()) {
      const pid = await stopLeftover(name, folders);
      if (pid) notice(`stopped the ${name} (pid ${pid}) of a stack that was killed`);
    }
    const { record, settings } = await prepare(stateDir, layout, options);
    await writeStack(record);

    let writing = Promise.resolve();
    const onEvent = (name: ServiceName, event: ServiceEvent) => {
      options.onEvent?.(name, event);
      if (event.kind !== 'started') return;
      record.services[name] = { ...record.services[name], pid: event.pid };
      // One after the other; a disk that is full for a moment must not stop the services.
      writing = writing.then(() => writeStack(record)).catch(() => {});
    };
    const specs = serviceSpecs(options.env ?? process.env, settings);
    const start = async (names: ServiceName[]) => {
      const wanted = specs.filter(
        ({ name }) => names.includes(name) && (options.services ?? serviceNames).includes(name),
      );
      const started = wanted.map((spec) => supervise(spec, folders, (event) => onEvent(spec.name, event)));
      services.push(...started);
      await unlessAborted(Promise.all(started.map((service) => service.ready())), options.signal);
      return new Set(started.map(({ name }) => name));
    };
    const base = await start(['temporal', 'postgres', 'caddy']);
    await Promise.all([
      base.has('temporal') && setRetention(record.temporalAddress, namespace),
      base.has('postgres') && closeDatabases(settings.databaseAdminUrl),
    ]);
    await start(['worker', 'webhook']);
    await writing;
    return { record, services, stop, kill };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The webhook first, so that nothing new comes in; the worker next, while what it needs still runs. */
async function stopInOrder(services: Service<ServiceName>[]): Promise<void> {
  for (const names of [['webhook'], ['worker'], ['caddy', 'postgres', 'temporal']]) {
    await Promise.all(services.filter(({ name }) => names.includes(name)).map((service) => service.stop()));
  }
}

/** Chooses, finds and makes all that must be there before the first service starts. */
async function prepare(
  stateDir: string,
  layout: HostLayout,
  options: StackOptions,
): Promise<{ record: StackRecord; settings: StackSettings }> {
  const env = options.env ?? process.env;
  const notice = options.onNotice ?? (() => {});
  const previous = await readStack(stateDir);
  const components = await findComponents(stateDir, options);

  const claims = createMachineClaims();
  const ports = await choosePorts(options.ports ?? {}, previous?.ports, machinePortCheck(claims, stateDir), notice);
  const subnet = await chooseSubnet(options.subnet, previous?.subnet, claims, stateDir);

  const secrets = join(stateDir, 'var/secrets');
  await mkdir(secrets, { recursive: true });
  await chmod(secrets, 0o700);
  const postgresPasswordFile = join(secrets, 'postgresql-password');
  const password = await secretOf(postgresPasswordFile);
  const webhookSecretFile = env.GITHUB_WEBHOOK_SECRET ? undefined : join(secrets, 'webhook-secret');
  const webhookSecret = webhookSecretFile ? await secretOf(webhookSecretFile) : (env.GITHUB_WEBHOOK_SECRET as string);

  await mkdir(join(stateDir, 'var/lib/temporal'), { recursive: true });
  const postgres = await preparePostgres({
    program: components.postgres.path,
    stateDir,
    user: await unprivilegedUser(),
    password,
  });
  const domain = options.domain ?? previous?.domain ?? 'preview.localhost';
  const { http: httpPort, caddyAdmin: adminPort, webhook: webhookPort } = ports;
  await prepareCaddy(layout, { domain, httpPort, adminPort, webhookPort });

  // What was chosen once holds until something else is chosen: a restart must not lead the previews to other repositories.
  const allowedRepos = options.allowedRepos ?? (env.ALLOWED_REPOS || previous?.allowedRepos);
  const gitBaseUrl = options.gitBaseUrl ?? (env.GIT_BASE_URL || previous?.gitBaseUrl);
  if (!allowedRepos) notice('any repository may open previews here: --allowed-repos owner/repo,… restricts that');
  const host = env.TEKTON_HOST || previous?.host || 'local';
  const settings: StackSettings = {
    stateDir,
    host,
    domain,
    subnet,
    ports,
    allowedRepos: allowedRepos || '*',
    gitBaseUrl,
    logLevel: options.logLevel,
    webhookSecret,
    databaseAdminUrl: adminUrl(ports.postgres, password),
    programs: {
      temporal: components.temporal.path,
      postgres: components.postgres.path,
      caddy: components.caddy.path,
    },
    caddyfile: layout.caddyfile,
    postgres,
  };
  const record: StackRecord = {
    startedAt: new Date().toISOString(),
    stateDir,
    host,
    domain,
    subnet,
    ports,
    temporalAddress: temporalAddress(ports),
    temporalNamespace: namespace,
    temporalUiUrl: `http://127.0.0.1:${ports.temporalUi}`,
    webhookUrl: `http://127.0.0.1:${ports.webhook}/webhook/github`,
    previewUrl: `http://<slug>.${domain}${ports.http === 80 ? '' : `:${ports.http}`}`,
    caddyAdmin: caddyAdmin(ports),
    ...(allowedRepos ? { allowedRepos } : {}),
    ...(gitBaseUrl ? { gitBaseUrl } : {}),
    ...(webhookSecretFile ? { webhookSecretFile } : {}),
    postgresPasswordFile,
    postgresData: postgres.data,
    services: Object.fromEntries(
      Object.values(components).map(({ name, version, path }) => [name, { pid: 0, version, path }]),
    ),
  };
  return { record, settings };
}

async function findComponents(stateDir: string, options: StackOptions) {
  const made = await dataVersion(stateDir);
  const find = async (name: 'temporal' | 'caddy' | 'postgres' | 'git') => {
    options.signal?.throwIfAborted();
    const refuse = (version: string) =>
      version.split('.')[0] === made ? undefined : `the data in ${stateDir} was made by PostgreSQL ${made}`;
    const component = await resolveComponent(name, {
      env: options.env,
      ...(name === 'postgres' && made ? { refuse } : {}),
    });
    options.onComponent?.(component);
    return component;
  };
  // Not ours to run, but no preview comes up without it: better now than in the first build.
  await find('git');
  return { temporal: await find('temporal'), postgres: await find('postgres'), caddy: await find('caddy') };
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
