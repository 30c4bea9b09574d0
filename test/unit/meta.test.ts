import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  declaredPorts,
  MetaError,
  parsePreviewMeta,
  parsePreviewMetaJson,
  servicePort,
} from '../../src/domain/meta.ts';

const smallest = { appServices: ['web'], routes: [{ path: '/', port: 3000 }] };

function problems(value: unknown): readonly string[] {
  try {
    parsePreviewMeta(value);
  } catch (error) {
    expect(error).toBeInstanceOf(MetaError);
    return (error as MetaError).problems;
  }
  return [];
}

describe('a valid meta', () => {
  it('gets its defaults', () => {
    expect(parsePreviewMeta(smallest)).toEqual({
      appServices: ['web'],
      database: 'container',
      routes: [{ path: '/', port: 3000, stripPrefix: false }],
      hostSecrets: [],
      extraHosts: [],
      healthCheck: { path: '/', timeoutSeconds: 300 },
    });
  });

  it('keeps all it says, /api/* as /api', () => {
    const routes = [
      { path: '/', port: 3000, stripPrefix: false, service: 'web' },
      { path: '/api/*', port: 4000, stripPrefix: true, service: 'app@1.service' },
    ];
    const full = {
      setupService: 'setup-db',
      appServices: ['web', 'app@1.service'],
      database: 'host',
      routes,
      hostSecrets: ['STRIPE_KEY', '_x'],
      extraHosts: [{ prefix: 'admin', routes: [{ path: '/*', port: 5000, stripPrefix: false }] }],
      healthCheck: { path: '/healthz/?full=1', timeoutSeconds: 20 },
    };
    expect(parsePreviewMeta(full)).toEqual({
      ...full,
      routes: [routes[0], { ...routes[1], path: '/api' }],
      extraHosts: [{ prefix: 'admin', routes: [{ path: '/', port: 5000, stripPrefix: false }] }],
    });
  });

  it('takes what the text leaves out from the defaults', () => {
    const meta = parsePreviewMetaJson('\ufeff{"database":"host"}', parsePreviewMeta(smallest));
    expect(meta).toEqual({ ...parsePreviewMeta(smallest), database: 'host' });
  });
});

