import { existsSync } from 'node:fs';
import { readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { closureActivities } from '../../src/activities/closure.ts';
import { containerActivities } from '../../src/activities/container.ts';
import type { Closure, DeploymentRef } from '../../src/domain/preview.ts';
import { createMirror } from '../../src/host/mirror.ts';
import { createWaitingRoom } from '../../src/host/waiting-room.ts';
import { buildCommands, parsePackageJson } from '../../src/runtime/local/declared.ts';
import { parseListeners } from '../../src/runtime/local/listeners.ts';
import { tellingLines } from '../../src/runtime/local/logs.ts';
import { parseStat } from '../../src/runtime/local/proc.ts';
import { ask, createRig, marked, type Rig, server, slot, step, until, upstream } from './local-rig.ts';

let rig: Rig;
beforeEach(async () => {
  rig = await createRig();
});
afterEach(async () => {
  await rig.close();
});

const built = (deployment: DeploymentRef) => join(rig.layout.closures, 'acme/shop', deployment.sha);
const building = (deployment: DeploymentRef) => marked(`/${deployment.container}:build`);
const typeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => [error.type, error.nonRetryable, error.message],
  );

describe('a build', () => {
  test('installs what the lockfile says and runs the build script, once for a commit, in a clean environment', async () => {
    process.env.TEKTON_TEST_SECRET = 'of the worker';
    const deployment = await rig.commit({
      'package.json': {
        name: 'app',
        version: '1.0.0',
        scripts: { build: 'node b.js', start: 'node s.js' },
        dependencies: { lib: 'file:./lib' },
      },
      'package-lock.json': {
        name: 'app',
        version: '1.0.0',
        lockfileVersion: 3,
        requires: true,
        packages: {
          '': { name: 'app', version: '1.0.0', dependencies: { lib: 'file:./lib' } },
          lib: { version: '1.0.0' },
          'node_modules/lib': { resolved: 'lib', link: true },
        },
      },
      'lib/package.json': { name: 'lib', version: '1.0.0', main: 'i.js' },
      'lib/i.js': 'module.exports = 42',
      'b.js': `require('fs').writeFileSync('out.json', JSON.stringify({ lib: require('lib'), env: process.env })); console.log('built it')`,
      's.js': server(),
    });
    const said: string[] = [];
    // Asked for twice at once, by two runtimes even: built once.
    const [one, two] = await Promise.all([
      rig.runtime.buildClosure(deployment, step(undefined, said)),
      rig.open().buildClosure({ ...deployment, container: 'other' }, step()),
    ]);
    expect([one.cached, two.cached].sort()).toEqual([false, true]);
    expect(one.path).toBe(built(deployment));
    const { lib, env } = JSON.parse(await readFile(join(one.path, 'app/out.json'), 'utf8'));
    expect(lib).toBe(42);
    expect(env.TEKTON_TEST_SECRET ?? env.NODE_ENV).toBeUndefined();
    expect(env.HOME.startsWith(one.path)).toBe(true);
    expect((await readdir(one.path)).sort()).toEqual(['app', 'closure.json']);
    expect(await readdir(join(one.path, '..'))).toEqual([deployment.sha]);
    const logs = await Promise.all(
      (await rig.runtime.logFiles('shop-42', 'build')).map((path) => readFile(path, 'utf8')),
    );
    expect(logs.join('')).toMatch(/\$ npm ci\n[\s\S]*\$ npm run build --if-present\n[\s\S]*built it\n/);
    expect(one.meta).toMatchObject({ appServices: ['web'], routes: [{ path: '/', port: 3000, service: 'web' }] });
  });

  test('that fails says why, in its own last lines, and leaves nothing but its log', async () => {
    const deployment = await rig.commit({
      'package.json': {
        scripts: {
          build: `(setsid sleep 1000 &); echo compiling; echo "x.ts(3): no such thing" >&2; exit 2`,
          start: 'node s',
        },
      },
    });
    const [type, nonRetryable, message] = (await typeOf(rig.runtime.buildClosure(deployment, step()))) as string[];
    expect([type, nonRetryable]).toEqual(['BuildFailed', true]);
    expect(message).toBe('npm run build ended with exit code 2:\ncompiling\nx.ts(3): no such thing');
    expect(building(deployment)).toEqual([]);
    expect(await readdir(join(rig.layout.closures, 'acme/shop'))).toEqual([]);
  });

  test('that is cancelled is dead, children that left their session included, before the call returns; the next one builds', async () => {
    const deployment = await rig.commit({
      'package.json': {
        scripts: {
          build: `test -e ${rig.root}/go && exit 0; setsid --fork sleep 1000; echo waiting; sleep 1000`,
          start: 'node s',
        },
      },
    });
    const abort = new AbortController();
    const said: string[] = [];
    const build = rig.runtime.buildClosure(deployment, step(abort.signal, said));
    build.catch(() => {});
    await until(() => building(deployment).length >= 4);
    await until(() => said.some((text) => text === 'npm run build: waiting'));
    abort.abort(new CancelledFailure('superseded'));
    await expect(build).rejects.toThrow('superseded');
    expect(building(deployment)).toEqual([]);

    const again = rig.runtime.buildClosure(deployment, step());
    again.catch(() => {});
    await until(() => building(deployment).length >= 4);
    // From elsewhere, as the undo does it.
    await rig.open().abortBuild(deployment.container);
    expect(building(deployment)).toEqual([]);
    await expect(again).rejects.toThrow('SIGKILL');
    await writeFile(join(rig.root, 'go'), '');
    expect((await rig.runtime.buildClosure(deployment, step())).cached).toBe(false);
    expect(await readdir(join(rig.layout.closures, 'acme/shop'))).toEqual([deployment.sha]);
  });

  test('is not even begun for a fork, an unknown commit, or a tree that says nothing valid of itself', async () => {
    const deployment = await rig.commit({ 'README.md': 'hello' });
    const build = (one: DeploymentRef) => typeOf(rig.runtime.buildClosure(one, step()));
    expect(await build({ ...deployment, fork: true })).toMatchObject([
      'ForkRefused',
      true,
      expect.stringContaining('fork'),
    ]);
    expect(await build({ ...deployment, sha: 'a'.repeat(40) })).toMatchObject([
      'CommitNotFound',
      true,
      expect.stringContaining('aaa'),
    ]);
    expect(await build(deployment)).toMatchObject(['InvalidMeta', true, expect.stringContaining('Procfile')]);
    const wrong: [Record<string, string | object>, string][] = [
      [{ Procfile: 'release: true' }, 'no line that keeps running'],
      [{ Procfile: 'web' }, 'line 1'],
      [{ Procfile: 'web: x', 'preview-meta.json': { appServices: ['api'] } }, "appServices names 'api'"],
      [{ Procfile: 'web: x', 'preview-meta.json': { setupService: 'migrate' } }, "setupService names 'migrate'"],
      [{ Procfile: 'web: x', 'preview-meta.json': { rouets: [] } }, 'rouets'],
      [{ Procfile: 'web: x', 'preview-meta.json': '{' }, 'JSON'],
      [
        { Procfile: 'web: x', 'preview-meta.json': { routes: [{ path: '/', port: 1, service: 'y' }] } },
        "names the service 'y'",
      ],
      [{ 'package.json': { scripts: {} } }, "no 'start' script"],
      [{ 'package.json': '[]' }, 'must be an object'],
    ];
    for (const [files, text] of wrong) {
      expect(await build(await rig.commit(files))).toMatchObject(['InvalidMeta', true, expect.stringContaining(text)]);
    }
  });

  test('meta names a setup of another name; setup, that one, release run in this order', async () => {
    const deployment = await rig.commit({
      Procfile:
        'release: echo release >> order\nseed: echo seed >> order\nsetup: echo setup >> order\nweb: exec node s.js',
      's.js': server(),
      'preview-meta.json': { setupService: 'seed' },
    });
    await rig.up(rig.runtime, deployment);
    const { cwd } = await ask(await upstream(rig.runtime, deployment.container));
    expect(await readFile(join(cwd, 'order'), 'utf8')).toBe('setup\nseed\nrelease\n');
  });

  test('the cache keeps what is in use and what was used last; what it dropped is built again when needed', async () => {
    const runtime = rig.open({ keepClosures: 1 });
    const deployments: DeploymentRef[] = [];
    for (let i = 0; i < 3; i++) {
      const deployment = await rig.commit({ Procfile: 'web: exec node s.js', 's.js': server(), i: String(i) });
      deployments.push(deployment);
      if (i === 0) await rig.up(runtime, deployment);
      else await runtime.buildClosure(deployment, step());
      await utimes(built(deployment), new Date(i * 1e6), new Date(i * 1e6));
    }
    const last = await rig.commit({ Procfile: 'web: exec node s.js', i: '3' });
    await runtime.buildClosure(last, step());
    const [used, dropped] = deployments.map(built);
    await until(() => !existsSync(String(dropped)));
    expect(existsSync(String(used))).toBe(true);
    expect(existsSync(built(last))).toBe(true);

    const [, second] = deployments as [DeploymentRef, DeploymentRef];
    const closure = await runtime.buildClosure(second, step());
    await rm(closure.path, { recursive: true });
    const name = second.container;
    await runtime.createContainer(
      { name, owner: 'o', kind: 'preview', label: 'shop-42', closure, slot: slot(5) },
      step(),
    );
    await runtime.writeEnvironment(name, second, closure, {}, step());
    await runtime.startContainer(name, step());
    await runtime.startServices(name, closure.meta, step());
    expect((await ask(await upstream(runtime, name))).env.HOST).toBe('127.100.0.11');
  });
});

