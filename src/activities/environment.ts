import { previewEnvironment } from '../domain/environment.ts';
import type { HostLayout } from '../host/layout.ts';
import type { Postgres } from '../host/postgres.ts';
import { readHostSecrets } from '../host/secrets.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { HostActivities } from './contract.ts';
import { currentStep } from './step.ts';

/**
 * `writeEnvironment`: the commit's source and `preview.env`, before first boot.
 *
 * @param publicUrl the public address of a slug, with scheme and, unless it is the scheme's own, port
 * @param gitBaseUrl repositories are `<base>/<owner>/<repo>.git`; credentials in it never reach a container
 */
export function environmentActivities(host: {
  runtime: Runtime;
  layout: HostLayout;
  postgres: Postgres;
  publicUrl: (slug: string) => string;
  gitBaseUrl: string;
}): Pick<HostActivities, 'writeEnvironment'> {
  const { runtime, layout, postgres, publicUrl, gitBaseUrl } = host;
  return {
    async writeEnvironment({ deployment, closure, slot, database }) {
      const { preview, container, fork } = deployment;
      const base = gitBaseUrl.replace(/\/+$/, '');
      const env = previewEnvironment({
        deployment,
        url: publicUrl(preview.slug),
        repoUrl: `${base}${base.endsWith(':') ? '' : '/'}${preview.owner}/${preview.repo}.git`,
        databaseUrl: database && (await postgres.databaseUrl({ database, host: runtime.databaseHost(slot) })),
        // A fork names whatever it likes and gets nothing: no secrets for forks, ever.
        secrets: fork ? {} : await readHostSecrets({ layout, repo: preview, names: closure.meta.hostSecrets }),
      });
      await runtime.writeEnvironment(container, deployment, closure, env, currentStep());
    },
  };
}
