import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { expect, it } from 'vitest';

const here = dirname(fileURLToPath(import.meta.url));
const histories = join(here, 'histories');
/** What production runs: `npm run build` makes it. */
const codePath = join(here, '../../dist/worker/workflow-bundle.js');

const names = (await readdir(histories)).filter((name) => name.endsWith('.json'));

it('there are recordings', () => expect(names.length).toBeGreaterThanOrEqual(4));

it.each(names)('%s replays against the production bundle: nothing breaks on upgrade', async (name) => {
  const history = historyFromJSON(JSON.parse(await readFile(join(histories, name), 'utf8')));
  await Worker.runReplayHistory({ workflowBundle: { codePath } }, history, `preview/recorded/${name}`);
});

it('a changed workflow is noticed', async () => {
  const history = historyFromJSON(JSON.parse(await readFile(join(histories, 'life-of-a-preview.json'), 'utf8')));
  const scheduled = history.events?.find(
    (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'buildClosure',
  );
  if (scheduled?.activityTaskScheduledEventAttributes)
    scheduled.activityTaskScheduledEventAttributes.activityType = { name: 'buildSomethingElse' };
  await expect(
    Worker.runReplayHistory({ workflowBundle: { codePath } }, history, 'preview/recorded/changed'),
  ).rejects.toThrow(/[Nn]ondeterminism/);
});
