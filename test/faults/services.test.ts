/** SIGKILL of what Tekton stands on: Temporal, Caddy, PostgreSQL, the webhook. What can go on does; afterwards everything converges. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keepVisiting } from '../../src/cli/demo/visitor.ts';
import { type Files, textApp } from '../support/git-house.ts';
import { type PullRequest, type RealStack, startRealStack } from '../support/real-stack.ts';
import {
  backAgain,
  deliverUntilAccepted,
  expectOneEach,
  expectServed,
  isGone,
  killDuring,
  killService,
  liveOn,
  pendingActivities,
  pidOf,
  settledOn,
  slowApp,
  statusNow,
  waitUntil,
} from './faults.ts';

let rig: RealStack;
beforeAll(async () => {
  rig = await startRealStack();
});
afterAll(() => rig?.close());

/** Counts visits in its database; a connection that broke is replaced, as in any program with a pool. */
function countingApp(text: string): Files {
  const meta = {
    appServices: ['web'],
    database: 'host',
    routes: [{ path: '/', port: 3000 }],
    hostSecrets: [],
    extraHosts: [],
  };
  return {
    'package.json': JSON.stringify({ name: 'counting', dependencies: { pg: '8.23.1' } }),
    'preview-meta.json': JSON.stringify(meta),
    Procfile: 'web: node server.js\n',
    'server.js': `
const { createServer } = require('node:http');
const { Pool } = require('pg');
const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 2, connectionTimeoutMillis: 2000 });
pool.on('error', () => {});
const count = async (url) => {
  await pool.query('create table if not exists visits (at timestamptz default now())');
  if (url === '/visit') await pool.query('insert into visits default values');
  return (await pool.query('select count(*)::int as n from visits')).rows[0].n;
};
createServer((request, response) => {
  count(request.url).then(
    (n) => response.end(${JSON.stringify(text)} + ' ' + n),
    (error) => { response.statusCode = 500; response.end(error.message); },
  );
}).listen(process.env.PORT);
`,
  };
}

const plain: PullRequest = { owner: 'acme', repo: 'plain', number: 1 };
const data: PullRequest = { owner: 'acme', repo: 'data', number: 1 };
const slow: PullRequest = { owner: 'acme', repo: 'slow', number: 1 };
const heads = new Map<PullRequest, string>();

async function push(pr: PullRequest, files: Files): Promise<string> {
  const sha = await rig.git.push(`${pr.owner}/${pr.repo}`, files, { pull: pr.number });
  heads.set(pr, sha);
  return sha;
}

/** Brings the commit up, whatever has to be delivered again for it. */
async function update(pr: PullRequest, files: Files): Promise<string> {
  const first = !heads.has(pr);
  const sha = await push(pr, files);
  await deliverUntilAccepted(rig, pr, first ? 'opened' : 'synchronize', sha);
  return sha;
}

/** Until the address answers with this text. */
async function answers(slug: string, body: string, sha: string, seconds = 30): Promise<void> {
  let last = '';
  await waitUntil(
    async () => {
      const answer = await rig.visit(slug).catch((error: Error) => error);
      last = answer instanceof Error ? answer.message : `${answer.status} ${answer.body}`;
      return !(answer instanceof Error) && answer.body === body && answer.headers['x-tekton-sha'] === sha;
    },
    () => `${slug} never answered "${body}": ${last}`,
    seconds,
  );
}

/** The service dies while this pull request's deployment is in one of these steps; afterwards it is live with its head. */
async function killWhileDeploying(
  name: 'temporal' | 'caddy' | 'postgres' | 'webhook',
  steps: string[],
  text: string,
): Promise<void> {
  const sha = await update(slow, slowApp(text));
  const killed = await killDuring(rig, name, slow, steps);
  await backAgain(rig, name, killed);
  const live = await liveOn(rig, slow, sha);
  await expectServed(rig, 'slow-1', sha, `${text}\n`);
  expect(live.lastAttempt?.outcome).toBe('live');
}

const dataNow = async () => (await rig.visit('data-1')).body;

