import { describe, expect, test } from 'vitest';
import { componentCheck, report } from '../../src/cli/doctor.ts';
import { addresses, componentLines, eventLine, upCommand } from '../../src/cli/up.ts';
import { catalogue } from '../../src/components/catalogue.ts';
import { portTable } from '../../src/stack/ports.ts';

describe('what `tekton up` says', () => {
  test('of a component: where it comes from, and what was passed over for it', () => {
    const passedOver = [{ path: '/usr/bin/caddy', version: '2.6.2', why: '2.6.2 is older than 2.8.0' }];
    expect(componentLines({ name: 'caddy', path: '/c/caddy', version: '2.11.7', origin: 'cache', passedOver })).toEqual(
      ['Caddy 2.11.7 (from the cache: /c/caddy)', '  passed over /usr/bin/caddy: 2.6.2 is older than 2.8.0'],
    );
  });

  test('of a service: that it serves, and that it ended', () => {
    expect(eventLine('caddy', { kind: 'started', pid: 7 }, false)).toBeUndefined();
    expect(eventLine('caddy', { kind: 'ready', pid: 7, ms: 1234 }, false)).toBe('caddy serves (pid 7, 1.2 s)');
    expect(eventLine('caddy', { kind: 'ready', pid: 7, ms: 80 }, true)).toBe('caddy serves again (pid 7, 0.1 s)');
    expect(eventLine('caddy', { kind: 'died', how: 'killed by SIGKILL', restartMs: 200 }, true)).toBe(
      'caddy ended (killed by SIGKILL); again in 0.2 s',
    );
  });

  test('at the end: where everything is', () => {
    const record = {
      startedAt: '2026-01-01T00:00:00.000Z',
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
      temporalAddress: '127.0.0.1:7233',
      temporalNamespace: 'default',
      temporalUiUrl: 'http://127.0.0.1:8233',
      webhookUrl: 'http://127.0.0.1:3100/webhook/github',
      previewUrl: 'http://<slug>.preview.localhost:8080',
      caddyAdmin: 'http://127.0.0.1:2019',
      webhookSecretFile: '/s/var/secrets/webhook-secret',
      postgresPasswordFile: '/s/var/secrets/postgresql-password',
      postgresData: '/s/var/lib/postgresql/data',
      services: {},
    };
    expect(addresses(record, 5400).join('\n')).toBe(`
Everything serves (5.4 s).

  Previews      http://<slug>.preview.localhost:8080
  Webhook       http://127.0.0.1:3100/webhook/github
    its secret  /s/var/secrets/webhook-secret
  Temporal UI   http://127.0.0.1:8233
  Temporal      127.0.0.1:7233
  PostgreSQL    127.0.0.1:15432 (role tekton, password in /s/var/secrets/postgresql-password)
  State         /s
  Logs          /s/var/log/tekton/services

Try: tekton preview create <owner/repo> <branch> --state-dir /s
Ctrl-C stops everything, the apps too; the next \`tekton up\` brings each back.`);
  });

  test('every port has its flag', () => {
    const flags = upCommand().options.map(({ long }) => long);
    for (const { flag } of Object.values(portTable)) expect(flags).toContain(flag);
  });
});

describe('what `tekton doctor` says', () => {
  test('of a component that can be fetched, of one that can’t, and of one that only tests need', () => {
    const inspection = (name: keyof typeof catalogue, available: boolean) => ({
      spec: catalogue[name],
      passedOver: [],
      available,
    });
    const checks = [
      componentCheck({
        ...inspection('caddy', true),
        passedOver: [{ path: '/usr/bin/caddy', version: '2.6.2', why: '2.6.2 is older than 2.8.0' }],
      }),
      componentCheck(inspection('git', false)),
      componentCheck(inspection('postgres', true)),
      componentCheck(inspection('temporal-test-server', false)),
    ];
    expect(report(checks).join('\n')).toBe(`WRONG  Caddy                 missing (needs 2.8.0 or newer)
         passed over /usr/bin/caddy: 2.6.2 is older than 2.8.0
         → fetch it: npm run setup. Or install Caddy (https://caddyserver.com/docs/install) or set TEKTON_CADDY=/path/to/caddy
WRONG  git                   missing (needs 2.31 or newer)
         → install git (apt install git)
ok     PostgreSQL            brought by npm, unpacked when it is first needed
note   Temporal test server  missing
         → needed by tests only: set TEKTON_TEMPORAL_TEST_SERVER=/path/to/temporal-test-server

Missing or wrong: Caddy, git.`);
  });
});