describe('an invalid meta', () => {
  it('is told every problem by its path', () => {
    expect(
      problems({
        appServices: ['web', 'web', '-x'],
        setupService: 'web',
        routes: [
          { path: '/', port: 1 },
          { path: '/api/*', port: 99_999, prot: 1 },
          { path: '/API', port: '80' },
        ],
        database: 'mysql',
        hostSecrets: ['PREVIEW_SHA', 'A-B'],
        extraHosts: [{ prefix: 'api', routes: [{ path: '/a', port: 3 }] }, { prefix: 'api' }],
        healthCheck: { path: 'health', timeoutSeconds: 3601 },
        'app services': [],
      }),
    ).toEqual([
      'appServices[2]: must be a service name: 1–64 of letters, digits and @ . _ -, not starting with -, got "-x"',
      'appServices[1]: "web" is there already, at [0]',
      'database: must be "host" or "container", got "mysql"',
      'routes[1].port: must be 1–65535, got 99999',
      'routes[1].prot: is not a field here; there are path, port, stripPrefix, service',
      'routes[2].port: must be 1–65535, got "80"',
      'routes[2].path: "/api" is there already, at [1]',
      'hostSecrets[0]: is a name that tekton sets itself, got "PREVIEW_SHA"',
      'hostSecrets[1]: must be the name of an environment variable, got "A-B"',
      'extraHosts[0].routes: must have a route with the path "/"',
      'extraHosts[1].routes: is missing; it must be a list',
      'extraHosts[1].prefix: "api" is there already, at [0]',
      'healthCheck.path: must be a path like /healthz, optionally with a query like ?full=1, got "health"',
      'healthCheck.timeoutSeconds: must be 1–3600, got 3601',
      '["app services"]: is not a field here; there are setupService, appServices, database, routes, hostSecrets, extraHosts, healthCheck',
      'setupService: must not be among appServices too: it runs once, to its end; got "web"',
    ]);
  });

  it.each([
    [undefined, 'the meta: is missing; it must be an object'],
    [[], 'the meta: must be an object, got a list'],
    [{ ...smallest, routes: [] }, 'routes: must name at least 1 route'],
    [{ ...smallest, routes: [{ path: '/api', port: 1 }] }, 'routes: must have a route with the path "/"'],
    [{ ...smallest, appServices: [] }, 'appServices: must name at least 1 service'],
    [
      { ...smallest, appServices: Array.from({ length: 17 }, (_, n) => `s${n}`) },
      'appServices: must have at most 16 entries, got 17',
    ],
    [
      { ...smallest, database: 'host', hostSecrets: ['DATABASE_URL'] },
      'hostSecrets[0]: DATABASE_URL is set by tekton itself when database is "host"',
    ],
    [{ ...smallest, healthCheck: null }, 'healthCheck: must be an object, got null'],
    [
      { ...smallest, setupService: 'a\u202e\n; rm' },
      'setupService: must be a service name: 1–64 of letters, digits and @ . _ -, not starting with -, got "a\\u202e\\n; rm"',
    ],
    [JSON.parse('{"__proto__":1}'), '__proto__: is not a field here'],
  ])('%j', (value, problem) => {
    expect(problems(value).some((one) => one.startsWith(problem))).toBe(true);
  });

  it('allows DATABASE_URL as a secret where tekton sets none', () => {
    expect(problems({ ...smallest, hostSecrets: ['DATABASE_URL'] })).toEqual([]);
  });

  it.each([
    '',
    'api',
    '/api/',
    '//',
    '/a//b',
    '/..',
    '/a/../b',
    '/.',
    '/a/./b',
    '/a b',
    '/a\n',
    '/a{b}',
    '/*/a',
    '/a*',
    '/a?b',
    '/é',
    '/%2e',
    `/${'a'.repeat(256)}`,
    '/"',
    '/a\\b',
    '/{file./etc/passwd}',
  ])('path %j', (path) => {
    expect(
      problems({
        ...smallest,
        routes: [
          { path: '/', port: 1 },
          { path, port: 1 },
        ],
      }),
    ).toHaveLength(1);
  });

  it.each([0, -1, 65_536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '3000', null, undefined])('port %s', (port) => {
    expect(problems({ ...smallest, routes: [{ path: '/', port }] })).toHaveLength(1);
  });

  it.each(['', 'A', '-a', 'a-', 'a.b', 'a_b', 'a'.repeat(21)])('prefix %j', (prefix) => {
    expect(problems({ ...smallest, extraHosts: [{ prefix, routes: smallest.routes }] })).toHaveLength(1);
  });

  it('is bounded, and so is its message', () => {
    const value = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`field${n}`, n]));
    const told = problems({ ...smallest, ...value });
    expect(told).toHaveLength(51);
    expect(told.at(-1)).toBe('… and 4950 more');
    expect(() => parsePreviewMetaJson(`{"a":"${'x'.repeat(70_000)}"}`)).toThrow('at most 65536 characters');
  });

  it('says where the JSON is broken', () => {
    expect(() => parsePreviewMetaJson('{"routes": [}')).toThrow(/^the meta: is not JSON: .*not valid JSON$/);
    expect(() => parsePreviewMetaJson('[]')).toThrow('the meta: must be an object, got a list');
  });
});

