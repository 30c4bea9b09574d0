/** GitHub's own examples of what it sends, and what tekton's demo sends. */
import examples from '@octokit/webhooks-examples';

export { pullRequestPayload, signedDelivery } from '../../src/github/payload.ts';

interface Examples {
  name: string;
  examples: Record<string, unknown>[];
}

const all = (Array.isArray(examples) ? examples : (examples as { default: unknown }).default) as Examples[];

/** Every example of one event. */
export function examplesOf(event: string): Record<string, unknown>[] {
  return all.find((entry) => entry.name === event)?.examples ?? [];
}

/** The names of all events there are examples of. */
export const exampleEvents: string[] = all.map((entry) => entry.name);
