export { agentWorkflow } from './agent.ts';
export { previewWorkflow } from './preview.ts';