const nearlyMeta = fc.record(
  {
    setupService: fc.oneof(fc.constant('setup'), fc.string({ minLength: 1 })),
    appServices: fc.array(fc.constantFrom('web', 'worker', 'a@b', '-x'), { minLength: 1, maxLength: 2 }),
    database: fc.constantFrom('host', 'container', 'x'),
    routes: fc.array(
      fc.record(
        {
          path: fc.constantFrom('/', '/*', '/api', '/api/*', '/x/y', '//'),
          port: fc.integer({ min: -1, max: 66_000 }),
          stripPrefix: fc.boolean(),
        },
        { requiredKeys: ['path', 'port'] },
      ),
      { maxLength: 3 },
    ),
    hostSecrets: fc.array(fc.constantFrom('A', 'B', 'PORT'), { maxLength: 2 }),
    healthCheck: fc.record(
      {
        path: fc.oneof(fc.constantFrom('/', '/health/', '/a?b=1'), fc.webPath()),
        timeoutSeconds: fc.integer({ min: 0, max: 4000 }),
      },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ['appServices', 'routes'] },
);

describe('whatever it is given', () => {
  it('throws a MetaError or gives what it accepts again unchanged', () => {
    let accepted = 0;
    const holds = (value: unknown) => {
      let meta: ReturnType<typeof parsePreviewMeta>;
      try {
        meta = parsePreviewMeta(value);
      } catch (error) {
        expect(error).toBeInstanceOf(MetaError);
        expect((error as Error).message).toMatch(/^[\x20-\x7e–…\n]+$/);
        return;
      }
      accepted += 1;
      expect(parsePreviewMeta(meta)).toEqual(meta);
      expect(parsePreviewMetaJson(JSON.stringify(meta))).toEqual(meta);
    };
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }), holds),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(parsePreviewMeta(smallest))), fc.anything()), holds),
    );
    fc.assert(fc.property(nearlyMeta, holds), { numRuns: 2000 });
    expect(accepted).toBeGreaterThan(20);
  });

  it('throws only MetaErrors for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), (text) => {
        expect(() => parsePreviewMetaJson(text)).toThrow(MetaError);
      }),
    );
  });
});

describe('ports', () => {
  const meta = parsePreviewMeta({
    appServices: ['web', 'api', 'worker'],
    routes: [
      { path: '/', port: 3000 },
      { path: '/api', port: 4000, service: 'api' },
      { path: '/v2', port: 4001, service: 'api' },
    ],
    extraHosts: [{ prefix: 'admin', routes: [{ path: '/', port: 2000, service: 'admin' }] }],
  });

  it('are each listed once, in order', () => {
    expect(declaredPorts(meta)).toEqual([2000, 3000, 4000, 4001]);
  });

  it('belong to the service that a route names; web has that of /', () => {
    expect(['web', 'api', 'admin', 'worker'].map((one) => servicePort(meta, one))).toEqual([
      3000,
      4000,
      2000,
      undefined,
    ]);
    const named = parsePreviewMeta({ appServices: ['front'], routes: [{ path: '/', port: 80, service: 'front' }] });
    expect([servicePort(named, 'front'), servicePort(named, 'web')]).toEqual([80, undefined]);
  });
});

describe('docs/declaring-a-preview.md', () => {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/declaring-a-preview.md'), 'utf8');
  const example = /```json\n([^`]+)```/.exec(docs)?.[1] ?? '';

  it('shows an example that is accepted as it stands, with every field in it', () => {
    const meta = parsePreviewMetaJson(example);
    expect(Object.keys(JSON.parse(example)).sort()).toEqual(Object.keys(meta).sort());
    const services = [...meta.routes, ...meta.extraHosts.flatMap((host) => host.routes)].map((one) => one.service);
    expect(meta.appServices).toEqual(expect.arrayContaining(services));
  });

  it('shows problems as they are told', () => {
    const value = JSON.parse(example);
    Object.assign(value.routes[1], { port: 99_999, prot: 1 });
    value.healthCheck.timeoutSeconds = 0;
    expect(docs).toContain(`preview-meta.json: 3 problems:\n- ${problems(value).join('\n- ')}\n`);
  });
});
