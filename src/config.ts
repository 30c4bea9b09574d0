/** What the services are told by their environment; read once at start. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { Address4 } from 'ip-address';
import { z } from 'zod';
import { type AllowedRepos, parseAllowedRepos } from './domain/allowed-repos.ts';
import { type Environment, temporalOptions } from './temporal/connection.ts';

export type Service = 'webhook' | 'worker';

export type GitHubCredentials =
  | { kind: 'token'; token: string }
  | { kind: 'app'; appId: number; installationId: number; privateKeyPath: string };

export interface Config {
  service: Service;
  /** This machine's name in task queues and workflow ids. */
  host: string;
  runtime: 'nixos' | 'local';
  /** Root of the host's tree (`hostLayout`): `/` on nixos. */
  stateDir: string;
  /** IPv4 network of the slots, as `address/prefix`. */
  subnet: string;
  /** The domain under which previews answer, in lower case. */
  previewDomain: string;
  publicScheme: 'http' | 'https';
  publicPort: number;
  webhookHost: string;
  /** 0: a free port. */
  webhookPort: number;
  /** Required by the webhook; the worker has no use for it. */
  webhookSecret?: string;
  allowedRepos: AllowedRepos;
  /** Without credentials, GitHub is left out. */
  githubCredentials?: GitHubCredentials;
  githubApiUrl: string;
  /** A URL or a folder; repositories are `<base>/<owner>/<repo>.git`. */
  gitBaseUrl: string;
  adminSshKey?: string;
  /** Holds a password. */
  databaseAdminUrl?: string;
  /** Caddy's admin endpoint. */
  caddyAdmin: string;
  /** Builds at once. */
  builds: number;
  /** The worker's Prometheus port. */
  metricsPort: number;
  logLevel: string;
}

/** What the defaults follow from, besides the environment. */
export interface Machine {
  hostname: string;
  home: string;
  nixos: boolean;
}

const thisMachine = (): Machine => ({ hostname: hostname(), home: homedir(), nixos: existsSync('/etc/NIXOS') });

const domainPattern = /^(?=.{1,189}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;
const hostPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const port = (least: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/)
    .transform(Number)
    .refine((n) => n >= least && n <= 65_535);
const positive = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number)
  .refine((n) => n >= 1);

/** What each variable must look like, in words for the person who has to mend it. */
const variables = {
  GITHUB_WEBHOOK_SECRET: { expects: "the secret of the webhook in GitHub's settings", read: z.string(), secret: true },
  PREVIEW_DOMAIN: {
    expects: 'a domain name such as preview.example.com (no scheme, port or wildcard, at most 189 characters)',
    read: z.string().toLowerCase().regex(domainPattern),
  },
  WEBHOOK_HOST: { expects: 'an address to listen on, such as 127.0.0.1', read: z.union([z.ipv4(), z.ipv6()]) },
  WEBHOOK_PORT: { expects: 'a port, 0–65535 (0: any free one)', read: port(0) },
  METRICS_PORT: { expects: 'a port, 1–65535', read: port(1) },
  ALLOWED_REPOS: { expects: 'a comma list of owner/repo or owner/*, or * for all', read: z.string() },
  GITHUB_TOKEN: { expects: 'a token, without spaces', read: z.string().regex(/^[\x21-\x7e]+$/), secret: true },
  GITHUB_APP_ID: { expects: "the App's number", read: positive },
  GITHUB_APP_INSTALLATION_ID: { expects: "the installation's number", read: positive },
  GITHUB_APP_PRIVATE_KEY_PATH: {
    expects: 'the absolute path of a readable PEM file',
    read: z.string().refine(isAbsolute),
  },
  GITHUB_API_URL: { expects: 'an http(s) URL without credentials', read: z.string().refine(isHttpUrl) },
  GIT_BASE_URL: {
    expects: 'an http(s) or ssh URL without a password, or the absolute path of a folder of bare repositories',
    read: z.string().refine(isGitBase),
  },
  ADMIN_SSH_KEY: {
    expects: 'one public key in OpenSSH form (ssh-ed25519 AAAA… name)',
    read: z.string().regex(/^(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: [^\r\n]*)?$/),
  },
  TEKTON_RUNTIME: { expects: 'nixos or local', read: z.enum(['nixos', 'local']) },
  TEKTON_HOST: { expects: 'lower-case letters, digits and hyphens, at most 63', read: z.string().regex(hostPattern) },
  TEKTON_SUBNET: {
    expects:
      'an IPv4 network such as 10.100.0.0/24 (prefix 8–29, no host bits; in 127.0.0.0/8 for the local runtime, outside it for nixos)',
    read: z.string().refine(isSubnet),
  },
  TEKTON_STATE_DIR: { expects: 'an absolute path', read: z.string().refine(isAbsolute) },
  TEKTON_PUBLIC_SCHEME: { expects: 'http or https', read: z.enum(['http', 'https']) },
  TEKTON_PUBLIC_PORT: { expects: 'a port, 1–65535', read: port(1) },
  TEKTON_BUILDS: { expects: 'a number of builds at once, 1–64', read: positive.refine((n) => n <= 64) },
  DATABASE_ADMIN_URL: {
    expects: 'a postgres:// or postgresql:// URL',
    read: z.string().refine((text) => ['postgres:', 'postgresql:'].includes(protocolOf(text))),
    secret: true,
  },
  CADDY_ADMIN: {
    expects: "the URL of Caddy's admin endpoint, such as http://127.0.0.1:2019",
    read: z.string().refine(isHttpUrl),
  },
  LOG_LEVEL: {
    expects: 'fatal, error, warn, info, debug, trace or silent',
    read: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']),
  },
} as const satisfies Record<string, { expects: string; read: z.ZodType; secret?: true }>;

