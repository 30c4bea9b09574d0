import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createMachineClaims, isFree } from '../../src/host/machine-claims.ts';
import { caddyArgv } from '../../src/stack/caddy.ts';
import { choosePorts, machinePortCheck, type PortName, type Ports, portTable } from '../../src/stack/ports.ts';
import { adminUrl, hbaText, initdbArgv, postgresArgv } from '../../src/stack/postgres.ts';
import { becomeSupervisor, readStack } from '../../src/stack/record.ts';
import { secretOf } from '../../src/stack/secret.ts';
import { type StackSettings, serviceEnvironment } from '../../src/stack/services.ts';
import { chooseSubnet } from '../../src/stack/subnet.ts';
import { temporalArgv } from '../../src/stack/temporal.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tekton-stack-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('what is run', () => {
  test('Temporal', () => {
    const settings = { program: '/bin/temporal', database: '/s/temporal.db', port: 7233, uiPort: 8233 };
    expect(temporalArgv(settings).join(' ')).toBe(
      '/bin/temporal server start-dev --db-filename /s/temporal.db --ip 127.0.0.1 --port 7233 --ui-port 8233 ' +
        '--ui-disable-news-fetch --log-level warn ' +
        '--search-attribute TektonRepo=Keyword --search-attribute TektonPr=Int --search-attribute TektonSlug=Keyword ' +
        '--search-attribute TektonPhase=Keyword --search-attribute TektonHost=Keyword --search-attribute TektonSha=Keyword ' +
        '--dynamic-config-value matching.numTaskqueueReadPartitions=1 ' +
        '--dynamic-config-value matching.numTaskqueueWritePartitions=1',
    );
  });

  test('PostgreSQL', () => {
    expect(postgresArgv('/pg/bin/postgres', '/s/data', 15432).join(' ')).toBe(
      '/pg/bin/postgres -D /s/data -c listen_addresses=127.0.0.1 -c port=15432 -c unix_socket_directories= ' +
        '-c max_connections=300 -c jit=off -c log_min_messages=warning',
    );
    expect(initdbArgv('/pg/bin/postgres', '/s/data', '/s/password').join(' ')).toBe(
      '/pg/bin/initdb --pgdata /s/data --username tekton --auth scram-sha-256 --pwfile /s/password --encoding UTF8 --locale C',
    );
    expect(hbaText()).toBe(`# Written by tekton.
# TYPE  DATABASE  USER     ADDRESS        METHOD
host    all       tekton   127.0.0.1/32   scram-sha-256
host    sameuser  all      127.0.0.1/32   scram-sha-256
`);
    expect(adminUrl(15432, 'abc')).toBe('postgres://tekton:abc@127.0.0.1:15432/postgres');
  });

  test('Caddy', () => {
    expect(caddyArgv('/bin/caddy', '/s/Caddyfile').join(' ')).toBe(
      '/bin/caddy run --config /s/Caddyfile --adapter caddyfile',
    );
  });
});

describe('what worker and webhook are told', () => {
  const settings: StackSettings = {
    stateDir: '/s',
    host: 'local',
    domain: 'preview.localhost',
    subnet: '127.100.0.0/24',
    ports: {
      http: 8080,
      webhook: 3100,
      temporal: 7233,
      temporalUi: 8233,
      postgres: 15432,
      caddyAdmin: 2019,
      metrics: 9464,
    },
    allowedRepos: '*',
    webhookSecret: 'hook',
    databaseAdminUrl: 'postgres://tekton:pw@127.0.0.1:15432/postgres',
    programs: { temporal: '/t', postgres: '/p', caddy: '/c' },
    caddyfile: '/s/Caddyfile',
    postgres: { data: '/s/data', user: undefined },
  };
  const base = {
    PATH: '/bin',
    GITHUB_TOKEN: 'token',
    TEMPORAL_ADDRESS: 'cloud:7233',
    TEMPORAL_API_KEY: 'key',
    GIT_BASE_URL: '/repos',
  };

  test('the worker: this stack, the person’s credentials, and never another Temporal', () => {
    expect(serviceEnvironment('worker', base, settings)).toEqual({
      PATH: '/bin',
      GITHUB_TOKEN: 'token',
      GIT_BASE_URL: '/repos',
      MALLOC_ARENA_MAX: '2',
      PREVIEW_DOMAIN: 'preview.localhost',
      ALLOWED_REPOS: '*',
      TEKTON_RUNTIME: 'local',
      TEKTON_HOST: 'local',
      TEKTON_SUBNET: '127.100.0.0/24',
      TEKTON_STATE_DIR: '/s',
      TEKTON_PUBLIC_SCHEME: 'http',
      TEKTON_PUBLIC_PORT: '8080',
      WEBHOOK_HOST: '127.0.0.1',
      WEBHOOK_PORT: '3100',
      METRICS_PORT: '9464',
      CADDY_ADMIN: 'http://127.0.0.1:2019',
      TEMPORAL_ADDRESS: '127.0.0.1:7233',
      TEMPORAL_NAMESPACE: 'default',
      TEMPORAL_CONFIG_FILE: '/s/no-temporal.toml',
      GITHUB_WEBHOOK_SECRET: '',
      DATABASE_ADMIN_URL: 'postgres://tekton:pw@127.0.0.1:15432/postgres',
      TEKTON_STOP_APPS: '1',
    });
  });

  test('each gets only the secret it needs', () => {
    const env = serviceEnvironment('webhook', { ...base, GITHUB_WEBHOOK_SECRET: 'other' }, settings);
    expect(env).toMatchObject({ GITHUB_WEBHOOK_SECRET: 'hook', DATABASE_ADMIN_URL: '' });
    expect(env).not.toHaveProperty('TEKTON_STOP_APPS');
  });
});

