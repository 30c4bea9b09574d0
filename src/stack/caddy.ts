import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { request } from 'undici';
import { mainCaddyfile } from '../domain/caddy.ts';
import { writeAtomic } from '../host/files.ts';
import type { HostLayout } from '../host/layout.ts';

export function caddyArgv(program: string, caddyfile: string): [string, ...string[]] {
  return [program, 'run', '--config', caddyfile, '--adapter', 'caddyfile'];
}

/** Writes the main Caddyfile, and makes the folders it reads. Plain HTTP, on loopback addresses alone. */
export async function prepareCaddy(
  layout: HostLayout,
  settings: { domain: string; httpPort: number; adminPort: number; webhookPort: number },
): Promise<void> {
  for (const folder of [layout.caddyPreviews, layout.live, layout.progress]) await mkdir(folder, { recursive: true });
  const text = mainCaddyfile({
    domain: settings.domain,
    scheme: 'http',
    port: settings.httpPort,
    layout,
    adminAddress: `127.0.0.1:${settings.adminPort}`,
    webhookPort: settings.webhookPort,
    // Browsers take *.localhost to either of the two.
    bind: (await hasIpv6Loopback()) ? ['127.0.0.1', '::1'] : ['127.0.0.1'],
  });
  await writeAtomic(layout.caddyfile, text);
}

/** Whether Caddy runs: its admin endpoint answers. */
export async function caddyReady(admin: string): Promise<boolean> {
  // Not `fetch`: it says it is a browser (Sec-Fetch-Mode), and to those Caddy's admin endpoint is closed.
  const { statusCode, body } = await request(`${admin}/config/admin`, { headersTimeout: 2_000 });
  await body.dump();
  return statusCode === 200;
}

function hasIpv6Loopback(): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host: '::1', port: 0 }, () => server.close(() => resolve(true)));
  });
}
