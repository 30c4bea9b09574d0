import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PreviewMeta } from '../domain/meta.ts';
import { declaredPorts } from '../domain/meta.ts';
import type { Runtime, Step } from '../runtime/runtime.ts';
import type { HostActivities } from './contract.ts';
import { failure } from './failure.ts';
import { currentStep } from './step.ts';

export interface HealthDeps {
  runtime: Pick<Runtime, 'upstreams' | 'services' | 'tail'>;
  /** A hostname's public address. */
  publicUrl(hostname: string): string;
  /** Previews are `<label>.<domain>`. */
  domain: string;
  /** Where this host's Caddy serves previews; default 127.0.0.1 and the port of the public address. */
  caddy?: { address?: string; port?: number };
  /** How long the public address may take, in milliseconds. */
  publicTimeoutMs?: number;
  /** The running activity; tests bring their own. */
  step?: () => Step;
}

/** Milliseconds between two looks: quick at first, because most apps are up at once. */
const [firstPause, lastPause] = [20, 500];
/** One answer may take this long: a development server compiles on its first request. */
const answerTimeoutMs = 30_000;
/** An app that has been restarted this often, and isn't running, is not coming up. */
const hopelessRestarts = 5;
const tailLines = 20;

/** Is the app up, from inside and from outside? Both keep looking until it is, and say what they wait for. */
export function healthActivities(deps: HealthDeps): Pick<HostActivities, 'probeContainer' | 'probePublic'> {
  const { runtime, publicUrl, domain, publicTimeoutMs = 30_000, step = currentStep } = deps;

  return {
    async probeContainer({ deployment, meta }) {
      const { signal, progress } = step();
      const { container, preview } = deployment;
      const ports = declaredPorts(meta);
      const url = new URL(publicUrl(`${preview.slug}.${domain}`));
      const { port, path } = healthTarget(meta);
      const deadline = performance.now() + meta.healthCheck.timeoutSeconds * 1000;

      // A look that our own deadline cut short says nothing: the answer before it does.
      let answered: string | undefined;
      for (const pause of pauses()) {
        const upstreams = await runtime.upstreams(container, ports);
        const silent = ports.filter((one) => !upstreams.some((up) => up.port === one));
        let seen = `nothing listens on ${silent.length === 1 ? 'port' : 'the ports'} ${silent.join(', ')}`;
        if (silent.length === 0) {
          const address = upstreams.find((up) => up.port === port)?.address ?? '';
          const answer = await get(new URL(`http://${address}${path}`), {
            headers: { host: url.host, 'x-forwarded-host': url.host, 'x-forwarded-proto': url.protocol.slice(0, -1) },
            timeoutMs: Math.max(1, Math.min(answerTimeoutMs, deadline - performance.now())),
            signal,
          });
          if (answer.status !== undefined && answer.status < 500) return { upstreams };
          seen = `GET ${path} on port ${port} ${answer.status === undefined ? `got no answer (${answer.error})` : `answered ${answer.status}`}`;
          if (answer.status !== undefined) answered = seen;
          else if (answer.error === 'timeout' && performance.now() >= deadline) seen = answered ?? seen;
        }
        progress(`waiting: ${seen}`);
        await failWhenHopeless(container, seen);
        if (performance.now() + pause >= deadline) {
          throw await unhealthy(container, `after ${meta.healthCheck.timeoutSeconds} s ${seen}`);
        }
        await sleep(pause, undefined, { signal });
      }
      throw new Error('unreachable');
    },

    async probePublic({ route }) {
      const { signal, progress } = step();
      const deadline = performance.now() + publicTimeoutMs;
      for (const { prefix, hostname } of route.hosts) {
        const url = new URL(publicUrl(hostname));
        url.pathname = '/';
        const target = new URL(prefix === '' ? route.meta.healthCheck.path : '/', url);
        for (const pause of pauses()) {
          const { status, headers, error } = await get(target, {
            connectTo: deps.caddy?.address ?? '127.0.0.1',
            port: deps.caddy?.port,
            headers: { host: url.host },
            timeoutMs: Math.max(1, Math.min(answerTimeoutMs, deadline - performance.now())),
            signal,
          });
          const sha = headers?.['x-tekton-sha'];
          if (status !== undefined && status < 500 && sha === route.sha) break;
          const seen =
            status === undefined
              ? `no answer (${error})`
              : `status ${status}, ${sha === undefined ? 'from no commit' : sha === route.sha ? 'from the right commit' : `from commit ${String(sha).slice(0, 12)}`}`;
          progress(`waiting: ${target.href}: ${seen}`);
          if (performance.now() + pause >= deadline) {
            throw failure(
              'PublicProbeFailed',
              `${target.href} should answer below 500 from commit ${route.sha.slice(0, 12)}, but through this host's Caddy it gave: ${seen}. Run tekton doctor, and read Caddy's log.`,
            );
          }
          await sleep(pause, undefined, { signal });
        }
      }
    },
  };

  async function failWhenHopeless(container: string, seen: string): Promise<void> {
    const services = await runtime.services(container);
    const crashing = services.filter(({ restarts }) => restarts >= hopelessRestarts);
    if (crashing.length === 0 || services.some(({ running }) => running)) return;
    const names = crashing.map(({ name, restarts }) => `${name} (${restarts} restarts)`).join(', ');
    throw await unhealthy(container, `it ends again and again: ${names}; ${seen}`);
  }

  async function unhealthy(container: string, what: string): Promise<Error> {
    const lines = await runtime.tail(container, tailLines).catch(() => []);
    const last = lines.length > 0 ? `\nIts last lines:\n${lines.join('\n').slice(-2000)}` : '\nIt wrote nothing.';
    return failure(
      'Unhealthy',
      `The app is not healthy: ${what}. Does it listen on $PORT, on 0.0.0.0 or $HOST?${last}`,
      {
        details: [{ lastLines: lines }],
      },
    );
  }
}