type Variable = keyof typeof variables;
type ValueOf<V extends Variable> = z.output<(typeof variables)[V]['read']>;

/**
 * Reads and checks a service's environment. An empty variable counts as unset.
 *
 * @param machine what the defaults follow from; this machine unless a test says otherwise
 * @throws Error whose message lists every missing or bad variable by name, with what is expected; never a secret's value
 */
export function readConfig(env: Environment, service: Service, machine: Machine = thisMachine()): Config {
  const problems: string[] = [];

  const optional = <V extends Variable>(name: V): ValueOf<V> | undefined => {
    const text = env[name];
    if (text === undefined || text.trim() === '') return undefined;
    const { expects, read, ...rest } = variables[name];
    const parsed = read.safeParse(text);
    if (parsed.success) return parsed.data as ValueOf<V>;
    const value = 'secret' in rest || text.includes('@') ? 'its value' : JSON.stringify(text);
    problems.push(`${name}: ${value} is not ${expects}`);
    return undefined;
  };
  const required = <V extends Variable>(name: V): ValueOf<V> | undefined => {
    if (env[name]?.trim()) return optional(name);
    problems.push(`${name} is missing: ${variables[name].expects}`);
    return undefined;
  };

  const runtime = optional('TEKTON_RUNTIME') ?? (machine.nixos ? 'nixos' : 'local');
  const nixos = runtime === 'nixos';
  const publicScheme = optional('TEKTON_PUBLIC_SCHEME') ?? (nixos ? 'https' : 'http');
  const { allowed, bad } = parseAllowedRepos(optional('ALLOWED_REPOS') ?? '');
  if (bad.length > 0) {
    problems.push(
      `ALLOWED_REPOS: ${bad.map((b) => JSON.stringify(b)).join(', ')} is not ${variables.ALLOWED_REPOS.expects}`,
    );
  }

  const config: Config = {
    service,
    host: optional('TEKTON_HOST') ?? hostName(machine.hostname),
    runtime,
    stateDir: optional('TEKTON_STATE_DIR') ?? (nixos ? '/' : defaultStateDir(env, machine)),
    subnet: optional('TEKTON_SUBNET') ?? (nixos ? '10.100.0.0/24' : '127.100.0.0/24'),
    previewDomain: required('PREVIEW_DOMAIN') ?? '',
    publicScheme,
    publicPort: optional('TEKTON_PUBLIC_PORT') ?? (publicScheme === 'https' ? 443 : 80),
    webhookHost: optional('WEBHOOK_HOST') ?? '127.0.0.1',
    webhookPort: optional('WEBHOOK_PORT') ?? 3100,
    webhookSecret: service === 'webhook' ? required('GITHUB_WEBHOOK_SECRET') : undefined,
    allowedRepos: allowed,
    githubCredentials: credentials(),
    githubApiUrl: (optional('GITHUB_API_URL') ?? 'https://api.github.com').replace(/\/+$/, ''),
    gitBaseUrl: (optional('GIT_BASE_URL') ?? 'https://github.com').replace(/(?!^)\/+$/, ''),
    adminSshKey: optional('ADMIN_SSH_KEY'),
    databaseAdminUrl: optional('DATABASE_ADMIN_URL'),
    caddyAdmin: (optional('CADDY_ADMIN') ?? 'http://127.0.0.1:2019').replace(/\/+$/, ''),
    builds: optional('TEKTON_BUILDS') ?? 2,
    metricsPort: optional('METRICS_PORT') ?? 9464,
    logLevel: optional('LOG_LEVEL') ?? 'info',
  };
  const runtimeKnown = !problems.some((problem) => problem.startsWith('TEKTON_RUNTIME'));
  if (runtimeKnown && isSubnet(config.subnet) && isLoopback(config.subnet) === nixos) {
    problems.push(`TEKTON_SUBNET: ${JSON.stringify(config.subnet)} is not ${variables.TEKTON_SUBNET.expects}`);
  }
  try {
    temporalOptions(env);
  } catch (error) {
    problems.push(`TEMPORAL_*: ${error instanceof Error ? error.message : String(error)}`);
  }

  if (problems.length > 0) {
    throw new Error(
      [`tekton ${service} can't start with this environment:`, ...problems.map((problem) => `  ${problem}`)].join('\n'),
    );
  }
  return config;

  /** An App is preferred to a token: its tokens are short-lived and see only what it was installed for. */
  function credentials(): GitHubCredentials | undefined {
    const appId = optional('GITHUB_APP_ID');
    const installationId = optional('GITHUB_APP_INSTALLATION_ID');
    const privateKeyPath = optional('GITHUB_APP_PRIVATE_KEY_PATH');
    const token = optional('GITHUB_TOKEN');
    const names = ['GITHUB_APP_ID', 'GITHUB_APP_INSTALLATION_ID', 'GITHUB_APP_PRIVATE_KEY_PATH'] as const;
    const given = names.filter((name) => env[name]?.trim());
    if (given.length > 0 && given.length < names.length) {
      for (const name of names.filter((n) => !given.includes(n))) {
        problems.push(`${name} is missing: a GitHub App needs ${names.join(', ')} together (or none of them)`);
      }
    }
    if (privateKeyPath !== undefined && service === 'worker' && !isPemFile(privateKeyPath)) {
      problems.push(
        `GITHUB_APP_PRIVATE_KEY_PATH: ${JSON.stringify(privateKeyPath)} is not ${variables.GITHUB_APP_PRIVATE_KEY_PATH.expects}`,
      );
    }
    if (appId !== undefined && installationId !== undefined && privateKeyPath !== undefined) {
      return { kind: 'app', appId, installationId, privateKeyPath };
    }
    return token === undefined ? undefined : { kind: 'token', token };
  }
}

