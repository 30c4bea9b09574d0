import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isAlive, readProc } from '../../src/runtime/local/proc.ts';
import { ask, createRig, marked, type Rig, server, slot, step, until, upstream } from './local-rig.ts';

let rig: Rig;
beforeEach(async () => {
  rig = await createRig();
});
afterEach(async () => {
  await rig.close();
});

describe('one preview', () => {
  test('comes up with a clean environment, ports of its own, and goes without a trace', async () => {
    const { runtime } = rig;
    const deployment = await rig.commit({
      Procfile:
        'release: echo release >> order\nsetup: echo "setup $DATABASE_URL" >> order\nweb: node s.js\napi: node s.js\nworker: sleep 1000',
      's.js': server(),
      'preview-meta.json': {
        routes: [
          { path: '/', port: 3000 },
          { path: '/api', port: 4000, service: 'api' },
        ],
      },
    });
    process.env.TEKTON_TEST_SECRET = 'of the worker';
    const name = deployment.container;
    await rig.up(runtime, deployment, { DATABASE_URL: "it's", PATH_INFO: 'x' });
    const web = await ask(await upstream(runtime, name, 3000));
    const api = await ask(await upstream(runtime, name, 4000));
    const home = join(rig.state, 'var/lib/tekton-containers', name, 'root/home/preview');
    expect(web.cwd).toBe(join(home, 'app'));
    expect(web.env).toMatchObject({ HOME: home, HOST: slot(1).address, DATABASE_URL: "it's", LANG: 'C.UTF-8' });
    expect(web.env.PORT).toBe(web.env.PORT_3000);
    expect(api.env.PORT).toBe(web.env.PORT_4000);
    expect(api.env.PORT).not.toBe(web.env.PORT);
    expect(
      Object.keys(web.env)
        .filter((key) => !/^(PORT.*|TEKTON_(CONTAINER|OWNER|SPAWN)|_|PWD|OLDPWD|SHLVL)$/.test(key))
        .sort(),
    ).toEqual(['DATABASE_URL', 'HOME', 'HOST', 'LANG', 'LOGNAME', 'PATH', 'PATH_INFO', 'SHELL', 'TMPDIR', 'USER']);
    expect(await readFile(join(home, 'app/order'), 'utf8')).toBe("setup it's\nrelease\n");
    expect((await stat(join(home, '../../etc/preview.env'))).mode & 0o777).toBe(0o600);
    expect((await runtime.services(name)).map((s) => [s.name, s.running])).toEqual([
      ['web', true],
      ['api', true],
      ['worker', true],
    ]);
    expect(await runtime.status(name)).toBe('up');
    const kinds = (await runtime.inventory('preview/acme/shop/42')).map((item) => item.kind);
    expect(new Set(kinds)).toEqual(new Set(['container', 'port', 'process']));
    expect(kinds.filter((kind) => kind === 'port')).toHaveLength(2);
    // Steps run at least once: again changes nothing.
    const closure = await runtime.buildClosure(deployment, step());
    expect(closure.cached).toBe(true);
    await runtime.runSetup(name, closure.meta, step());
    await runtime.startServices(name, closure.meta, step());
    expect((await ask(await upstream(runtime, name))).pid).toBe(web.pid);
    expect(await readFile(join(home, 'app/order'), 'utf8')).toBe("setup it's\nrelease\n");
    await expect(runtime.writeEnvironment(name, deployment, closure, {}, step())).rejects.toThrow('has been started');

    await runtime.destroyContainer(name, step());
    await runtime.destroyContainer(name, step());
    expect(await runtime.inventory('preview/acme/shop/42')).toEqual([]);
    expect(await runtime.status(name)).toBe('gone');
    expect(readProc(web.pid)).toBeUndefined();
    expect(await readdir(join(rig.root, 'claims'))).toEqual([]);
    expect(await readdir(join(rig.state, 'var/lib/tekton-containers'))).toEqual([]);
    expect((await runtime.logFiles('shop-42', 'app')).length).toBeGreaterThan(0);
    expect(await runtime.tail(name, 50)).toContain('web | listening');
  });

  test.each([
    ['0.0.0.0', `process.env.PORT, '0.0.0.0'`, /^127\.100\.0\.3:/],
    ['::', `process.env.PORT, '::'`, /^127\.100\.0\.3:/],
    [':: without IPv4', `{ port: process.env.PORT, host: '::', ipv6Only: true }`, /^\[::1\]:/],
    ['$HOST', 'process.env.PORT, process.env.HOST', /^127\.100\.0\.3:/],
    ['localhost', `process.env.PORT, 'localhost'`, /^(127\.0\.0\.1|\[::1\]):/],
    ['127.0.0.1', `process.env.PORT, '127.0.0.1'`, /^127\.0\.0\.1:/],
    ['::1', `process.env.PORT, '::1'`, /^\[::1\]:/],
  ])('an app that binds %s is found where it listens', async (_, listen, address) => {
    const deployment = await rig.commit({
      'package.json': { scripts: { start: 'exec node s.js' } },
      's.js': server(listen),
    });
    await rig.up(rig.runtime, deployment, {}, 1);
    const found = await upstream(rig.runtime, deployment.container);
    expect(found).toMatch(address);
    expect((await ask(found)).env.HOST).toBe('127.100.0.3');
  });

  test('an app that ignores PORT is found at its declared port; a port that is not declared is not published', async () => {
    const port = 31_000 + (process.pid % 1000);
    const deployment = await rig.commit({
      Procfile: 'app: node s.js',
      's.js': `${server(`${port}, '127.0.0.1'`)}${server(`0, '127.0.0.1'`)}`,
      'preview-meta.json': { routes: [{ path: '/', port }] },
    });
    await rig.up(rig.runtime, deployment);
    expect(await upstream(rig.runtime, deployment.container, port)).toBe(`127.0.0.1:${port}`);
    expect(await rig.runtime.upstreams(deployment.container, [port, 3000])).toHaveLength(1);
  });

  test.each([
    ['setsid in the Procfile', 'web: setsid node s.js'],
    ['a child that leaves its session, whose parent stays', 'web: setsid --fork node s.js; sleep 1000'],
    ['a child that drops its environment', 'web: env -i PORT=$PORT "$(command -v node)" s.js & wait'],
    ['a daemon without environment', 'web: setsid --fork env -i PORT=$PORT "$(command -v node)" s.js; sleep 1000'],
  ])('%s: found, and destroyed', async (_, Procfile) => {
    const deployment = await rig.commit({ Procfile, 's.js': server() });
    await rig.up(rig.runtime, deployment);
    const { pid } = await ask(await upstream(rig.runtime, deployment.container));
    const proc = readProc(pid);
    expect(proc).toBeDefined();
    expect((await rig.runtime.services(deployment.container))[0]?.restarts).toBe(0);
    await rig.runtime.destroyContainer(deployment.container, step());
    expect(proc && isAlive(proc)).toBe(false);
  });

  test('processes that ignore SIGTERM or fork for ever are killed all the same', async () => {
    const deployment = await rig.commit({
      Procfile: `web: node s.js\nstubborn: trap "" TERM; while :; do sleep 0.05; done\nforker: while :; do (trap "" TERM; setsid sleep 100) & sleep 0.02; done`,
      's.js': `process.on('SIGTERM', () => {});${server()}`,
    });
    await rig.up(rig.runtime, deployment);
    await upstream(rig.runtime, deployment.container);
    await rig.runtime.destroyContainer(deployment.container, step());
    expect(marked(`/${deployment.container}`).filter((pid) => pid !== process.pid)).toEqual([]);
  });

  test('a setup that fails says why, a second try runs it again, and nothing of it stays', async () => {
    const deployment = await rig.commit({
      Procfile: 'setup: sleep 1000 & echo "no such table" >&2; exit 3\nweb: sleep 1000',
    });
    await expect(rig.up(rig.runtime, deployment)).rejects.toMatchObject({
      type: 'SetupFailed',
      nonRetryable: true,
      message: "'setup' ended with exit code 3:\nno such table",
    });
    expect(marked(`/${deployment.container}`)).toEqual([]);
  });

  test('a destroy does not wait behind a setup that hangs', async () => {
    const deployment = await rig.commit({ Procfile: 'setup: echo begun; sleep 1000\nweb: sleep 1000' });
    const up = rig.up(rig.runtime, deployment);
    up.catch(() => {});
    await until(async () => (await rig.runtime.tail(deployment.container, 5)).includes('begun'));
    await rig.runtime.destroyContainer(deployment.container, step());
    await expect(up).rejects.toThrow('being destroyed');
    expect(marked(`/${deployment.container}`)).toEqual([]);
    expect(await rig.runtime.inventory('preview/acme/shop/42')).toEqual([]);
  });
});

