import { readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { redeployUpdate } from '../../src/workflows/messages.ts';
import { type Files, textApp } from '../support/git-house.ts';
import { type RealStack, startRealStack } from '../support/real-stack.ts';

let rig: RealStack;
beforeAll(async () => {
  rig = await startRealStack();
});
afterAll(() => rig?.close());

const meta = (more: object) =>
  JSON.stringify({
    appServices: ['web'],
    database: 'container',
    routes: [{ path: '/', port: 3000 }],
    hostSecrets: [],
    extraHosts: [],
    ...more,
  });

describe('apps as people write them', () => {
  it.concurrent.each([
    ['all addresses', "process.env.PORT, '0.0.0.0'"],
    ['all addresses of both families', "process.env.PORT, '::'"],
    ['$HOST', 'process.env.PORT, process.env.HOST'],
    ['localhost', "process.env.PORT, 'localhost'"],
  ])('listening on %s', async (name, listen) => {
    const pr = { owner: 'acme', repo: `on-${name.replace(/\W+/g, '-').replace(/^-/, '')}`, number: 1 };
    const sha = await rig.git.push(`acme/${pr.repo}`, textApp(name, listen), { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    const { slug } = await rig.live(pr, sha);
    expect((await rig.visit(slug)).body).toBe(`${name} /\n`);
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
  });

  it('with nothing but a package.json and a start script', async () => {
    const pr = { owner: 'acme', repo: 'plain', number: 1 };
    const { Procfile: _, ...files } = textApp('plain');
    const sha = await rig.git.push(
      'acme/plain',
      { ...files, 'package.json': JSON.stringify({ name: 'plain', scripts: { start: 'node server.js' } }) },
      { pull: 1 },
    );
    await rig.deliver(pr, 'opened', sha);
    await rig.live(pr, sha);
    expect((await rig.visit('plain-1')).body).toBe('plain /\n');
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
  });

  it('whose child calls setsid: it goes with its container', async () => {
    const pr = { owner: 'acme', repo: 'setsid', number: 1 };
    const files: Files = {
      ...textApp('parent'),
      Procfile: "web: setsid sh -c 'exec sleep 987654' & exec node server.js\n",
    };
    const sha = await rig.git.push('acme/setsid', files, { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    await rig.live(pr, sha);
    expect(await sleepers()).toBe(1);
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
    expect(await sleepers()).toBe(0);
  });

  it('with several services, paths and a prefix', async () => {
    const pr = { owner: 'acme', repo: 'many', number: 1 };
    const files: Files = {
      ...textApp('web'),
      Procfile: 'web: node server.js\napi: node api.js\n',
      'api.js': textApp('api')['server.js'] as string,
      'preview-meta.json': meta({
        appServices: ['web', 'api'],
        routes: [
          { path: '/', port: 3000, service: 'web' },
          { path: '/api/*', port: 4000, service: 'api', stripPrefix: true },
        ],
        extraHosts: [{ prefix: 'admin', routes: [{ path: '/', port: 4000, service: 'api' }] }],
      }),
    };
    const sha = await rig.git.push('acme/many', files, { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    await rig.live(pr, sha);
    expect((await rig.visit('many-1')).body).toBe('web /\n');
    expect((await rig.visit('many-1', '/api/users')).body).toBe('api /users\n');
    expect((await rig.visit('admin-many-1', '/x')).body).toBe('api /x\n');
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
  });
});

describe('a database of the host', () => {
  const app = (text: string): Files => ({
    'package.json': JSON.stringify({ name: 'db', dependencies: { pg: '8.23.1' } }),
    Procfile: 'web: node server.js\n',
    'preview-meta.json': meta({ database: 'host' }),
    'server.js': `
const { createServer } = require('node:http');
const { Client } = require('pg');
(async () => {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  await client.query('create table if not exists visits (at timestamptz default now())');
  createServer(async (request, response) => {
    if (request.method === 'POST' || request.url === '/visit') await client.query('insert into visits default values');
    const { rows } = await client.query('select count(*)::int as n, current_user as who from visits');
    response.end(${JSON.stringify(text)} + ' ' + rows[0].n);
  }).listen(process.env.PORT);
})();
`,
  });

  it('is kept across updates, emptied by hand, and dropped at the end', async () => {
    const pr = { owner: 'acme', repo: 'data', number: 1 };
    const first = await rig.git.push('acme/data', app('first'), { pull: 1 });
    await rig.deliver(pr, 'opened', first);
    await rig.live(pr, first);
    await rig.visit('data-1', '/visit');
    await rig.visit('data-1', '/visit');
    const second = await rig.git.push('acme/data', app('second'), { pull: 1 });
    await rig.deliver(pr, 'synchronize', second);
    const { workflowId } = await rig.live(pr, second);
    expect((await rig.visit('data-1')).body).toBe('second 2');

    await rig.temporal.client.workflow
      .getHandle(workflowId)
      .executeUpdate(redeployUpdate, { args: [{ resetDatabase: true }] });
    await rig.until(pr, 'redeployed', (s) => s.lastAttempt?.number === 3 && s.phase === 'live');
    expect((await rig.visit('data-1')).body).toBe('second 0');
    await rig.deliver(pr, 'closed', second);
    await rig.gone(pr);
    expect(await rig.left()).toEqual([]);
  });
});

/** Processes that sleep as only this file's app does. */
async function sleepers(): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.startsWith('sleep\u0000987654')).length;
}
