/** What is the same for every process of this host and state folder. */
import { createHash } from 'node:crypto';
import { accessSync, constants, mkdirSync, realpathSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import type { HostLayout } from '../../host/layout.ts';
import { type Machine, standardPath } from './environment.ts';

/** What processes of this host have in common; makes the state folder. */
export function describeMachine(layout: HostLayout): Machine {
  mkdirSync(layout.root, { recursive: true });
  const stateId = createHash('sha256').update(realpathSync(layout.root)).digest('hex').slice(0, 10);
  const npm = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, 'npm'))
    .find((path) => firstExecutable([path]));
  return { stateId, path: standardPath(process.execPath, npm), user: userName() };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A uid that no passwd entry names.
    return 'preview';
  }
}

/** The first of these paths that may be executed. */
export function firstExecutable(paths: string[]): string | undefined {
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