describe('ports', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });
  const occupy = () =>
    new Promise<number>((resolve) => {
      const server = createServer();
      servers.push(server);
      server.listen({ host: '127.0.0.1', port: 0 }, () => resolve((server.address() as { port: number }).port));
    });
  /** Any free port for all but what the test is about. */
  const anyPorts = Object.fromEntries(Object.keys(portTable).map((name) => [name, 0])) as Ports;
  const check = (owner: string) =>
    machinePortCheck(createMachineClaims(join(folder, 'port-claims')), join(folder, owner));
  const notices: string[] = [];
  const notice = (text: string) => void notices.push(text);
  beforeAll(async () => {
    // A claim lasts as long as its owner's path exists.
    await writeFile(join(folder, 'one'), '');
    await writeFile(join(folder, 'two'), '');
  });

  test('a flag’s port that is in use is an error that names both', async () => {
    const http = await occupy();
    await expect(choosePorts({ ...anyPorts, http }, undefined, check('one'), notice)).rejects.toThrow(
      `port ${http} (--http-port, for previews (plain HTTP)) is in use: free it, or choose another with --http-port`,
    );
  });

  test('those of last time are taken again; one that is taken meanwhile moves, with a notice', async () => {
    const first = await choosePorts(anyPorts, undefined, check('one'), notice);
    expect(new Set(Object.values(first)).size).toBe(Object.keys(portTable).length);
    expect(await choosePorts({}, first, check('one'), notice)).toEqual(first);

    const postgres = await occupy();
    notices.length = 0;
    const second = await choosePorts({}, { ...first, postgres }, check('one'), notice);
    expect(second).toEqual({ ...first, postgres: second.postgres });
    expect(notices).toEqual([
      `PostgreSQL: port ${postgres} of last time is taken, now ${second.postgres} (--postgres-port)`,
    ]);
  });

  test('a port of another stack is left alone although nobody listens there', async () => {
    const one = await choosePorts(anyPorts, undefined, check('one'), notice);
    const two = await choosePorts({}, one, check('two'), notice);
    for (const name of Object.keys(portTable) as PortName[]) expect(two[name]).not.toBe(one[name]);
  });

  test('a port with a listener on any address is not free', async () => {
    expect(await isFree(await occupy())).toBe(false);
  });
});

describe('subnets', () => {
  test('two stacks never share one; each keeps its own', async () => {
    const claims = createMachineClaims(join(folder, 'subnet-claims'));
    const [a, b] = ['a', 'b'].map((name) => join(folder, name)) as [string, string];
    await Promise.all([writeFile(a, ''), writeFile(b, '')]);
    expect(await chooseSubnet(undefined, undefined, claims, a)).toBe('127.100.0.0/24');
    expect(await chooseSubnet(undefined, undefined, claims, b)).toBe('127.101.0.0/24');
    expect(await chooseSubnet(undefined, '127.100.0.0/24', claims, a)).toBe('127.100.0.0/24');
    await expect(chooseSubnet('127.100.0.0/24', undefined, claims, b)).rejects.toThrow(
      /belongs to another stack.*--subnet/,
    );
  });
});

describe('the state folder', () => {
  test('a second supervisor is refused, naming the first; one that is gone is no hindrance', async () => {
    const stateDir = join(folder, 'state');
    const release = await becomeSupervisor(stateDir);
    await expect(becomeSupervisor(stateDir)).rejects.toThrow(`\`tekton up\` with pid ${process.pid}. Stop that one`);
    await release();
    await writeFile(join(stateDir, 'run/tekton/up.json'), JSON.stringify({ pid: process.pid, start: 1 }));
    await (await becomeSupervisor(stateDir))();
    expect(await readStack(stateDir)).toBeUndefined();
  });

  test('a secret is made once, for its owner’s eyes', async () => {
    const file = join(folder, 'secrets/hook');
    const secret = await secretOf(file);
    expect(secret).toMatch(/^[0-9a-f]{64}$/);
    expect(await secretOf(file)).toBe(secret);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, 'utf8')).toBe(`${secret}\n`);
  });
});
