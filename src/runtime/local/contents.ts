/** What the host puts into a container before its first boot. */
import { access, chmod, cp, mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { failure } from '../../activities/failure.ts';
import { isMissing } from '../../host/files.ts';
import { runGroup } from '../../host/process-group.ts';
import type { Step } from '../runtime.ts';
import { closureTree, removeTree } from './closures.ts';
import { lastLines } from './logs.ts';

/**
 * Copies a built tree to `app`, whole or not at all. The app may write into its copy, so no hard links; where the file system can,
 * blocks are shared.
 *
 * @param env of the copying program: with a marker, so that it is found should the worker die meanwhile
 */
export async function copySource(
  closurePath: string,
  app: string,
  env: Record<string, string>,
  step: Step,
): Promise<void> {
  const temp = `${app}.tmp`;
  await removeTree(temp);
  await mkdir(temp, { recursive: true });
  const argv = ['cp', '-a', '--reflink=auto', '--', `${closureTree(closurePath)}/.`, temp] as const;
  const { exitCode, stderr } = await runGroup(argv, { env, signal: step.signal });
  if (exitCode !== 0) {
    throw failure('ContainerFailed', `The source could not be copied to ${app}: ${lastLines(stderr, 2).join('; ')}`);
  }
  await removeTree(app);
  await rename(temp, app);
}

/** Copies an agent's credentials, for its eyes only; an empty folder where the host has none. */
export async function copySecrets(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o700 });
  const names = await readdir(from).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
  for (const name of names) {
    await cp(join(from, name), join(to, name), { recursive: true, dereference: true });
    await tighten(join(to, name));
  }
}

/** True when something is at the path. */
export async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Files 0600, folders 0700. */
async function tighten(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
  await chmod(path, entries ? 0o700 : 0o600);
  for (const entry of entries ?? []) await tighten(join(path, entry.name));
}
