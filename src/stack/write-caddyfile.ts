/**
 * Writes the main Caddyfile for a Caddy that `tekton up` does not run (docker-compose.dev.yml), from the environment that worker and
 * webhook are given: `node dist/stack/write-caddyfile.js`. Prints its path.
 */
import { readConfig } from '../config.ts';
import { hostLayout } from '../host/layout.ts';
import { prepareCaddy } from './caddy.ts';

const config = readConfig(process.env, 'webhook');
const layout = hostLayout(config.stateDir);
await prepareCaddy(layout, {
  domain: config.previewDomain,
  httpPort: config.publicPort,
  adminPort: Number(new URL(config.caddyAdmin).port),
  webhookPort: config.webhookPort,
});
process.stdout.write(`${layout.caddyfile}\n`);
