/**
 * What a repo declares of its preview: `preview-meta.json` (local runtime) or `previewMeta` of `preview-config.nix`.
 * It is the pull request author's text: every string is restricted here, so that no later layer meets surprising bytes.
 */
export interface PreviewMeta {
  setupService?: string;
  appServices: string[];
  /** `"host"`: one PostgreSQL database of the host's; `"container"`: the app brings its own, or has none. */
  database: 'host' | 'container';
  routes: MetaRoute[];
  hostSecrets: string[];
  extraHosts: { prefix: string; routes: MetaRoute[] }[];
  healthCheck: { path: string; timeoutSeconds: number };
}

export interface MetaRoute {
  /** `/` or `/api`; `/api` and `/api/*` mean the same and are kept as `/api`. */
  path: string;
  /** Declared port, 1–65535. */
  port: number;
  stripPrefix: boolean;
  /** The service that listens there. */
  service?: string;
}
