import { pino } from 'pino';
import { readConfig } from '../config.ts';
import { createGitHub } from '../github/github.ts';
import { createMirror, type Mirror } from '../host/mirror.ts';
import { createLocalRuntime } from '../runtime/local/index.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { Machine } from './connection.ts';

/**
 * This host's runtime and mirrors in the command line's own process, beside the worker's: what a command does there is locked and
 * idempotent like the worker's own steps.
 *
 * @param gitBaseUrl default: GIT_BASE_URL, else GitHub
 */
export async function withLocalRuntime<T>(
  machine: Machine,
  work: (runtime: Runtime, mirror: Mirror) => Promise<T>,
  gitBaseUrl?: string,
): Promise<T> {
  const { layout, stateDir, host } = machine;
  const logger = pino({ level: 'silent' });
  const config = readConfig(
    {
      ...process.env,
      PREVIEW_DOMAIN: 'localhost',
      TEKTON_RUNTIME: 'local',
      TEKTON_STATE_DIR: stateDir,
      TEKTON_HOST: host,
      ...(gitBaseUrl === undefined ? {} : { GIT_BASE_URL: gitBaseUrl }),
    },
    'worker',
  );
  const github = createGitHub(config, logger);
  const credentials = github && (() => github.gitToken());
  const mirror = createMirror({ layout, gitBaseUrl: config.gitBaseUrl, credentials });
  const runtime = createLocalRuntime({ layout, mirror, logger });
  try {
    return await work(runtime, mirror);
  } finally {
    await runtime.close();
  }
}
