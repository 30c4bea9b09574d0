/** Caddy's admin endpoint: adapting and loading a Caddyfile. */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface CaddyAdmin {
  /** Makes this Caddyfile the running configuration. Gives Caddy's words when it refuses; the old one then keeps serving. */
  load(caddyfile: string): Promise<{ refused?: string }>;
  /** Checks syntax and directives, without provisioning and without touching what runs. */
  adapt(caddyfile: string): Promise<{ refused?: string }>;
}

/** Caddy's admin endpoint doesn't answer. */
export class CaddyDown extends Error {
  override readonly name = 'CaddyDown';
}

/**
 * @param adminUrl `http://127.0.0.1:2019`, or `unix:///run/caddy/admin.sock`
 * @param timeoutMs a reload of thousands of previews takes seconds; beyond this Caddy counts as down
 */
export function caddyAdmin(adminUrl: string, timeoutMs = 60_000): CaddyAdmin {
  const url = new URL(adminUrl);
  const target =
    url.protocol === 'unix:'
      ? { socketPath: url.pathname, host: 'localhost', headers: { host: '' } }
      : { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || '2019', headers: {} };

  const post = (path: '/load' | '/adapt', caddyfile: string) =>
    new Promise<{ refused?: string }>((resolve, reject) => {
      const down = (error: Error) =>
        reject(new CaddyDown(`Caddy's admin endpoint ${adminUrl} does not answer: ${error.message}`, { cause: error }));
      const call = request(
        {
          ...target,
          path,
          method: 'POST',
          // Every load replaces the admin server too: a kept connection would be a dead one.
          agent: false,
          headers: { ...target.headers, 'content-type': 'text/caddyfile' },
          signal: AbortSignal.timeout(timeoutMs),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', down);
          response.on('end', () => {
            const status = response.statusCode ?? 0;
            if (status === 200) resolve({});
            else if (status === 400) resolve({ refused: words(Buffer.concat(chunks).toString()) });
            else down(new Error(`status ${status}: ${words(Buffer.concat(chunks).toString())}`));
          });
        },
      );
      call.on('error', down);
      call.end(caddyfile);
    });

  /**
   * Every load replaces the admin server too, and drops connections it hasn't read from yet. Both calls may be sent again
   * without harm; an endpoint that refuses connections is down.
   */
  const persistently = async (path: '/load' | '/adapt', caddyfile: string) => {
    for (let tries = 1; ; tries++) {
      try {
        return await post(path, caddyfile);
      } catch (error) {
        const { code } = (error as Error).cause as NodeJS.ErrnoException;
        if (code !== 'ECONNRESET' || tries === 6) throw error;
        await sleep(10 * tries);
      }
    }
  };

  return { load: (text) => persistently('/load', text), adapt: (text) => persistently('/adapt', text) };
}

/** Caddy's own words: `{"error":"…"}`. */
function words(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    if (typeof error === 'string') return error.slice(0, 2000);
  } catch {}
  return body.slice(0, 2000).trim() || 'no reason given';
}
