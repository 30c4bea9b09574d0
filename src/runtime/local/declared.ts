/** What a source tree says of itself: Procfile, package.json and preview-meta.json. */
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../activities/failure.ts';
import { MetaError, type PreviewMeta, parsePreviewMetaJson } from '../../domain/meta.ts';
import { isMissing } from '../../host/files.ts';
import { isService, onceNames, type ProcfileEntry, ProcfileError, parseProcfile } from './procfile.ts';
import type { Command } from './record.ts';

export interface PackageJson {
  scripts: Record<string, string>;
  /** Names of everything npm would install. */
  dependencies: string[];
  workspaces: boolean;
}

export interface Declared {
  meta: PreviewMeta;
  commands: Command[];
  packageJson: PackageJson | undefined;
}

/** Port that a preview without routes is reached at; what the app really gets is in `PORT`. */
const defaultPort = 3000;

/**
 * Reads what a source tree declares. Without a Procfile it is `npm start`. Throws InvalidMeta that names the file and what is wrong.
 */
export async function readDeclared(tree: string): Promise<Declared> {
  const [procfile, packageText, metaText] = await Promise.all(
    ['Procfile', 'package.json', 'preview-meta.json'].map((name) => readPlain(tree, name)),
  );
  const packageJson = packageText === undefined ? undefined : parsePackageJson(packageText);
  const entries = procfile === undefined ? undefined : procfileEntries(procfile);
  const commands: Command[] = entries
    ? entries.map(({ name, command }) => ({ name, argv: ['/bin/sh', '-c', command] }))
    : [{ name: 'web', argv: await npmStart(tree, packageJson) }];
  return { meta: metaOf(metaText, commands), commands, packageJson };
}

/**
 * The meta of a tree that runs these commands: what `preview-meta.json` says, the rest by default. Throws InvalidMeta.
 *
 * @param metaText the text of `preview-meta.json`, if there is one
 */
export function metaOf(metaText: string | undefined, commands: Command[]): PreviewMeta {
  const names = commands.map((command) => command.name);
  const ownSetup = setupServiceOf(metaText);
  const services = names.filter((name) => isService({ name, command: '' }) && name !== ownSetup);
  const once = onceNames.filter((name) => names.includes(name));
  const web =
    services.includes('web') || services.length === 0 ? 'web' : services.length === 1 ? services[0] : undefined;
  let meta: PreviewMeta;
  try {
    meta = parsePreviewMetaJson(metaText ?? '{}', {
      appServices: services,
      ...(once.length > 0 && { setupService: once[0] }),
      database: 'container',
      routes: [{ path: '/', port: defaultPort, stripPrefix: false, ...(web !== undefined && { service: web }) }],
    });
  } catch (error) {
    if (!(error instanceof MetaError)) throw error;
    throw failure('InvalidMeta', `${metaText === undefined ? 'Procfile' : 'preview-meta.json'}: ${error.message}`);
  }
  const known = `the Procfile has ${names.join(', ')}`;
  for (const service of meta.appServices) {
    if (!names.includes(service)) {
      throw failure('InvalidMeta', `preview-meta.json: appServices names '${service}', but ${known}.`);
    }
  }
  const { setupService } = meta;
  if (setupService !== undefined && !names.includes(setupService) && !(setupService === 'setup' && once.length > 0)) {
    throw failure('InvalidMeta', `preview-meta.json: setupService names '${setupService}', but ${known}.`);
  }
  for (const route of [...meta.routes, ...meta.extraHosts.flatMap((host) => host.routes)]) {
    if (route.service !== undefined && !meta.appServices.includes(route.service)) {
      throw failure(
        'InvalidMeta',
        `preview-meta.json: the route ${route.path} names the service '${route.service}', which is not among appServices (${meta.appServices.join(', ')}).`,
      );
    }
  }
  return meta;
}

/** The setup service that a meta names, before it is known to be valid: it is no service that keeps running. */
function setupServiceOf(metaText: string | undefined): unknown {
  try {
    const value: unknown = JSON.parse(metaText ?? '{}');
    return isObject(value) ? value.setupService : undefined;
  } catch {
    return undefined;
  }
}