describe('with previews live', () => {
  it('they come up', async () => {
    const shas = await Promise.all([update(plain, textApp('plain 1')), update(data, countingApp('count'))]);
    await Promise.all([liveOn(rig, plain, shas[0]), liveOn(rig, data, shas[1])]);
    await rig.visit('data-1', '/visit');
    await rig.visit('data-1', '/visit');
    expect(await dataNow()).toBe('count 2');
  });

  it('Temporal: previews are served all the time; a webhook is refused with 503, and accepted when sent again', async () => {
    const crowd = keepVisiting(rig.url('plain-1'), 2);
    const sha = await push(plain, textApp('plain 2'));
    const pid = pidOf(rig, 'temporal');
    // It hangs first: a Temporal that is merely killed may be back before the webhook's patience is at its end.
    process.kill(pid, 'SIGSTOP');
    const asked = Date.now();
    const refused = await rig.deliver(plain, 'synchronize', sha);
    expect(refused.status).toBe(503);
    expect(Date.now() - asked, 'ms until the refusal, below the ten seconds of GitHub').toBeLessThan(9000);
    process.kill(pid, 'SIGKILL');
    await deliverUntilAccepted(rig, plain, 'synchronize', sha);
    await backAgain(rig, 'temporal', pid);
    await liveOn(rig, plain, sha);
    expect((await crowd.stop()).failed).toEqual([]);
    await expectServed(rig, 'plain-1', sha, 'plain 2 /\n');
    expect(await dataNow()).toBe('count 2');
  });

  it('Temporal, in the instant after it accepted a push: nothing is lost', async () => {
    const sha = await push(plain, textApp('plain 3'));
    await deliverUntilAccepted(rig, plain, 'synchronize', sha);
    const killed = killService(rig, 'temporal');
    await backAgain(rig, 'temporal', killed);
    await liveOn(rig, plain, sha);
  });

  it('Caddy: back with the same addresses and commits; a push and an open work', async () => {
    const killed = killService(rig, 'caddy');
    await backAgain(rig, 'caddy', killed);
    await answers('plain-1', 'plain 3 /\n', heads.get(plain) as string);
    await answers('data-1', 'count 2', heads.get(data) as string);
    expect((await rig.visit('nobody-1')).status).toBe(404);

    // At once again, with an open and a push on their way.
    const again = killService(rig, 'caddy');
    const opened = await update(slow, slowApp('opened without Caddy'));
    const pushed = await update(plain, textApp('plain 4'));
    await backAgain(rig, 'caddy', again);
    await Promise.all([liveOn(rig, slow, opened), liveOn(rig, plain, pushed)]);
    await expectServed(rig, 'plain-1', pushed, 'plain 4 /\n');
    await expectServed(rig, 'slow-1', opened, 'opened without Caddy\n');
  });

  it('PostgreSQL: the data is there, the app goes on, a push works', async () => {
    const killed = killService(rig, 'postgres');
    await backAgain(rig, 'postgres', killed);
    await answers('data-1', 'count 2', heads.get(data) as string);
    const sha = await update(data, countingApp('recount'));
    await liveOn(rig, data, sha);
    await rig.visit('data-1', '/visit');
    expect(await dataNow()).toBe('recount 3');
  });

  it('the webhook: deliveries fail until it is back, then are accepted', async () => {
    const killed = killService(rig, 'webhook');
    const sha = await push(plain, textApp('plain 5'));
    const refused = await deliverUntilAccepted(rig, plain, 'synchronize', sha);
    expect(refused.length).toBeGreaterThan(0);
    await backAgain(rig, 'webhook', killed);
    await liveOn(rig, plain, sha);
  });
});

describe('with a deployment under way', () => {
  it('Temporal, while it is built and while it is set up', async () => {
    await killWhileDeploying('temporal', ['buildClosure'], 'Temporal died in the build');
    await killWhileDeploying('temporal', ['runSetup', 'startServices', 'probeContainer'], 'Temporal died in the setup');
  });

  it('Caddy, while the route is written and probed', async () => {
    await killWhileDeploying('caddy', ['startServices', 'probeContainer'], 'Caddy died before the switch');
    await killWhileDeploying('caddy', ['writeRoute', 'probePublic'], 'Caddy died in the switch');
  });

  it('PostgreSQL, while the database is looked at', async () => {
    const fresh: PullRequest = { owner: 'acme', repo: 'fresh', number: 1 };
    const sha = await update(fresh, slowApp('fresh'));
    const killed = await killDuring(rig, 'postgres', fresh, ['createContainer', 'createDatabase']);
    await liveOn(rig, fresh, sha);
    await backAgain(rig, 'postgres', killed);
    await expectServed(rig, 'fresh-1', sha, 'fresh\n');
    await answers('data-1', 'recount 3', heads.get(data) as string);
  });

  it('the webhook, right after it accepted', async () => {
    const sha = await update(plain, textApp('plain 6'));
    const killed = killService(rig, 'webhook');
    await liveOn(rig, plain, sha);
    await backAgain(rig, 'webhook', killed);
  });

  it('everything but the apps at once', async () => {
    const sha = await update(slow, slowApp('everything died'));
    await waitUntil(
      async () => (await pendingActivities(rig, slow)).length > 0,
      async () => `the deployment never began: ${JSON.stringify(await statusNow(rig, slow))}`,
    );
    const names = ['temporal', 'postgres', 'caddy', 'worker', 'webhook'] as const;
    const killed = names.map((name) => killService(rig, name));
    for (const [i, name] of names.entries()) await backAgain(rig, name, killed[i] as number);
    await liveOn(rig, slow, sha);
    await answers('slow-1', 'everything died\n', sha);
    await answers('plain-1', 'plain 6 /\n', heads.get(plain) as string);
    await answers('data-1', 'recount 3', heads.get(data) as string);
  });
});

it('one of each stands; once all are closed, with every server killed meanwhile, nothing does', async () => {
  const live = await Promise.all([...heads].map(([pr, sha]) => settledOn(rig, pr, sha)));
  await expectOneEach(rig, live);
  for (const [pr, sha] of heads) await deliverUntilAccepted(rig, pr, 'closed', sha);
  for (const name of ['postgres', 'caddy', 'temporal'] as const) {
    killService(rig, name);
    await sleep(300);
  }
  await Promise.all([...heads.keys()].map((pr) => isGone(rig, pr)));
  await waitUntil(
    () =>
      rig.left().then(
        () => true,
        () => false,
      ),
    () => 'PostgreSQL never answered again',
  );
  expect(await rig.left()).toEqual([]);
  expect((await rig.visit('plain-1')).status).toBe(404);
});