describe('activities', () => {
  test('a build waits for its place, is cancelled with its activity, and a built one needs no place', async () => {
    const layout = rig.layout;
    const mirror = createMirror({ layout, gitBaseUrl: join(rig.root, 'repos') });
    const builds = createWaitingRoom(1);
    const { buildClosure, abortBuild, resolveBranch } = closureActivities({ runtime: rig.runtime, mirror, builds });
    const slow = await rig.commit({ 'package.json': { scripts: { build: 'sleep 1000', start: 'x' } } });
    const quick = await rig.commit({ Procfile: 'web: sleep 1000' });
    const run = (deployment: DeploymentRef, said: unknown[] = []) => {
      const env = new MockActivityEnvironment();
      env.on('heartbeat', (detail) => said.push(detail));
      return { env, done: env.run(buildClosure, { deployment }) as Promise<Closure> };
    };
    const first = run(slow);
    first.done.catch(() => {});
    await until(() => building(slow).length > 0);
    const said: unknown[] = [];
    const second = run(quick, said);
    await until(() => said.includes('waits for a build place, place 1'));
    first.env.cancel('CANCELLED');
    await expect(first.done).rejects.toBeInstanceOf(CancelledFailure);
    expect(building(slow)).toEqual([]);
    expect((await second.done).cached).toBe(false);

    const leave = await builds.enter({ key: 'somebody', since: 0 });
    expect((await run(quick).done).cached).toBe(true);
    leave();
    await new MockActivityEnvironment().run(abortBuild, { container: slow.container });
    const source = { owner: 'acme', repo: 'shop', branch: 'nope' };
    expect(await typeOf(new MockActivityEnvironment().run(resolveBranch, { source }))).toEqual([
      'BranchNotFound',
      true,
      "acme/shop has no branch 'nope'.",
    ]);
  });

  test('an agent: created, seen, destroyed', async () => {
    const { createAgent, destroyAgent, readAgentInventory } = containerActivities({
      runtime: rig.runtime,
      layout: rig.layout,
    });
    const env = new MockActivityEnvironment();
    const agent = { name: 'one', workflowId: 'agent/one', container: 'aone' };
    await env.run(createAgent, { ...agent, slot: slot(7) });
    await env.run(createAgent, { ...agent, slot: slot(7) });
    expect(await rig.runtime.list()).toMatchObject([{ name: 'aone', owner: 'agent/one', kind: 'agent', status: 'up' }]);
    expect(await env.run(readAgentInventory, agent)).toEqual([{ kind: 'container', name: 'aone' }]);
    await env.run(destroyAgent, agent);
    expect(await env.run(readAgentInventory, agent)).toEqual([]);
  });
});

