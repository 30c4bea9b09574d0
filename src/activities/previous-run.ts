import { Context } from '@temporalio/activity';
import type { PreviewResult } from '../workflows/messages.ts';
import type { GitHubActivities } from './contract.ts';

/** How a pull request's earlier run ended: what a message that comes late has to be held against. */
export function previousRunActivities(): Pick<GitHubActivities, 'readPreviousRun'> {
  return {
    async readPreviousRun({ workflowId, runId }) {
      const { client } = Context.current();
      // The id is made of GitHub's own names, which hold no quote (checked at the webhook's edge).
      const query = `WorkflowId = "${workflowId}" AND ExecutionStatus = "Completed"`;
      for await (const execution of client.workflow.list({ query, pageSize: 1 })) {
        if (execution.runId === runId) continue;
        const handle = client.workflow.getHandle(workflowId, execution.runId, { followRuns: false });
        const { open, updatedAt } = (await handle.result()) as PreviewResult;
        return { open, updatedAt };
      }
      return undefined;
    },
  };
}
