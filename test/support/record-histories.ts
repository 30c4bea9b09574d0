/**
 * Records the histories that `test/workflows/replay.test.ts` replays: a preview's whole life, a superseded build, a failed update, a
 * fork, an agent. Run it (`npx tsx test/support/record-histories.ts`) when a released workflow has changed behind `patched()`, and
 * keep the old recordings: they are what runs in the field.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { failure } from '../../src/activities/failure.ts';
import { approveUpdate, destroyUpdate, redeployUpdate } from '../../src/workflows/messages.ts';
import { gate, type ModelHost, plainMeta } from './model-host.ts';
import { type PreviewDriver, startWorkflowRig } from './workflow-rig.ts';

const folder = join(dirname(fileURLToPath(import.meta.url)), '../workflows/histories');
const [a, b] = ['a'.repeat(40), 'b'.repeat(40)];

const stories: Record<string, (host: ModelHost, preview: PreviewDriver) => Promise<unknown>> = {
  'life-of-a-preview': async (host, preview) => {
    host.metaOf = () => ({ ...plainMeta, database: 'host', setupService: 'setup' });
    await preview.send('opened', a);
    await preview.until('live', (s) => s.phase === 'live');
    await preview.send('synchronize', b);
    await preview.until('live with b', (s) => s.servedSha === b && s.phase === 'live');
    await preview.handle.executeUpdate(redeployUpdate, { args: [{ resetDatabase: true }] });
    await preview.until('redeployed', (s) => s.lastAttempt?.number === 3 && s.phase === 'live');
    await preview.until('drained', (s) => s.deployments.length === 1);
    await preview.send('closed', b);
    await preview.until('gone', (s) => s.phase === 'gone');
  },
  'superseded-build': async (host, preview) => {
    const held = gate();
    host.before = (name, sha) => (name === 'buildClosure' && sha === a ? held.promise : undefined);
    await preview.send('opened', a);
    await preview.until('building', (s) => s.steps.some((step) => step.name === 'buildClosure'));
    await preview.send('synchronize', b);
    await preview.until('live with b', (s) => s.servedSha === b);
    held.open();
  },
  'failed-update': async (host, preview) => {
    host.metaOf = () => ({ ...plainMeta, database: 'host', setupService: 'setup' });
    host.before = (name, sha) => {
      if (name === 'probePublic' && sha === b) throw failure('PublicProbeFailed', 'answers 404');
    };
    await preview.send('opened', a);
    await preview.until('live', (s) => s.phase === 'live');
    await preview.send('synchronize', b);
    await preview.until('failed', (s) => s.lastAttempt?.outcome === 'failed');
    await preview.handle.executeUpdate(destroyUpdate);
    await preview.until('gone', (s) => s.phase === 'gone');
  },
  'approved-fork': async (_host, preview) => {
    await preview.send('opened', a, { fork: true });
    await preview.until('awaiting approval', (s) => s.phase === 'awaiting-approval');
    await preview.handle.executeUpdate(approveUpdate, { args: [{ sha: a }] });
    await preview.until('live', (s) => s.phase === 'live');
  },
};

const rig = await startWorkflowRig();
await mkdir(folder, { recursive: true });
for (const [name, story] of Object.entries(stories)) {
  await rig.withHost(
    async (host, preview) => {
      await story(host, preview);
      await preview.end();
      const [history] = preview.histories;
      await writeFile(join(folder, `${name}.json`), `${historyToJSON(history as never)}\n`);
      console.log(name);
    },
    { server: 'local' },
  );
}
process.exit(0);
