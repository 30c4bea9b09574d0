import { join } from 'node:path';

/**
 * Every path on the host, in one place. The nixos runtime's root is `/`; the local runtime keeps the same tree under its state
 * folder, so that what the docs say of a path holds on both.
 */
export function hostLayout(root: string) {
  const at = (...parts: string[]) => join(root, ...parts);
  const deploys = at('var/lib/preview-deploys');
  return {
    root,
    /** The slot counter, shared by agents and previews. */
    nextSlot: at('var/lib/claude-agents/.next_slot'),
    /** One lease record a container. */
    leases: at('var/lib/claude-agents/leases'),
    agentSystemPath: at('var/lib/claude-agents/.system-path'),
    deploys,
    previewSystemPath: join(deploys, '.system-path'),
    /** The host-wide registry of hostnames: one file a label. */
    hostnames: join(deploys, 'hostnames'),
    /** The address of each preview's live deployment, read by Caddy on every request. */
    live: join(deploys, 'live'),
    /** What a visitor sees while nothing serves, one page a hostname label. */
    progress: join(deploys, 'progress'),
    /** Bare mirrors, `<owner>/<repo>.git`. */
    mirrors: join(deploys, 'mirrors'),
    /** Built closures of the local runtime, by repo and commit. */
    closures: join(deploys, 'closures'),
    /** Root-only passwords of preview databases. */
    databases: join(deploys, 'databases'),
    /** Containers of the local runtime. */
    containers: at('var/lib/tekton-containers'),
    /** Logs of a label (slug or agent name), kept under a quota. */
    logs: at('var/log/tekton'),
    caddyfile: at('etc/caddy/Caddyfile'),
    /** One preview's shape a file; the main Caddyfile imports `*.caddy`. */
    caddyPreviews: at('etc/caddy/previews'),
    /** `<owner>/<repo>.env`: what `hostSecrets` may name. */
    previewSecrets: at('var/secrets/previews'),
    /** What an agent container gets at `/mnt/claude-creds`. */
    claudeSecrets: at('var/secrets/claude'),
    locks: at('run/tekton'),
  };
}

export type HostLayout = ReturnType<typeof hostLayout>;
