/** `npm run demo`: a pull request's whole life on the real stack: opened, pushed to, closed. Exit 0 only if everything held. */
import { once } from 'node:events';
import { chmod, cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { hostLayout } from '../host/layout.ts';
import { createMachineClaims } from '../host/machine-claims.ts';
import { type Stack, startStack } from '../stack/stack.ts';
import { withTemporal } from './connection.ts';
import { createNarrator, type Narrator } from './demo/narrator.ts';
import { makeDemoRepository } from './demo/repository.ts';
import { type Opened, type Scene, tellClosed, tellOpened, tellPushed, thingsToTry } from './demo/scenes.ts';
import { duration } from './render.ts';

const usage = `npm run demo             a pull request is opened, pushed to and closed; ends by itself
npm run demo -- --keep   stays up after the push, for looking around; Ctrl-C ends it
`;

const example = fileURLToPath(new URL('../../examples/hello', import.meta.url));

/** Longer than any start takes on two slow cores, downloads left out of it. */
const startLimitMs = 180_000;

process.exitCode = await demo(process.argv.slice(2));

async function demo(args: string[]): Promise<number> {
  const options = readArguments(args);
  if (typeof options === 'number') return options;
  const started = Date.now();
  const narrator = createNarrator((line) => process.stdout.write(`${line}\n`), started);
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new Error('interrupted'));
  // Each time, not once: npm hands Ctrl-C on, so it comes twice, and the second must not end us halfway through stopping.
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);

  const folder = await mkdtemp(join(tmpdir(), 'tekton-demo-'));
  // PostgreSQL runs under another user when this is root, and has to get in.
  await chmod(folder, 0o755);
  const wrong = await play(folder, narrator, interrupted.signal, options.keep);
  if (wrong.length > 0) {
    const kept = await keepLogs(folder);
    const list = wrong.map((text) => `  ✗ ${text}\n`).join('');
    process.stderr.write(`The demo failed:\n${list}The logs are kept in ${kept}\n`);
  }
  await forget(folder);
  if (wrong.length > 0) return 1;
  if (!interrupted.signal.aborted) {
    narrator.say(`everything held, in ${duration(Date.now() - started)}; what it made is removed`);
    return 0;
  }
  narrator.say('stopped; what it made is removed');
  return options.keep ? 0 : 130;
}

/** Starts the stack, plays the scenes and stops it again; gives what did not hold. */
async function play(folder: string, narrator: Narrator, signal: AbortSignal, keep: boolean): Promise<string[]> {
  const wrong: string[] = [];
  let stack: Stack | undefined;
  try {
    narrator.chapter('A repository, and the stack of one machine');
    const repository = await makeDemoRepository(folder, example);
    const [first, second] = repository.commits.map((sha) => sha.slice(0, 8));
    narrator.say(`a bare repository acme/hello with pull request #1: commit ${first} first, ${second} later`);
    stack = await start(folder, repository.baseUrl, signal, narrator.say);
    const { record } = stack;
    narrator.say(`Temporal shows everything at ${record.temporalUiUrl}`);
    await withTemporal({ stateDir: record.stateDir }, async ({ client }) => {
      const scene: Scene = { narrator, record, repository, client, signal };
      const opened = await tellOpened(scene);
      await tellPushed(scene, opened);
      if (keep) await stayUp(scene, opened);
      else await tellClosed(scene, opened);
    });
  } catch (error) {
    if (!signal.aborted) wrong.push(messageOf(error));
  }
  narrator.chapter('The end');
  await stack?.stop().catch((error) => wrong.push(messageOf(error)));
  return [...narrator.broken, ...wrong];
}

async function stayUp(scene: Scene, opened: Opened): Promise<void> {
  const { narrator, signal } = scene;
  narrator.chapter('It stays up until Ctrl-C');
  for (const line of thingsToTry(scene, opened)) process.stdout.write(`  ${line}\n`);
  if (!signal.aborted) await once(signal, 'abort');
}

function readArguments(args: string[]): { keep: boolean } | number {
  try {
    const { values } = parseArgs({
      args,
      options: { keep: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    if (!values.help) return { keep: values.keep === true };
    process.stdout.write(usage);
    return 0;
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n${usage}`);
    return 2;
  }
}

/** A stack of its own: free ports, a folder that goes with it, and nothing of what the person's shell says of other stacks. */
async function start(
  folder: string,
  gitBaseUrl: string,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<Stack> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(GITHUB_|ALLOWED_REPOS$|DATABASE_ADMIN_URL$|TEKTON_(?!CADDY|TEMPORAL|POSTGRES))/.test(name),
    ),
  );
  const began = Date.now();
  const stack = await startStack({
    stateDir: join(folder, 'state'),
    ports: { http: 0, webhook: 0, temporal: 0, temporalUi: 0, postgres: 0, caddyAdmin: 0, metrics: 0 },
    allowedRepos: 'acme/hello',
    gitBaseUrl,
    env,
    signal: AbortSignal.any([signal, AbortSignal.timeout(startLimitMs)]),
    onComponent: ({ name, version, origin }) => say(`found ${name} ${version} (${origin})`),
    onNotice: say,
    onEvent: (service, event) => {
      if (event.kind === 'died') say(`${service} died (${event.how}) and is started again`);
    },
  });
  say(`Temporal, PostgreSQL, Caddy, worker and webhook serve after ${duration(Date.now() - began)}`);
  return stack;
}

/** Removes the folder, and what the machine keeps of the stack that lived in it. */
async function forget(folder: string): Promise<void> {
  const state = join(folder, 'state');
  const { containers } = hostLayout(state);
  const names = await readdir(containers).catch(() => []);
  await rm(folder, { recursive: true, force: true });
  const claims = createMachineClaims();
  for (const owner of [state, ...names.map((name) => join(containers, name))]) {
    await claims.releaseAll('port', owner);
    await claims.releaseAll('subnet', owner);
  }
}

async function keepLogs(folder: string): Promise<string> {
  const kept = await mkdtemp(join(tmpdir(), 'tekton-demo-logs-'));
  await cp(hostLayout(join(folder, 'state')).logs, kept, { recursive: true }).catch(() => undefined);
  return kept;
}

function messageOf(error: unknown): string {
  if (process.env.DEBUG && error instanceof Error) return String(error.stack);
  return error instanceof Error ? error.message : String(error);
}
