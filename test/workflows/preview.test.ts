import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failure } from '../../src/activities/failure.ts';
import { approveUpdate, destroyUpdate, redeployUpdate, resyncSignal } from '../../src/workflows/messages.ts';
import { gate, plainMeta, refuseForks } from '../support/model-host.ts';
import { startWorkflowRig, type WorkflowRig } from '../support/workflow-rig.ts';

const a = 'a'.repeat(40);
const b = 'b'.repeat(40);
const c = 'c'.repeat(40);

let rig: WorkflowRig;
beforeAll(async () => {
  rig = await startWorkflowRig();
});
afterAll(() => rig?.close());

/** For tests in which minutes or hours go by. */
const skippingTime = { server: 'time-skipping' } as const;

describe('a pull request', () => {
  it('is opened, pushed to and closed', () =>
    rig.withHost(async (host, preview, env) => {
      await preview.send('opened', a);
      const live = await preview.until('live', (s) => s.phase === 'live');
      expect(live).toMatchObject({
        desiredSha: a,
        builtSha: a,
        servedSha: a,
        attempt: 1,
        slug: `app-${preview.source.number}`,
      });
      expect(live.lastAttempt).toMatchObject({ number: 1, outcome: 'live', sha: a });

      await preview.send('synchronize', b);
      await preview.until('live with b', (s) => s.servedSha === b && s.phase === 'live');
      await env.sleep('11 seconds');
      await preview.until('drained', (s) => s.deployments.length === 1);
      expect(host.containers.size).toBe(1);

      await preview.send('closed', b);
      expect(await preview.handle.result()).toMatchObject({ phase: 'gone', open: false });
      expect([host.containers.size, host.slots.size, host.routes.size, host.hostnames.size]).toEqual([0, 0, 0, 0]);
      expect(host.comments.at(-1)).toMatchObject({ phase: 'gone' });
    }, skippingTime));

  it('runs its steps in the order the design tells', () =>
    rig.withHost(async (host, preview) => {
      host.metaOf = () => ({ ...plainMeta, database: 'host', setupService: 'setup' });
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      // Hostnames are claimed while the slot is allocated; the rest is one after the other.
      const besides = /readPullRequest|upsertComment|readBackground|claimHostnames/;
      const steps = host.journal.map((line) => line.split(' ')[0] ?? '').filter((name) => !besides.test(name));
      expect(steps).toEqual([
        'claimSlug',
        'buildClosure',
        'allocateSlot',
        'createContainer',
        'createDatabase',
        'writeEnvironment',
        'startContainer',
        'runSetup',
        'startServices',
        'probeContainer',
        'writeRoute',
        'probePublic',
      ]);
    }));

  it('keeps the previous commit serving when the next one fails, and says why', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.before = (name, sha) => {
        if (name === 'buildClosure' && sha === b)
          throw failure('BuildFailed', 'npm ci: no such package', { details: [['line 1']] });
      };
      await preview.send('synchronize', b);
      const failed = await preview.until('told of the failure', (s) => s.lastAttempt?.outcome === 'failed');
      expect(failed).toMatchObject({
        phase: 'live',
        servedSha: a,
        desiredSha: b,
        reason: { type: 'BuildFailed', tail: ['line 1'] },
      });
      expect(host.containers.size).toBe(1);
      await expect
        .poll(() => host.comments.at(-1))
        .toMatchObject({ servedSha: a, sha: b, reason: 'npm ci: no such package' });

      await preview.send('synchronize', c);
      await preview.until('live with c', (s) => s.servedSha === c && s.reason === undefined);
    }));

  it('fails with nothing left when its first deployment fails', () =>
    rig.withHost(async (host, preview) => {
      host.metaOf = () => ({ ...plainMeta, database: 'host' });
      host.before = (name) => {
        if (name === 'probeContainer') throw failure('Unhealthy', 'port 3000 is not listening');
      };
      await preview.send('opened', a);
      const failed = await preview.until('failed', (s) => s.phase === 'failed');
      expect(failed.reason).toMatchObject({ type: 'Unhealthy', next: expect.stringContaining('tekton preview logs') });
      expect([host.containers.size, host.slots.size, host.routes.size, host.databases.size]).toEqual([0, 0, 0, 0]);
      await expect
        .poll(() => host.pages.at(-1))
        .toMatchObject({ phase: 'failed', reason: 'port 3000 is not listening' });
    }));

  it('puts the previous route back when the public probe fails', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.before = (name, sha) => {
        if (name === 'probePublic' && sha === b) throw failure('PublicProbeFailed', 'answers 404');
      };
      await preview.send('synchronize', b);
      await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed');
      expect(host.routes.get(`app-${preview.source.number}`)?.sha).toBe(a);
      expect(host.containers.size).toBe(1);
    }));

  it('says that the schema may have changed when a deployment fails after setup', () =>
    rig.withHost(async (host, preview) => {
      host.metaOf = () => ({ ...plainMeta, database: 'host', setupService: 'setup' });
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.before = (name, sha) => {
        if (name === 'probeContainer' && sha === b) throw failure('Unhealthy', 'status 500');
      };
      await preview.send('synchronize', b);
      const failed = await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed');
      expect(failed.reason?.message).toContain('the schema may have changed');
      expect(host.databases.size).toBe(1);
    }));
});

