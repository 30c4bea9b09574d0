/** A worker of its own process, for tests that kill it: brings up what it is told, says so, and stays. */
import { join } from 'node:path';
import pino from 'pino';
import { hostLayout } from '../../src/host/layout.ts';
import { createMachineClaims } from '../../src/host/machine-claims.ts';
import { createMirror } from '../../src/host/mirror.ts';
import { createLocalRuntime } from '../../src/runtime/local/index.ts';
import { slot, step } from './local-rig.ts';

const [root = '', text = '{}'] = process.argv.slice(2);
const deployment = JSON.parse(text);
const layout = hostLayout(join(root, 'state'));
const runtime = createLocalRuntime({
  layout,
  mirror: createMirror({ layout, gitBaseUrl: join(root, 'repos') }),
  logger: pino({ level: 'silent' }),
  claims: createMachineClaims(join(root, 'claims')),
});
const name = deployment.container;
console.log('building');
const closure = await runtime.buildClosure(deployment, step());
const { slug: label, workflowId: owner } = deployment.preview;
await runtime.createContainer({ name, owner, kind: 'preview', label, closure, slot: slot(1) }, step());
await runtime.writeEnvironment(name, deployment, closure, { GREETING: 'hi' }, step());
await runtime.startContainer(name, step());
await runtime.runSetup(name, closure.meta, step());
await runtime.startServices(name, closure.meta, step());
console.log('up');
setInterval(() => {}, 1000);
