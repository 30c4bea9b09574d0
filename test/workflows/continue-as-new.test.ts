import { beforeAll, expect, it } from 'vitest';
import { startWorkflowRig, type WorkflowRig } from '../support/workflow-rig.ts';

const a = 'a'.repeat(40);
const b = 'b'.repeat(40);

let rig: WorkflowRig;
beforeAll(async () => {
  rig = await startWorkflowRig();
});

it('history stays small: the preview continues as new, and nothing of it is forgotten', () =>
  rig.withHost(
    async (host, preview) => {
      const opened = await preview.send('opened', a);
      const { deployments } = await preview.until('live', (s) => s.phase === 'live');
      const next = await preview.until('continued as new', (s) => s.runId !== preview.firstRunId());
      expect(next).toMatchObject({ phase: 'live', servedSha: a, desiredSha: a, attempt: 1, deployments });

      await preview.deliver(opened);
      await preview.send('synchronize', b);
      await preview.until('live with b', (s) => s.servedSha === b && s.phase === 'live');
      expect(host.journal.filter((line) => line.startsWith('claimSlug')).length).toBe(1);
      expect(new Set(host.journal.filter((line) => line.startsWith('createContainer'))).size).toBe(2);

      await preview.send('closed', b);
      await preview.until('gone', (s) => s.phase === 'gone');
      expect([host.containers.size, host.slots.size, host.routes.size, host.hostnames.size]).toEqual([0, 0, 0, 0]);
    },
    { server: 'suggests continue-as-new' },
  ));