/** The commands that are run once per deployment, in order: `setup:`, a setup service of another name, `release:`. */
export function onceCommands(meta: Pick<PreviewMeta, 'setupService'>, commands: Command[]): Command[] {
  const order = ['setup', meta.setupService, 'release'];
  return [...new Set(order)].flatMap((name) => commands.filter((command) => command.name === name));
}

/**
 * The npm commands that build a tree, in order. Installing is left out when there is nothing to install and no script that npm would
 * run at it: it would cost half a second and do nothing.
 *
 * @param has which of the files that matter are there
 */
export function buildCommands(
  packageJson: PackageJson | undefined,
  has: { lockfile: boolean; bindingGyp: boolean },
): { title: string; argv: [string, ...string[]] }[] {
  if (!packageJson) return [];
  const { scripts, dependencies, workspaces } = packageJson;
  const installs =
    dependencies.length > 0 || workspaces || has.bindingGyp || installScripts.some((name) => name in scripts);
  return [
    ...(installs
      ? [
          has.lockfile
            ? { title: 'npm ci', argv: ['npm', 'ci'] as [string, ...string[]] }
            : { title: 'npm install', argv: ['npm', 'install', '--no-audit', '--no-fund'] as [string, ...string[]] },
        ]
      : []),
    ...('build' in scripts || 'prebuild' in scripts || 'postbuild' in scripts
      ? [{ title: 'npm run build', argv: ['npm', 'run', 'build', '--if-present'] as [string, ...string[]] }]
      : []),
  ];
}

const installScripts = [
  'preinstall',
  'install',
  'postinstall',
  'prepublish',
  'preprepare',
  'prepare',
  'postprepare',
  'dependencies',
];

function procfileEntries(text: string): ProcfileEntry[] {
  let entries: ProcfileEntry[];
  try {
    entries = parseProcfile(text);
  } catch (error) {
    if (error instanceof ProcfileError) throw failure('InvalidMeta', error.message);
    throw error;
  }
  if (!entries.some(isService)) {
    throw failure('InvalidMeta', "Procfile: no line that keeps running; add one, such as 'web: npm start'.");
  }
  return entries;
}

async function npmStart(tree: string, packageJson: PackageJson | undefined): Promise<[string, ...string[]]> {
  if (!packageJson) {
    throw failure(
      'InvalidMeta',
      'Neither a Procfile nor a package.json at the top of the repository: nothing says what to run.',
    );
  }
  // `npm start` falls back to server.js.
  if (!('start' in packageJson.scripts) && (await readPlain(tree, 'server.js')) === undefined) {
    throw failure(
      'InvalidMeta',
      "package.json: no 'start' script, and there is no Procfile: nothing says what to run.",
    );
  }
  // In a fresh home npm would look for a newer npm at every start.
  return ['npm', 'start', '--no-update-notifier'];
}

/** Reads the parts of a package.json that matter here; throws InvalidMeta when it is none. */
export function parsePackageJson(text: string): PackageJson {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw failure('InvalidMeta', `package.json: is not JSON: ${(error as Error).message.slice(0, 200)}`);
  }
  if (!isObject(value)) throw failure('InvalidMeta', 'package.json: must be an object.');
  const objectAt = (key: string): Record<string, unknown> => {
    const at = (value as Record<string, unknown>)[key];
    return isObject(at) ? at : {};
  };
  const scripts = Object.fromEntries(
    Object.entries(objectAt('scripts')).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
  const kinds = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'];
  return {
    scripts,
    dependencies: kinds.flatMap((kind) => Object.keys(objectAt(kind))),
    workspaces: 'workspaces' in value,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The text of a regular file at the top of a tree; undefined when there is none. A link could lead out of the tree. */
async function readPlain(tree: string, name: string): Promise<string | undefined> {
  const path = join(tree, name);
  try {
    const info = await lstat(path);
    if (!info.isFile()) throw failure('InvalidMeta', `${name}: must be a regular file.`);
    if (info.size > 1024 * 1024) throw failure('InvalidMeta', `${name}: is larger than 1 MiB.`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