describe('a newer message', () => {
  it('supersedes the build in flight; the old build is dead before the next begins', () =>
    rig.withHost(async (host, preview) => {
      const building = gate();
      host.before = (name, sha) => (name === 'buildClosure' && sha === a ? building.promise : undefined);
      await preview.send('opened', a);
      await preview.until(
        'building',
        (s) => s.phase === 'building' && s.steps.some((step) => step.name === 'buildClosure'),
      );
      await preview.send('synchronize', b);
      const live = await preview.until('live with b', (s) => s.servedSha === b);
      expect(live.story.map((line) => line.text)).toContain(`${a.slice(0, 7)} was superseded`);
      expect(JSON.stringify(live.story)).not.toContain('failed');
      building.open();
    }));

  it('coalesces pushes: only the newest of five is built after the first', () =>
    rig.withHost(async (host, preview) => {
      const building = gate();
      host.before = (name, sha) => (name === 'buildClosure' && sha === a ? building.promise : undefined);
      await preview.send('opened', a);
      await preview.until('building', (s) => s.steps.some((step) => step.name === 'buildClosure'));
      for (const digit of ['1', '2', '3', '4']) await preview.send('synchronize', digit.repeat(40));
      await preview.until('live with 4', (s) => s.servedSha === '4'.repeat(40) && s.phase === 'live');
      expect(host.journal.filter((line) => line.startsWith('buildClosure')).length).toBeLessThanOrEqual(4);
      building.open();
    }));

  it('closes during the build: unwound, nothing comes back', () =>
    rig.withHost(async (host, preview) => {
      const building = gate();
      host.before = (name) => (name === 'buildClosure' ? building.promise : undefined);
      await preview.send('opened', a);
      await preview.until('building', (s) => s.steps.some((step) => step.name === 'buildClosure'));
      await preview.send('closed', a);
      await preview.until('gone', (s) => s.phase === 'gone');
      expect(host.journal.some((line) => line.startsWith('createContainer'))).toBe(false);
      expect(host.hostnames.size).toBe(0);
      building.open();
    }));

  it.each([
    'createContainer',
    'writeEnvironment',
    'startContainer',
    'startServices',
    'probeContainer',
    'writeRoute',
    'probePublic',
  ] as const)('closes during %s: nothing is left', (during) =>
    rig.withHost(async (host, preview) => {
      const held = gate();
      host.before = (name) => (name === during ? held.promise : undefined);
      await preview.send('opened', a);
      await preview.until(during, (s) => s.steps.some((step) => step.name === during));
      await preview.send('closed', a);
      await preview.until('gone', (s) => s.phase === 'gone');
      expect([host.containers.size, host.slots.size, host.routes.size, host.hostnames.size]).toEqual([0, 0, 0, 0]);
      held.open();
    }),
  );

  it('that is stale or repeated changes nothing', () =>
    rig.withHost(async (host, preview) => {
      const opened = await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      await preview.send('synchronize', b);
      await preview.until('live with b', (s) => s.servedSha === b);
      const builds = host.journal.filter((line) => line.startsWith('buildClosure')).length;
      await preview.deliver(opened);
      await preview.deliver({ ...opened, action: 'closed', open: false });
      await preview.handle.signal(resyncSignal);
      const status = await preview.until(
        'settled',
        (s) => s.story.filter((line) => line.text.includes('stale')).length === 2,
      );
      expect(status).toMatchObject({ phase: 'live', servedSha: b });
      expect(host.journal.filter((line) => line.startsWith('buildClosure')).length).toBe(builds);
    }));

  it('that is older than the close an earlier run knows of starts nothing that stays', () =>
    rig.withHost(async (host, preview) => {
      host.previousRun = { open: false, updatedAt: '2027-01-01T00:00:00Z' };
      await preview.send('opened', a);
      await preview.until('gone', (s) => s.phase === 'gone' && !s.desired.open);
      // A message that the close has overtaken still finds the same run.
      await preview.send('synchronize', b);
      await preview.until('told', (s) => s.story.at(-1)?.text.includes('stale') === true);
      expect(await preview.status()).toMatchObject({ phase: 'gone' });
      expect([host.containers.size, host.slots.size, host.routes.size, host.hostnames.size]).toEqual([0, 0, 0, 0]);
    }));

  it('that is a tie is settled by GitHub', () =>
    rig.withHost(async (host, preview) => {
      const opened = await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.truth = () => ({
        kind: 'known',
        state: { open: true, sha: c, updatedAt: opened.updatedAt, fork: false, action: 'truth' },
      });
      await preview.deliver({ ...opened, action: 'synchronize', sha: b });
      await preview.until('live with c', (s) => s.servedSha === c && s.phase === 'live');
    }));
});

