import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import { failure } from '../../src/activities/failure.ts';
import { destroyUpdate, redeployUpdate } from '../../src/workflows/messages.ts';
import { plainMeta } from '../support/model-host.ts';
import { drivePreview, startWorkflowRig, type WorkflowRig } from '../support/workflow-rig.ts';

let rig: WorkflowRig;
beforeAll(async () => {
  rig = await startWorkflowRig();
});

/** What happens to a pull request, and how many milliseconds later. Commits that begin with `f` don't build. */
const happening = fc.tuple(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.constantFrom('a', 'b', 'c', 'd', 'f').map((digit) => ({ what: 'push' as const, digit })),
    },
    { weight: 2, arbitrary: fc.constant({ what: 'close' as const }) },
    { weight: 2, arbitrary: fc.constant({ what: 'redeliver' as const }) },
    { weight: 1, arbitrary: fc.constant({ what: 'redeploy' as const }) },
    { weight: 1, arbitrary: fc.constant({ what: 'destroy' as const }) },
  ),
  fc.integer({ min: 0, max: 120 }),
);

it(
  'under any interleaving nothing overlaps, nothing leaks, and the last word is what stands',
  () =>
    rig.withHost(
      async (host, _preview, env) => {
        host.metaOf = (sha) => ({
          ...plainMeta,
          database: sha.startsWith('c') ? 'container' : 'host',
          setupService: 'setup',
        });
        host.before = async (name, sha) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 12));
          if (name === 'buildClosure' && sha?.startsWith('f')) throw failure('BuildFailed', 'does not compile');
          if (Math.random() < 0.02) throw new Error('a hiccup');
        };
        await fc.assert(
          fc.asyncProperty(fc.array(happening, { minLength: 1, maxLength: 9 }), async (happenings) => {
            const preview = drivePreview(env);
            const sent = [await preview.send('opened', 'a'.repeat(40))];
            let open = true;
            let sha = 'a'.repeat(40);
            let held = false;
            for (const [happened, pause] of happenings) {
              await new Promise((resolve) => setTimeout(resolve, pause));
              if (happened.what === 'push') {
                held &&= open && sha === happened.digit.repeat(40);
                sha = happened.digit.repeat(40);
                sent.push(await preview.send(open ? 'synchronize' : 'reopened', sha));
                open = true;
              } else if (happened.what === 'close') {
                sent.push(await preview.send('closed', sha));
                open = false;
                held = false;
              } else if (happened.what === 'redeliver') {
                await preview.deliver(sent[Math.floor(Math.random() * sent.length)] ?? (sent[0] as never));
              } else if (open && happened.what === 'redeploy') {
                await preview.handle.executeUpdate(redeployUpdate, { args: [{}] });
                held = false;
              } else if (open && happened.what === 'destroy') {
                await preview.handle.executeUpdate(destroyUpdate);
                held = true;
              }
            }
            const wanted = open && !held;
            if (!wanted) await preview.until('gone', (s) => s.phase === 'gone');
            else if (sha.startsWith('f'))
              await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed' && s.lastAttempt.sha === sha);
            else await preview.until(`live with ${sha[0]}`, (s) => s.phase === 'live' && s.servedSha === sha);

            await preview.send('closed', sha);
            await preview.until('gone', (s) => s.phase === 'gone');
            expect(host.broken).toEqual([]);
            expect([...host.containers.values()].filter((c) => c.owner === preview.workflowId)).toEqual([]);
            await preview.end();
            _preview.histories.push(...preview.histories);
          }),
          { numRuns: Number(process.env.TEKTON_RUNS ?? 8), endOnFailure: true },
        );
        expect([
          host.containers.size,
          host.slots.size,
          host.routes.size,
          host.databases.size,
          host.hostnames.size,
        ]).toEqual([0, 0, 0, 0, 0]);
      },
      { server: 'suggests continue-as-new' },
    ),
  120_000,
);
