/** Bundles the workflows once, at build time (`npm run build`): bundling takes seconds, and production must run what was tested. */
import { existsSync, realpathSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, type WorkflowBundleOption } from '@temporalio/worker';

const here = dirname(fileURLToPath(import.meta.url));
/** `.ts` when run from the sources, `.js` when run from `dist`. */
const ext = extname(fileURLToPath(import.meta.url));
const prebuilt = join(here, 'workflow-bundle.js');

export const workflowsPath = join(here, '..', 'workflows', `index${ext}`);
export const workflowInterceptorModules = [join(here, '..', 'workflows', `interceptors${ext}`)];

/** Bundles the workflows and their interceptors from where this file lies. */
export async function bundleWorkflows(): Promise<{ code: string }> {
  return bundleWorkflowCode({
    workflowsPath,
    workflowInterceptorModules,
    // zod and pino must never get in: 577 KB of heap a workflow (measured) and no determinism.
    ignoreModules: [],
    logger: { log() {}, trace() {}, debug() {}, info() {}, warn: console.warn, error: console.error },
  });
}

/** The prebuilt bundle when there is one (production), else one made now (sources). */
export async function workflowBundle(): Promise<WorkflowBundleOption> {
  return existsSync(prebuilt) ? { codePath: prebuilt } : bundleWorkflows();
}

async function main(): Promise<void> {
  const { code } = await bundleWorkflows();
  await mkdir(here, { recursive: true });
  await writeFile(`${prebuilt}.tmp`, code);
  await rename(`${prebuilt}.tmp`, prebuilt);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
