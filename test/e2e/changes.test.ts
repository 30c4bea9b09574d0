import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { destroyUpdate } from '../../src/workflows/messages.ts';
import { type Files, textApp } from '../support/git-house.ts';
import { type RealStack, startRealStack } from '../support/real-stack.ts';

let rig: RealStack;
let gates: string;
beforeAll(async () => {
  rig = await startRealStack();
  gates = await mkdtemp(join(tmpdir(), 'tekton-gates-'));
});
afterAll(async () => {
  await rig?.close();
  await rm(gates, { recursive: true, force: true });
});

/** An app whose build says that it began and then waits until the test opens the gate. */
function gatedApp(text: string, gate: string): Files {
  const build = `touch ${gate}.began; while [ ! -e ${gate} ]; do sleep 0.05; done`;
  return { ...textApp(text), 'package.json': JSON.stringify({ name: 'app', scripts: { build } }) };
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
const began = (gate: string) => expect.poll(() => exists(`${gate}.began`), { timeout: 30_000 }).toBe(true);
const broken: Files = {
  ...textApp('broken'),
  'package.json': JSON.stringify({ scripts: { build: 'echo "no such module: left-pad" >&2; exit 3' } }),
};

describe('what goes wrong in a pull request', () => {
  it('a failing build leaves the previous deployment serving and says why', async () => {
    const pr = { owner: 'acme', repo: 'builds', number: 1 };
    const good = await rig.git.push('acme/builds', textApp('good'), { pull: 1 });
    await rig.deliver(pr, 'opened', good);
    await rig.live(pr, good);
    const bad = await rig.git.push('acme/builds', broken, { pull: 1 });
    await rig.deliver(pr, 'synchronize', bad);
    const failed = await rig.until(pr, 'told of the failure', (s) => s.lastAttempt?.outcome === 'failed');
    expect(failed).toMatchObject({ phase: 'live', servedSha: good, desiredSha: bad, reason: { type: 'BuildFailed' } });
    expect([failed.reason?.message, ...(failed.reason?.tail ?? [])].join('\n')).toContain('left-pad');
    expect(await rig.visit('builds-1')).toMatchObject({ status: 200, body: 'good /\n' });

    const mended = await rig.git.push('acme/builds', textApp('mended'), { pull: 1 });
    await rig.deliver(pr, 'synchronize', mended);
    expect((await rig.live(pr, mended)).reason).toBeUndefined();
  });

  it('a first deployment that fails shows the reason at its address, and leaves nothing else', async () => {
    const pr = { owner: 'acme', repo: 'never', number: 1 };
    const bad = await rig.git.push('acme/never', broken, { pull: 1 });
    await rig.deliver(pr, 'opened', bad);
    await rig.until(pr, 'failed', (s) => s.phase === 'failed');
    const page = await rig.visit('never-1');
    expect(page).toMatchObject({ status: 503, headers: { 'retry-after': expect.any(String) } });
    expect(page.body).toContain('failed');
    await rig.deliver(pr, 'closed', bad);
    await rig.gone(pr);
    expect((await rig.visit('never-1')).status).toBe(404);
  });

  it('invalid meta names the field', async () => {
    const pr = { owner: 'acme', repo: 'meta', number: 1 };
    const meta = { appServices: ['web'], database: 'container', routes: [{ path: '/', port: 99999 }], colour: 'red' };
    const sha = await rig.git.push(
      'acme/meta',
      { ...textApp('x'), 'preview-meta.json': JSON.stringify(meta) },
      { pull: 1 },
    );
    await rig.deliver(pr, 'opened', sha);
    const failed = await rig.until(pr, 'failed', (s) => s.phase === 'failed');
    expect(failed.reason).toMatchObject({ type: 'InvalidMeta', next: expect.stringContaining('declaring-a-preview') });
    expect(failed.reason?.message).toContain('routes[0].port');
    expect(failed.reason?.message).toContain('colour');
  });

  it('an unknown commit says so', async () => {
    const pr = { owner: 'acme', repo: 'builds', number: 2 };
    await rig.deliver(pr, 'opened', 'd'.repeat(40));
    const failed = await rig.until(pr, 'failed', (s) => s.phase === 'failed');
    expect(failed.reason?.type).toBe('CommitNotFound');
    expect(failed.reason?.message).toContain('ddddddd');
  });

  it('an app that never listens is unhealthy, with its last lines', async () => {
    const pr = { owner: 'acme', repo: 'mute', number: 1 };
    const meta = {
      appServices: ['web'],
      database: 'container',
      routes: [{ path: '/', port: 3000 }],
      hostSecrets: [],
      extraHosts: [],
      healthCheck: { timeoutSeconds: 2 },
    };
    const files = {
      Procfile: 'web: echo "I forgot to listen"; sleep 1000\n',
      'preview-meta.json': JSON.stringify(meta),
    };
    const sha = await rig.git.push('acme/mute', files, { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    const failed = await rig.until(pr, 'failed', (s) => s.phase === 'failed');
    expect(failed.reason?.type).toBe('Unhealthy');
    expect([failed.reason?.message, ...(failed.reason?.tail ?? [])].join('\n')).toContain('I forgot to listen');
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
  });
});

describe('messages while something is under way', () => {
  it('a push during the first build: the newer commit goes live, the older is superseded', async () => {
    const pr = { owner: 'acme', repo: 'pushes', number: 1 };
    const gate = join(gates, 'push');
    const first = await rig.git.push('acme/pushes', gatedApp('first', gate), { pull: 1 });
    await rig.deliver(pr, 'opened', first);
    await began(gate);
    expect(await rig.visit('pushes-1')).toMatchObject({ status: 503, headers: { 'retry-after': expect.any(String) } });
    const second = await rig.git.push('acme/pushes', textApp('second'), { pull: 1 });
    await rig.deliver(pr, 'synchronize', second);
    const live = await rig.live(pr, second);
    expect(live.story.map((line) => line.text).join('\n')).toContain(`${first.slice(0, 7)} was superseded`);
    expect((await rig.visit('pushes-1')).body).toBe('second /\n');
    await rig.deliver(pr, 'closed', second);
    await rig.gone(pr);
  });

  it('a close during the build ends it, its processes too', async () => {
    const pr = { owner: 'acme', repo: 'closes', number: 1 };
    const gate = join(gates, 'close');
    const sha = await rig.git.push('acme/closes', gatedApp('never', gate), { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    await began(gate);
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
    expect(
      (await rig.left()).filter((line) => /closes|processes/.test(line) && !/builds|meta|mute/.test(line)),
    ).toEqual(expect.not.arrayContaining([expect.stringContaining('closes')]));
  });

  it('reopened after a close: it comes back under the same name', async () => {
    const pr = { owner: 'acme', repo: 'reopens', number: 1 };
    const sha = await rig.git.push('acme/reopens', textApp('here'), { pull: 1 });
    await rig.deliver(pr, 'opened', sha);
    await rig.live(pr, sha);
    await rig.deliver(pr, 'closed', sha);
    await rig.gone(pr);
    await rig.deliver(pr, 'reopened', sha);
    const live = await rig.live(pr, sha);
    expect(live.slug).toBe('reopens-1');
    expect((await rig.visit('reopens-1')).body).toBe('here /\n');
  });

  it('destroyed by hand it stays down, until a push', async () => {
    const pr = { owner: 'acme', repo: 'held', number: 1 };
    const first = await rig.git.push('acme/held', textApp('first'), { pull: 1 });
    const updatedAt = new Date();
    await rig.deliver(pr, 'opened', first, { updatedAt });
    const { workflowId } = await rig.live(pr, first);
    await rig.temporal.client.workflow.getHandle(workflowId).executeUpdate(destroyUpdate);
    await rig.gone(pr);
    expect((await rig.visit('held-1')).status).toBe(404);
    await rig.deliver(pr, 'opened', first, { updatedAt });
    await rig.until(pr, 'told again', (s) => s.story.some((line) => line.text.includes('repeated')));
    expect(await rig.status(pr)).toMatchObject({ phase: 'gone', desired: { heldDown: true } });

    const second = await rig.git.push('acme/held', textApp('second'), { pull: 1 });
    await rig.deliver(pr, 'synchronize', second, { updatedAt: new Date(updatedAt.getTime() + 5000) });
    await rig.live(pr, second);
  });

  it('an old "opened" that comes after the close starts nothing', async () => {
    const pr = { owner: 'acme', repo: 'late', number: 1 };
    const sha = await rig.git.push('acme/late', textApp('late'), { pull: 1 });
    const openedAt = new Date(Date.now() - 60_000);
    await rig.deliver(pr, 'closed', sha, { updatedAt: new Date() });
    await rig.gone(pr);
    await rig.deliver(pr, 'opened', sha, { updatedAt: openedAt });
    await rig.until(pr, 'told', (s) => s.story.some((line) => line.text === 'a stale "opened" was ignored'));
    expect(await rig.status(pr)).toMatchObject({ phase: 'gone', deployments: [] });
    expect((await rig.visit('late-1')).status).toBe(404);
  });
});

describe('a switch', () => {
  it('lets a slow request finish on the commit it began on', async () => {
    const pr = { owner: 'acme', repo: 'slow', number: 1 };
    const first = await rig.git.push('acme/slow', textApp('first'), { pull: 1 });
    await rig.deliver(pr, 'opened', first);
    await rig.live(pr, first);
    const second = await rig.git.push('acme/slow', textApp('second'), { pull: 1 });
    const slow = rig.visit('slow-1', '/slow/8000');
    await rig.deliver(pr, 'synchronize', second);
    await rig.live(pr, second);
    expect((await rig.visit('slow-1')).body).toBe('second /\n');
    expect(await slow).toMatchObject({ status: 200, body: 'first /slow/8000\n', headers: { 'x-tekton-sha': first } });
  });
});

it('nothing is left once all are closed', async () => {
  const open = [];
  for await (const { workflowId } of rig.temporal.client.workflow.list({ query: 'ExecutionStatus = "Running"' }))
    open.push(workflowId);
  for (const workflowId of open) {
    const [, owner = '', repo = '', number = ''] = workflowId.split('/');
    const pr = { owner, repo, number: Number(number) };
    await rig.deliver(pr, 'closed', 'e'.repeat(40), { updatedAt: new Date(Date.now() + 60_000) });
    await rig.gone(pr);
  }
  await writeFile(join(gates, 'push'), '');
  expect(await rig.left()).toEqual([]);
});
