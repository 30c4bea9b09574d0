import { describe, expect, test } from 'vitest';
import {
  addressFile,
  type MainCaddyfileSettings,
  mainCaddyfile,
  type PreviewShape,
  parseAddressFile,
  previewFragment,
  shapeKey,
} from '../../src/domain/caddy.ts';
import { declaredPorts } from '../../src/domain/meta.ts';

const layout = { live: '/s/live', progress: '/s/progress', caddyPreviews: '/s/previews' };
const settings = { domain: 'preview.localhost', scheme: 'http' as const, port: 8080, layout };
const main: MainCaddyfileSettings = { ...settings, adminAddress: '127.0.0.1:2019', webhookPort: 3100 };
const sha = 'a'.repeat(40);

function shape(more: Partial<PreviewShape> = {}): PreviewShape {
  return {
    slug: 'foo-42',
    hosts: [{ prefix: '', label: 'foo-42', hostname: 'foo-42.preview.localhost' }],
    meta: { routes: [{ path: '/', port: 3000, stripPrefix: false }], extraHosts: [] },
    ...more,
  };
}

function withPath(path: string): PreviewShape {
  return shape({
    meta: {
      routes: [
        { path: '/', port: 3000, stripPrefix: false },
        { path, port: 3000, stripPrefix: false },
      ],
      extraHosts: [],
    },
  });
}

describe('the main Caddyfile', () => {
  test('for plain HTTP on one machine', () => {
    expect(mainCaddyfile({ ...main, bind: ['127.0.0.1', '::1'] })).toMatchSnapshot();
  });

  test('for https: the certificate once, a redirect, believed proxies', () => {
    const text = mainCaddyfile({
      ...main,
      domain: 'preview.example.com',
      scheme: 'https',
      port: 443,
      tls: { certificate: '/etc/ssl/cert.pem', key: '/etc/ssl/key.pem' },
      redirectPort: 80,
      trustedProxies: ['10.0.0.0/8'],
    });
    expect(text.match(/tls /g)).toHaveLength(1);
    expect(text).toContain('https://*.preview.example.com {\n\ttls /etc/ssl/cert.pem /etc/ssl/key.pem\n');
    expect(text).toContain('http:// {\n\tredir https://{host}{uri} 308\n}\n');
    expect(text).toContain('\t\ttrusted_proxies static 10.0.0.0/8\n');
    expect(text).toContain('\thttps_port 443\n\thttp_port 80\n');
    expect(text).toContain('{http.request.host.labels.3}');
  });

  test.each<[string, Partial<MainCaddyfileSettings>]>([
    ['https without a certificate', { scheme: 'https' }],
    ['a domain with a space', { domain: 'a b' }],
    ['an admin address with a line break', { adminAddress: '127.0.0.1:2019\n}' }],
    ['a port that is none', { webhookPort: 0 }],
    ['a folder with a brace', { layout: { ...layout, progress: '/s/{env.HOME}' } }],
    ['a folder with a star', { layout: { ...layout, caddyPreviews: '/s/*' } }],
    ['a relative folder', { layout: { ...layout, progress: 's' } }],
    ['a listener that is none', { bind: ['lo'] }],
    ['a certificate with a quote', { tls: { certificate: '/a"b', key: '/k' } }],
  ])('refuses %s', (_, more) => {
    expect(() => mainCaddyfile({ ...main, ...more })).toThrow();
  });

  test('quotes folders with spaces', () => {
    const text = mainCaddyfile({ ...main, layout: { ...layout, caddyPreviews: '/my state/previews' } });
    expect(text).toContain('import "/my state/previews/*.caddy"\n');
  });
});