function* pauses(): Generator<number> {
  for (let pause = firstPause; ; pause = Math.min(lastPause, pause * 1.5)) yield pause;
}

/** The declared port and the path there that a visitor's request for the health check's path would meet. */
export function healthTarget(meta: Pick<PreviewMeta, 'routes' | 'healthCheck'>): { port: number; path: string } {
  const [pathname = '/', query] = meta.healthCheck.path.split('?');
  const route = meta.routes
    .filter(({ path }) => path === '/' || pathname === path || pathname.startsWith(`${path}/`))
    .sort((a, b) => b.path.length - a.path.length)[0];
  if (!route) throw failure('InvalidMeta', 'The meta has no route for "/".');
  const stripped = route.stripPrefix && route.path !== '/' ? pathname.slice(route.path.length) || '/' : pathname;
  return { port: route.port, path: query === undefined ? stripped : `${stripped}?${query}` };
}

interface Answer {
  status?: number;
  headers?: Record<string, string | string[] | undefined>;
  /** Why there was no answer. */
  error?: string;
}

/**
 * One GET whose body is not read. The name is never looked up: not every system resolves `*.localhost`, and this host's own
 * Caddy is meant, wherever DNS points.
 */
function get(
  url: URL,
  options: {
    headers: Record<string, string>;
    timeoutMs: number;
    signal: AbortSignal;
    connectTo?: string;
    port?: number;
  },
): Promise<Answer> {
  const secure = url.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const call = (secure ? requestHttps : requestHttp)({
      host: options.connectTo ?? url.hostname.replace(/^\[|\]$/g, ''),
      port: options.port ?? (url.port || (secure ? 443 : 80)),
      path: url.pathname + url.search,
      headers: { ...options.headers, 'user-agent': 'tekton-probe', accept: '*/*' },
      agent: false,
      signal: AbortSignal.any([options.signal, AbortSignal.timeout(Math.ceil(options.timeoutMs))]),
      // The certificate is the operator's affair; what is asked here is which commit answers.
      ...(secure ? { servername: url.hostname, rejectUnauthorized: false } : {}),
    });
    call.on('response', (response) => {
      resolve({ status: response.statusCode, headers: response.headers });
      response.destroy();
    });
    call.on('error', (error: NodeJS.ErrnoException) => {
      if (options.signal.aborted) reject(options.signal.reason);
      else
        resolve({
          error:
            error.name === 'TimeoutError' || error.name === 'AbortError' ? 'timeout' : (error.code ?? error.message),
        });
    });
    call.end();
  });
}