describe('GitHub', () => {
  it('is never read as "closed" when it fails', () =>
    rig.withHost(async (host, preview, env) => {
      host.truth = () => {
        throw new Error('502 Bad Gateway');
      };
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      await env.sleep('3 hours');
      expect(await preview.status()).toMatchObject({ phase: 'live', servedSha: a });
      expect(host.containers.size).toBe(1);
    }, skippingTime));

  it('tells of a close whose webhook was lost', () =>
    rig.withHost(async (host, preview) => {
      const opened = await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.truth = () => ({
        kind: 'known',
        state: { open: false, sha: a, updatedAt: `${opened.updatedAt}9`, fork: false, action: 'truth' },
      });
      expect(await preview.handle.result()).toMatchObject({ phase: 'gone' });
    }, skippingTime));

  it('has to answer 404 twice', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      let asked = 0;
      host.truth = () => {
        asked += 1;
        return { kind: 'missing' };
      };
      await preview.handle.result();
      expect(asked).toBe(2);
    }, skippingTime));
});

describe('by hand', () => {
  it('destroy holds an open pull request down until it is pushed to', () =>
    rig.withHost(async (host, preview, env) => {
      const opened = await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      await preview.handle.executeUpdate(destroyUpdate);
      await preview.until('gone', (s) => s.phase === 'gone');
      expect(host.containers.size).toBe(0);

      await preview.deliver(opened);
      host.truth = () => ({ kind: 'known', state: { ...opened, updatedAt: `${opened.updatedAt}1`, action: 'truth' } });
      await preview.handle.signal(resyncSignal);
      await env.sleep('2 hours');
      expect(await preview.status()).toMatchObject({ phase: 'gone', desired: { heldDown: true } });

      await preview.send('synchronize', b, { updatedAt: `${opened.updatedAt}2` });
      await preview.until('live with b', (s) => s.servedSha === b);
    }, skippingTime));

  it('redeploy brings the same commit up beside the old', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a);
      const before = await preview.until('live', (s) => s.phase === 'live');
      const { attempt } = await preview.handle.executeUpdate(redeployUpdate, { args: [{}] });
      expect(attempt).toBe(2);
      const after = await preview.until('attempt 2', (s) => s.lastAttempt?.number === 2);
      expect(after.lastAttempt?.outcome).toBe('live');
      expect(after.deployments.find((d) => d.state === 'serving')?.container).not.toBe(
        before.deployments[0]?.container,
      );
      expect(host.containers.size).toBe(2);
    }));

  it('redeploy with an empty database drops it first', () =>
    rig.withHost(async (host, preview) => {
      host.metaOf = () => ({ ...plainMeta, database: 'host' });
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      await preview.handle.executeUpdate(redeployUpdate, { args: [{ resetDatabase: true }] });
      await preview.until('attempt 2', (s) => s.lastAttempt?.number === 2);
      const names = host.journal.map((line) => line.split(' ')[0]);
      expect(names.slice(names.lastIndexOf('dropDatabase'))).toContain('createDatabase');
    }));

  it('drops the database after the switch when the repo no longer wants one', () =>
    rig.withHost(async (host, preview, env) => {
      host.metaOf = (sha) => ({ ...plainMeta, database: sha === a ? 'host' : 'container' });
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      expect(host.databases.size).toBe(1);
      await preview.send('synchronize', b);
      await preview.until('live with b', (s) => s.servedSha === b);
      await env.sleep('11 seconds');
      await preview.until('drained', (s) => s.deployments.length === 1);
      await expect.poll(() => host.databases.size).toBe(0);
    }, skippingTime));
});

