/** A real repository, a real mirror and a local runtime in a folder of its own, for the tests of the local runtime. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import type { DeploymentRef, Slot } from '../../src/domain/preview.ts';
import { hostLayout } from '../../src/host/layout.ts';
import { createMachineClaims } from '../../src/host/machine-claims.ts';
import { createMirror } from '../../src/host/mirror.ts';
import { createLocalRuntime, type LocalRuntimeOptions } from '../../src/runtime/local/index.ts';
import { takeSnapshot } from '../../src/runtime/local/proc.ts';
import type { Runtime, Step } from '../../src/runtime/runtime.ts';

export const step = (signal = new AbortController().signal, said: string[] = []): Step => ({
  signal,
  progress: (text) => void said.push(text),
});

export const slot = (number: number): Slot => ({
  number,
  hostAddress: `127.100.0.${2 * number}`,
  address: `127.100.0.${2 * number + 1}`,
});

/** A server that answers with what it finds in its environment; `listen` is the code's own listen arguments. */
export const server = (listen = 'process.env.PORT') => `
  require('http').createServer((q, s) => s.end(JSON.stringify({ env: process.env, cwd: process.cwd(), pid: process.pid })))
    .listen(${listen}, () => console.log('listening'));`;

export type Rig = Awaited<ReturnType<typeof createRig>>;

export async function createRig() {
  const root = await mkdtemp(join(tmpdir(), 'tekton-local-test-'));
  const work = join(root, 'work');
  const bare = join(root, 'repos/acme/shop.git');
  const state = join(root, 'state');
  const git = (cwd: string, ...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], {
      cwd,
      encoding: 'utf8',
    }).trim();
  git(root, 'init', '-q', '--bare', bare);
  git(root, 'init', '-q', '-b', 'main', work);
  let deployments = 0;
  const runtimes: Runtime[] = [];

  function open(options: Partial<LocalRuntimeOptions> = {}, at = state): Runtime {
    const layout = hostLayout(at);
    const runtime = createLocalRuntime({
      layout,
      mirror: createMirror({ layout, gitBaseUrl: join(root, 'repos') }),
      logger: pino({ level: 'silent' }),
      claims: createMachineClaims(join(root, 'claims')),
      graceMs: 300,
      ...options,
    });
    runtimes.push(runtime);
    return runtime;
  }

  const rig = {
    root,
    state,
    layout: hostLayout(state),
    open,
    runtime: open(),

    /** Commits these files (and only these) and names the deployment of that commit. */
    async commit(files: Record<string, string | object>): Promise<DeploymentRef> {
      git(work, 'rm', '-rqf', '--ignore-unmatch', '.');
      for (const [name, text] of Object.entries(files)) {
        await mkdir(dirname(join(work, name)), { recursive: true });
        await writeFile(join(work, name), typeof text === 'string' ? text : JSON.stringify(text));
      }
      git(work, 'add', '-A');
      git(work, 'commit', '-q', '--allow-empty', '-m', 'c');
      git(work, 'push', '-q', '-f', bare, 'HEAD:refs/pull/42/head');
      const sha = git(work, 'rev-parse', 'HEAD');
      const preview = { owner: 'acme', repo: 'shop', number: 42, workflowId: 'preview/acme/shop/42', slug: 'shop-42' };
      return { preview, container: `pc${++deployments}`, sha, ref: 'refs/pull/42/head', fork: false };
    },

    /** From closure to started services, as the workflow does it. */
    async up(runtime: Runtime, deployment: DeploymentRef, env: Record<string, string> = {}, number = deployments) {
      const closure = await runtime.buildClosure(deployment, step());
      const name = deployment.container;
      const { slug: label, workflowId: owner } = deployment.preview;
      await runtime.createContainer({ name, owner, kind: 'preview', label, closure, slot: slot(number) }, step());
      await runtime.writeEnvironment(name, deployment, closure, env, step());
      await runtime.startContainer(name, step());
      await runtime.runSetup(name, closure.meta, step());
      await runtime.startServices(name, closure.meta, step());
      return closure;
    },

    async close() {
      const killer = open();
      for (const { name } of await killer.list()) await killer.destroyContainer(name, step());
      for (const runtime of runtimes) await runtime.close();
      await rm(root, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return rig;
}

/** Asks until the answer is there; throws after 10 s. */
export async function until<T>(ask: () => Promise<T | undefined> | T | undefined, what = 'it'): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what} did not come about within 10 s`);
    await sleep(20);
  }
}

/** The one upstream of a container, once something listens. */
export async function upstream(runtime: Runtime, name: string, port = 3000): Promise<string> {
  return await until(async () => (await runtime.upstreams(name, [port]))[0]?.address, `a listener of ${name}`);
}

export interface Answer {
  env: Record<string, string>;
  cwd: string;
  pid: number;
}

export async function ask(address: string): Promise<Answer> {
  return (await (await fetch(`http://${address}/`)).json()) as Answer;
}

/** Pids of all processes in whose environment the text stands. */
export function marked(text: string): number[] {
  const now = takeSnapshot();
  return now.procs
    .filter(({ pid }) => [...now.environ(pid)].some(([name, value]) => `${name}=${value}`.includes(text)))
    .map((proc) => proc.pid);
}
