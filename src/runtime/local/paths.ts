/** The folders and names of the local runtime's containers. */
import { join } from 'node:path';
import type { HostLayout } from '../../host/layout.ts';

const namePattern = /^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$/;
const labelPattern = /^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/;

/** Every path of one container. Throws for a name that is none, so that no other folder is ever meant. */
export function containerPaths(layout: HostLayout, name: string) {
  if (!namePattern.test(name)) throw new Error(`'${name}' can't be a container's name.`);
  const folder = join(layout.containers, name);
  const root = join(folder, 'root');
  const home = join(root, 'home/preview');
  return {
    folder,
    record: join(folder, 'container.json'),
    /** What the container sees as `/`. */
    root,
    home,
    app: join(home, 'app'),
    previewEnv: join(root, 'etc/preview.env'),
    tmp: join(root, 'tmp'),
    claudeCreds: join(root, 'mnt/claude-creds'),
  };
}

/** The folder of a label's logs. */
export function logFolder(layout: HostLayout, label: string): string {
  if (!labelPattern.test(label)) throw new Error(`'${label}' can't be the name of a folder of logs.`);
  return join(layout.logs, label);
}

export function appLogPath(layout: HostLayout, label: string, container: string, service: string): string {
  return join(logFolder(layout, label), `${container}-${service}.log`);
}

export function buildLogPath(layout: HostLayout, label: string, container: string): string {
  return join(logFolder(layout, label), `build-${container}.log`);
}
