/** Gives every activity a summary, so that the Temporal web UI's timeline names what each one is for. */
import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

export const interceptors: WorkflowInterceptorsFactory = () => ({
  outbound: [
    {
      scheduleActivity: (input, next) =>
        next({ ...input, options: { ...input.options, summary: input.options.summary ?? summaryOf(input.args[0]) } }),
    },
  ],
});

interface Named {
  deployment?: { sha: string; container: string };
  route?: { sha: string; container: string };
  preview?: { slug: string };
  container?: string;
  candidate?: string;
  workflowId?: string;
}

/** `abc1234 in p1a2b3c4d5e`, or whatever of it the activity is about. */
export function summaryOf(arg: unknown): string | undefined {
  const named = (arg ?? {}) as Named;
  const about = named.deployment ?? named.route;
  if (about) return `${about.sha.slice(0, 7)} in ${about.container}`;
  return named.container ?? named.preview?.slug ?? named.candidate ?? named.workflowId;
}
