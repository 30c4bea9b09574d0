import { Context } from '@temporalio/activity';
import type { Mirror } from '../host/mirror.ts';
import type { WaitingRoom } from '../host/waiting-room.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { BuildActivities, HostActivities } from './contract.ts';
import { failure } from './failure.ts';
import { notifyPlace, placeToldLast } from './place.ts';
import { currentStep } from './step.ts';

/**
 * `buildClosure`, `abortBuild` and `resolveBranch`.
 *
 * @param builds how many builds may run on this host at once; what is built already waits for none
 */
export function closureActivities(host: {
  runtime: Runtime;
  mirror: Mirror;
  builds: WaitingRoom;
}): BuildActivities & Pick<HostActivities, 'abortBuild' | 'resolveBranch'> {
  const { runtime, mirror, builds } = host;
  return {
    async buildClosure({ deployment }) {
      const step = currentStep();
      const { container } = deployment;
      // The runtime says whether it takes a fork's commit; what it finds in the cache came in through `buildClosure` all the same.
      const cached = deployment.fork ? undefined : await runtime.findClosure?.(deployment);
      if (cached) return cached;
      const leave = await builds.enter({
        key: container,
        since: Context.current().info.scheduledTimestampMs,
        signal: step.signal,
        onPlace(place) {
          if (place > 0) step.progress(`waits for a build place, place ${place}`);
          notifyPlace({ container, queue: 'build', place });
        },
      });
      try {
        return await runtime.buildClosure(deployment, step);
      } finally {
        leave();
        await placeToldLast();
      }
    },

    async abortBuild({ container }) {
      await runtime.abortBuild(container);
    },

    async resolveBranch({ source }) {
      const { owner, repo, branch } = source;
      if (branch === undefined)
        throw failure('BranchNotFound', `${owner}/${repo}#${source.number} has no branch to resolve.`);
      return await mirror.resolveBranch({ owner, repo, branch, signal: currentStep().signal });
    },
  };
}
