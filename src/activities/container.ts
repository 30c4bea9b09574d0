import type { PreviewMeta } from '../domain/meta.ts';
import { readOrUndefined } from '../host/files.ts';
import type { HostLayout } from '../host/layout.ts';
import type { Leases } from '../host/leases.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { HostActivities } from './contract.ts';
import { currentStep } from './step.ts';

/** An agent serves nothing: nothing to route, set up or check. */
const agentMeta: PreviewMeta = {
  appServices: [],
  database: 'container',
  routes: [],
  hostSecrets: [],
  extraHosts: [],
  healthCheck: { path: '/', timeoutSeconds: 300 },
};

/** What brings a container (a deployment's or an agent's) up and takes it away. */
export function containerActivities(host: {
  runtime: Runtime;
  layout: Pick<HostLayout, 'agentSystemPath'>;
  /** Without it an agent's inventory shows no slot. */
  leases?: Pick<Leases, 'ofOwner'>;
}): Pick<
  HostActivities,
  | 'createContainer'
  | 'startContainer'
  | 'runSetup'
  | 'startServices'
  | 'destroyContainer'
  | 'createAgent'
  | 'destroyAgent'
  | 'readAgentInventory'
> {
  const { runtime, layout, leases } = host;
  return {
    async createContainer({ deployment, closure, slot }) {
      const { preview, container: name } = deployment;
      const { workflowId: owner, slug: label } = preview;
      await runtime.createContainer({ name, owner, kind: 'preview', label, closure, slot }, currentStep());
    },

    async startContainer({ deployment }) {
      await runtime.startContainer(deployment.container, currentStep());
    },

    async runSetup({ deployment, meta }) {
      await runtime.runSetup(deployment.container, meta, currentStep());
    },

    async startServices({ deployment, meta }) {
      await runtime.startServices(deployment.container, meta, currentStep());
    },

    async destroyContainer({ container }) {
      await runtime.destroyContainer(container, currentStep());
    },

    async createAgent({ name: label, workflowId: owner, container: name, slot }) {
      const step = currentStep();
      // The agent's system is built once for the host; the local runtime has none.
      const path = (await readOrUndefined(layout.agentSystemPath))?.trim() ?? '';
      const closure = { path, meta: agentMeta, logPath: '', cached: true };
      await runtime.createContainer({ name, owner, kind: 'agent', label, closure, slot }, step);
      await runtime.startContainer(name, step);
    },

    async destroyAgent({ container }) {
      await runtime.destroyContainer(container, currentStep());
    },

    async readAgentInventory({ workflowId }) {
      const [standing, slots] = await Promise.all([runtime.inventory(workflowId), leases?.ofOwner(workflowId) ?? []]);
      return [...standing, ...slots.map(({ container }) => ({ kind: 'slot' as const, name: container }))];
    },
  };
}
