import { type IncomingHttpHeaders, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  ms: number;
}

/**
 * Asks a preview's public address the way a browser does: `*.localhost` is this machine, whatever the resolver thinks of it.
 *
 * @param url such as `http://hello-1.preview.localhost:8080/api`
 */
export function visit(url: string, timeoutMs = 10_000): Promise<Answer> {
  const { host, hostname, port, pathname, search } = new URL(url);
  const address = hostname.endsWith('.localhost') ? '127.0.0.1' : hostname;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: address, port, path: `${pathname}${search}`, headers: { host }, agent: false, timeout: timeoutMs },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          body += part;
        });
        response.on('error', reject);
        response.on('end', () => {
          const ms = performance.now() - started;
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body, ms });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`${url} did not answer within ${timeoutMs / 1000} s`)));
    asked.on('error', reject);
    asked.end();
  });
}

export interface Visits {
  /** How many were answered 200. */
  served: number;
  /** What went wrong with the others. */
  failed: string[];
  /** Answers by the commit that served them (`X-Tekton-Sha`). */
  bySha: Map<string, number>;
  slowestMs: number;
}

/** People who look at the preview all the time: several at once, each asking again as soon as it was answered. */
export function keepVisiting(url: string, people: number): { visits: Visits; stop(): Promise<Visits> } {
  const visits: Visits = { served: 0, failed: [], bySha: new Map(), slowestMs: 0 };
  let going = true;
  const one = async () => {
    while (going) {
      try {
        const answer = await visit(url);
        const sha = String(answer.headers['x-tekton-sha'] ?? 'none');
        if (answer.status === 200) {
          visits.served += 1;
          visits.bySha.set(sha, (visits.bySha.get(sha) ?? 0) + 1);
          visits.slowestMs = Math.max(visits.slowestMs, answer.ms);
        } else {
          visits.failed.push(`status ${answer.status} from ${sha}: ${answer.body.slice(0, 100)}`);
        }
      } catch (error) {
        visits.failed.push(error instanceof Error ? error.message : String(error));
      }
      await sleep(20);
    }
  };
  const crowd = Promise.all(Array.from({ length: people }, one));
  return {
    visits,
    async stop() {
      going = false;
      await crowd;
      return visits;
    },
  };
}