/** The configuration for a log line: secrets are replaced by whether they are there. */
export function printableConfig(config: Config): Record<string, unknown> {
  const hidden = (value: unknown) => (value === undefined ? 'none' : 'set');
  return {
    ...config,
    webhookSecret: hidden(config.webhookSecret),
    databaseAdminUrl: hidden(config.databaseAdminUrl),
    githubCredentials: config.githubCredentials?.kind ?? 'none',
  };
}

/** A machine's name as a task queue can bear it. */
function hostName(name: string): string {
  const label = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
  return label || 'localhost';
}

function defaultStateDir(env: Environment, machine: Machine): string {
  const state = env.XDG_STATE_HOME;
  return join(state && isAbsolute(state) ? state : join(machine.home, '.local/state'), 'tekton');
}

function protocolOf(text: string): string {
  return URL.canParse(text) ? new URL(text).protocol : '';
}

function isHttpUrl(text: string): boolean {
  if (!['http:', 'https:'].includes(protocolOf(text))) return false;
  const { username, password } = new URL(text);
  return username === '' && password === '';
}

function isGitBase(text: string): boolean {
  if (isAbsolute(text)) return true;
  const protocol = protocolOf(text);
  return protocol === 'ssh:' ? new URL(text).password === '' : protocol === 'file:' || isHttpUrl(text);
}

function isSubnet(text: string): boolean {
  if (!/^[\d.]+\/\d{1,2}$/.test(text) || !Address4.isValid(text)) return false;
  const network = new Address4(text);
  return (
    network.subnetMask >= 8 &&
    network.subnetMask <= 29 &&
    network.startAddress().correctForm() === network.correctForm()
  );
}

function isLoopback(subnet: string): boolean {
  return subnet.startsWith('127.');
}

function isPemFile(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes('PRIVATE KEY-----');
  } catch {
    return false;
  }
}