describe("a preview's fragment", () => {
  test('with one route', () => {
    expect(
      previewFragment(settings, shape()),
    ).toBe(`# Preview foo-42. Written by tekton; the address of its live deployment is in /s/live/foo-42
http://foo-42.preview.localhost {
	vars tekton_record {file./s/live/foo-42}
	invoke tekton_single
}
`);
  });

  test('with several routes and hosts: the most specific path first', () => {
    const several = shape({
      hosts: [
        { prefix: '', label: 'foo-42', hostname: 'foo-42.preview.localhost' },
        { prefix: 'api', label: 'api-foo-42', hostname: 'api-foo-42.preview.localhost' },
      ],
      meta: {
        routes: [
          { path: '/', port: 3000, stripPrefix: true },
          { path: '/api', port: 4000, stripPrefix: true },
          { path: '/api/v2', port: 3000, stripPrefix: false },
        ],
        extraHosts: [{ prefix: 'api', routes: [{ path: '/', port: 4000, stripPrefix: false }] }],
      },
    });
    const key = shapeKey(settings, several);
    expect(
      previewFragment(settings, several),
    ).toBe(`# Preview foo-42. Written by tekton; the address of its live deployment is in /s/live/foo-42
http://foo-42.preview.localhost, http://api-foo-42.preview.localhost {
	vars tekton_record {file./s/live/foo-42}
	@live3000 vars_regexp live tekton_record \`(?m)^(\\S+) ([0-9a-f]+) 3000 ${key}$\`
	@live4000 vars_regexp live tekton_record \`(?m)^(\\S+) ([0-9a-f]+) 4000 ${key}$\`
	@route0 {
		host foo-42.preview.localhost
		path /api/v2 /api/v2/*
	}
	@route1 {
		host foo-42.preview.localhost
		path /api /api/*
	}
	@route2 {
		host foo-42.preview.localhost
	}
	@route3 {
		host api-foo-42.preview.localhost
	}
	route {
		handle @route0 {
			invoke @live3000 tekton_app
		}
		handle @route1 {
			uri strip_prefix /api
			invoke @live4000 tekton_app
		}
		handle @route2 {
			invoke @live3000 tekton_app
		}
		handle @route3 {
			invoke @live4000 tekton_app
		}
		invoke tekton_progress
	}
}
`);
  });

  test('changes its key with the shape, and with nothing else', () => {
    const key = shapeKey(settings, withPath('/api'));
    expect(shapeKey(settings, withPath('/api'))).toBe(key);
    expect(shapeKey(settings, withPath('/other'))).not.toBe(key);
    expect(shapeKey({ ...settings, domain: 'other.localhost' }, withPath('/api'))).not.toBe(key);
    expect(shapeKey({ ...settings, port: 8081 }, withPath('/api'))).toBe(key);
    expect(shapeKey(settings, shape())).toBe('single');
  });

  test.each([
    '/a b',
    '/a\n}',
    '/{env.HOME}',
    '/a"',
    '/a`',
    '/a*',
    '/../x',
    '/a/../b',
    '/.',
    '//x',
    '/a/',
    'api',
    '/#',
    '/$',
    '/é',
    '/a\\b',
    '',
  ])('refuses the path %j', (path) => {
    expect(() => previewFragment(settings, withPath(path))).toThrow('path');
  });

  test.each<[string, Partial<PreviewShape>]>([
    ['a slug with a slash', { slug: '../foo' }],
    ['a slug with a capital', { slug: 'Foo' }],
    ['a hostname of another domain', { hosts: [{ prefix: '', label: 'foo-42', hostname: 'foo-42.evil.example' }] }],
    ['a hostname with a space', { hosts: [{ prefix: '', label: 'x', hostname: 'x {\n}.preview.localhost' }] }],
    ['a wildcard', { hosts: [{ prefix: '', label: '*', hostname: '*.preview.localhost' }] }],
    [
      'no hostname of its own',
      { hosts: [{ prefix: 'api', label: 'api-foo-42', hostname: 'api-foo-42.preview.localhost' }] },
    ],
    ['no route for /', { meta: { routes: [{ path: '/api', port: 1, stripPrefix: false }], extraHosts: [] } }],
    ['a port that is none', { meta: { routes: [{ path: '/', port: 70_000, stripPrefix: false }], extraHosts: [] } }],
    ['a port with a fraction', { meta: { routes: [{ path: '/', port: 1.5, stripPrefix: false }], extraHosts: [] } }],
  ])('refuses %s', (_, more) => {
    expect(() => previewFragment(settings, shape(more))).toThrow();
  });

  test('refuses two routes for one path', () => {
    expect(() => previewFragment(settings, withPath('/'))).toThrow('two routes');
  });
});

describe('the address file', () => {
  test('has a line for each declared port, and reads back', () => {
    const lines = [
      { address: '127.100.0.3:41001', sha, port: 3000, shape: 'abc12345' },
      { address: '[fd00::3]:4000', sha, port: 4000, shape: 'abc12345' },
    ];
    const text = addressFile(lines);
    expect(text).toBe(`127.100.0.3:41001 ${sha} 3000 abc12345\n[fd00::3]:4000 ${sha} 4000 abc12345\n`);
    expect(parseAddressFile(text)).toEqual(lines);
    expect(parseAddressFile('nonsense\n\n')).toEqual([]);
  });

  test.each([
    { address: 'evil.example:80' },
    { address: '127.0.0.1' },
    { address: '127.0.0.1:80\nx' },
    { sha: 'short' },
    { sha: 'Z'.repeat(40) },
    { port: 0 },
    { shape: 'a b' },
  ])('refuses %j', (more) => {
    expect(() => addressFile([{ address: '127.0.0.1:1', sha, port: 1, shape: 'a', ...more }])).toThrow();
  });
});

test('declared ports are those of every route, each once', () => {
  expect(
    declaredPorts({
      routes: [
        { path: '/', port: 3000, stripPrefix: false },
        { path: '/x', port: 3000, stripPrefix: false },
      ],
      extraHosts: [{ prefix: 'a', routes: [{ path: '/', port: 80, stripPrefix: false }] }],
    }),
  ).toEqual([80, 3000]);
});