describe('side by side', () => {
  test('two stacks on one machine share no port, and neither sees nor kills the other', async () => {
    const other = rig.open({}, join(rig.root, 'other'));
    const deployment = await rig.commit({ 'package.json': { scripts: { start: 'node s.js' } }, 's.js': server() });
    await Promise.all([rig.up(rig.runtime, deployment), rig.up(other, deployment)]);
    const [a, b] = [
      await ask(await upstream(rig.runtime, deployment.container)),
      await ask(await upstream(other, deployment.container)),
    ];
    expect(a.env.PORT).not.toBe(b.env.PORT);
    await rig.runtime.destroyContainer(deployment.container, step());
    expect((await ask(await upstream(other, deployment.container))).pid).toBe(b.pid);
    await other.destroyContainer(deployment.container, step());
    await other.close();
  });

  test('two deployments of one preview run beside each other, each with its own copy', async () => {
    const one = await rig.commit({ Procfile: 'web: date > mine; node s.js', 's.js': server() });
    const two = { ...one, container: 'second' };
    await rig.up(rig.runtime, one, {}, 1);
    await rig.up(rig.runtime, two, {}, 2);
    const [a, b] = [
      await ask(await upstream(rig.runtime, one.container)),
      await ask(await upstream(rig.runtime, 'second')),
    ];
    expect(a.cwd).not.toBe(b.cwd);
    expect(a.env.PORT).not.toBe(b.env.PORT);
    expect(existsSync(join(a.cwd, 'mine'))).toBe(true);
    expect((await rig.runtime.list()).map((c) => [c.name, c.status])).toEqual([
      [one.container, 'up'],
      ['second', 'up'],
    ]);
  });
});

