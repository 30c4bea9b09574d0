import { Context } from '@temporalio/activity';
import type { GitHub } from '../github/github.ts';
import type { PreviewResult } from '../workflows/messages.ts';
import type { GitHubActivities } from './contract.ts';

/** What a message that comes late has to be held against: how the pull request's earlier run ended, and whether GitHub can be asked. */
export function backgroundActivities({
  github,
}: {
  github: GitHub | undefined;
}): Pick<GitHubActivities, 'readBackground'> {
  return {
    async readBackground({ workflowId, runId }) {
      const { client } = Context.current();
      const answer = { github: github !== undefined };
      // The id is made of GitHub's own names, which hold no quote (checked at the webhook's edge).
      const query = `WorkflowId = "${workflowId}" AND ExecutionStatus = "Completed"`;
      for await (const execution of client.workflow.list({ query, pageSize: 1 })) {
        if (execution.runId === runId) continue;
        const handle = client.workflow.getHandle(workflowId, execution.runId, { followRuns: false });
        const { open, updatedAt } = (await handle.result()) as PreviewResult;
        return { ...answer, previousRun: { open, updatedAt } };
      }
      return answer;
    },
  };
}