describe('pure parts', () => {
  test('which npm commands build a tree', () => {
    const argvs = (json: object, lockfile = false, bindingGyp = false) =>
      buildCommands(parsePackageJson(JSON.stringify(json)), { lockfile, bindingGyp }).map(({ argv }) => argv.join(' '));
    expect(argvs({})).toEqual([]);
    expect(argvs({ scripts: { start: 'x', test: 'y' }, dependencies: {} }, true)).toEqual([]);
    expect(argvs({ dependencies: { a: '1' } }, true)).toEqual(['npm ci']);
    expect(argvs({ devDependencies: { a: '1' }, scripts: { build: 'x' } })).toEqual([
      'npm install --no-audit --no-fund',
      'npm run build --if-present',
    ]);
    expect(argvs({ scripts: { prepare: 'x' } })).toEqual(['npm install --no-audit --no-fund']);
    expect(argvs({ workspaces: ['a'] }, true)).toEqual(['npm ci']);
    expect(argvs({}, false, true)).toEqual(['npm install --no-audit --no-fund']);
    expect(buildCommands(undefined, { lockfile: true, bindingGyp: false })).toEqual([]);
  });

  test('what tells why a build failed, without the noise around it', () => {
    const output = [
      'npm warn deprecated x@1',
      '> app@1.0.0 build',
      '> tsc',
      '',
      "src/x.ts(3,1): error TS2304: Cannot find name 'y'.",
      'npm error Lifecycle script `build` failed with error:',
      'npm error code 2',
      'npm error path /x',
      'npm error A complete log of this run can be found in: /x/_logs/y.log',
    ].join('\n');
    expect(tellingLines(output, 5)).toEqual(["src/x.ts(3,1): error TS2304: Cannot find name 'y'."]);
    expect(tellingLines('npm error code ERESOLVE\nnpm error ERESOLVE unable to resolve', 5)).toHaveLength(2);
    expect(tellingLines('npm warn only', 5)).toEqual(['npm warn only']);
  });

  test("the kernel's tables", () => {
    const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
    const row = (address: string, state = '0A') =>
      `   0: ${address}:1F90 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 4242 1\n`;
    const addresses = (...rows: string[]) => parseListeners(head + rows.join('')).map((one) => one.address);
    expect(parseListeners(head + row('0100007F'))).toEqual([{ address: '127.0.0.1', port: 8080, inode: 4242 }]);
    expect(addresses(row('0100007F', '01'))).toEqual([]);
    expect(
      addresses(row('0'.repeat(32)), row(`${'0'.repeat(24)}01000000`), row('0000000000000000FFFF00000301647F')),
    ).toEqual(['::', '::1', '127.100.1.3']);
    expect(addresses(row('000080FE00000000FF005450B30AF0FE'))).toEqual(['fe80::5054:ff:fef0:ab3']);
    expect(parseStat('7 (a) b) (c) S 1 7 6 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 99 4096 1')).toEqual({
      pid: 7,
      ppid: 1,
      pgid: 7,
      sid: 6,
      start: 99,
      size: 4096,
    });
    expect(parseStat('7 (a) Z 1 7 6 0')).toBeUndefined();
  });

  test('a Procfile that is a link out of the tree is not read', async () => {
    const deployment = await rig.commit({ a: '1' });
    await symlink('/etc/passwd', join(rig.root, 'work/Procfile'));
    const { execFileSync } = await import('node:child_process');
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], {
        cwd: join(rig.root, 'work'),
        encoding: 'utf8',
      }).trim();
    git('add', '-A');
    git('commit', '-q', '-m', 'link');
    git('push', '-q', join(rig.root, 'repos/acme/shop.git'), 'HEAD:refs/pull/42/head');
    const sha = git('rev-parse', 'HEAD');
    expect(await typeOf(rig.runtime.buildClosure({ ...deployment, sha }, step()))).toEqual([
      'InvalidMeta',
      true,
      'Procfile: must be a regular file.',
    ]);
  });
});