describe('agents', () => {
  test('a container with a shell and the credentials, tightly kept; its shell dies with it', async () => {
    await mkdir(rig.layout.claudeSecrets, { recursive: true });
    await writeFile(join(rig.layout.claudeSecrets, '.credentials.json'), '{}', { mode: 0o644 });
    const meta = {
      appServices: [],
      database: 'container' as const,
      routes: [],
      hostSecrets: [],
      extraHosts: [],
      healthCheck: { path: '/', timeoutSeconds: 1 },
    };
    const closure = { path: '', meta, logPath: '', cached: true };
    await rig.runtime.createContainer(
      { name: 'aone', owner: 'agent/one', kind: 'agent', label: 'one', closure, slot: slot(3) },
      step(),
    );
    await rig.runtime.startContainer('aone', step());
    const { argv, cwd, env } = await rig.runtime.shell('aone');
    const { spawn } = await import('node:child_process');
    const [file = '', ...args] = argv;
    const shell = spawn(file, [...args, '-c', 'pwd; exec sleep 1000'], {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    const [out] = await new Promise<Buffer[]>((resolve) => shell.stdout.once('data', (data) => resolve([data])));
    expect(out?.toString().trim()).toBe(env.HOME);
    const creds = join(rig.layout.containers, 'aone/root/mnt/claude-creds/.credentials.json');
    expect((await stat(creds)).mode & 0o777).toBe(0o600);
    const gone = new Promise((resolve) => shell.once('exit', (_, signal) => resolve(signal)));
    expect((await rig.runtime.inventory('agent/one')).map((i) => i.kind)).toContain('process');
    await rig.runtime.destroyContainer('aone', step());
    expect(await gone).toMatch(/^SIG/);
    expect(await rig.runtime.inventory('agent/one')).toEqual([]);
  });
});