describe('a fork', () => {
  it('waits for approval of exactly its head', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a, { fork: true });
      await preview.until('awaiting approval', (s) => s.phase === 'awaiting-approval');
      expect(host.journal.some((line) => line.startsWith('buildClosure'))).toBe(false);
      await expect(preview.handle.executeUpdate(approveUpdate, { args: [{ sha: b }] })).rejects.toThrow();
      await preview.handle.executeUpdate(approveUpdate, { args: [{ sha: a }] });
      await preview.until('live', (s) => s.phase === 'live');

      await preview.send('synchronize', b, { fork: true });
      const waits = await preview.until('awaiting approval again', (s) => s.phase === 'awaiting-approval');
      expect(waits.servedSha).toBe(a);
    }));

  it('that is pushed to while a failed commit was to be tried again waits quietly', () =>
    rig.withHost(async (host, preview, env) => {
      host.before = (name) => {
        if (name === 'writeRoute') throw ApplicationFailure.nonRetryable('odd', 'SomethingThatMayPass');
      };
      await preview.send('opened', a, { fork: true });
      await preview.until('awaiting approval', (s) => s.phase === 'awaiting-approval');
      await preview.handle.executeUpdate(approveUpdate, { args: [{ sha: a }] });
      await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed');
      await preview.send('synchronize', b, { fork: true });
      await preview.until('awaiting approval of b', (s) => s.phase === 'awaiting-approval' && s.desiredSha === b);
      const { historyLength } = await preview.handle.describe();
      await env.sleep('20 minutes');
      expect((await preview.handle.describe()).historyLength).toBeLessThan(historyLength + 20);
    }, skippingTime));

  it('is refused where the host refuses forks', () =>
    rig.withHost(async (host, preview) => {
      refuseForks(host);
      await preview.send('opened', a, { fork: true });
      const failed = await preview.until('failed', (s) => s.phase === 'failed');
      expect(failed.reason?.type).toBe('ForkRefused');
      await preview.send('closed', a, { fork: true });
      await preview.until('gone', (s) => s.phase === 'gone');
    }));
});

describe('an undo that does not get through', () => {
  it('makes the preview stuck after 10 minutes, and is still retried', () =>
    rig.withHost(async (host, preview, env) => {
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      let broken = true;
      host.before = (name) => {
        if (name === 'destroyContainer' && broken) throw failure('HostnameTaken', 'the disk is read-only');
      };
      await preview.send('closed', a);
      await preview.until('destroying', (s) => s.phase === 'destroying');
      await env.sleep('11 minutes');
      const stuck = await preview.until('stuck', (s) => s.phase === 'stuck');
      expect(stuck.reason?.message).toContain('the disk is read-only');
      broken = false;
      expect(await preview.handle.result()).toMatchObject({ phase: 'gone' });
      expect(host.containers.size).toBe(0);
    }, skippingTime));

  it('is found by reading the inventory back', () =>
    rig.withHost(async (host, preview) => {
      await preview.send('opened', a);
      await preview.until('live', (s) => s.phase === 'live');
      host.containers.set('pstray', { owner: preview.workflowId, sha: a });
      await preview.send('closed', a);
      await preview.until('gone', (s) => s.phase === 'gone');
      expect(host.containers.size).toBe(0);
    }));
});

describe('a failure that may pass', () => {
  it('is tried again by itself', () =>
    rig.withHost(async (host, preview, env) => {
      let broken = true;
      host.before = (name) => {
        if (name === 'writeRoute' && broken) throw failure('CaddyUnavailable', 'connect ECONNREFUSED');
      };
      await preview.send('opened', a);
      await env.sleep('6 minutes');
      await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed');
      broken = false;
      await env.sleep('2 minutes');
      await preview.until('live', (s) => s.phase === 'live');
    }, skippingTime));
});
