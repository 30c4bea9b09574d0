/** A running webhook to post to, and what it logged. */
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { startWebhook } from '../../src/webhook/main.ts';
import { signedDelivery } from './payloads.ts';

/** Characters that a shell, a URL or a naive parser would stumble over. */
export const secret = 'gehäim \'"$`\\ \u{1f511}';

export interface TestWebhook {
  url: string;
  logs: Record<string, unknown>[];
  post(event: string, payload: unknown, options?: { delivery?: string; secret?: string }): Promise<Response>;
  send(body: string | Uint8Array, headers: Record<string, string>): Promise<Response>;
  close(): Promise<void>;
}

/** Starts the webhook as `tekton webhook` does, on a free port. */
export async function startTestWebhook(env: Record<string, string>): Promise<TestWebhook> {
  const logs: Record<string, unknown>[] = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      for (const line of chunk.toString().trim().split('\n')) logs.push(JSON.parse(line) as Record<string, unknown>);
      done();
    },
  });
  const webhook = await startWebhook(
    {
      GITHUB_WEBHOOK_SECRET: secret,
      PREVIEW_DOMAIN: 'preview.localhost',
      WEBHOOK_PORT: '0',
      TEKTON_HOST: 'box',
      ALLOWED_REPOS: 'acme/*,codertocat/hello-world',
      ...env,
    },
    pino({ level: 'debug' }, sink),
  );
  const send: TestWebhook['send'] = (body, headers) =>
    fetch(`${webhook.url}/webhook/github`, { method: 'POST', body, headers });
  return {
    ...webhook,
    logs,
    send,
    post: (event, payload, { delivery, secret: key = secret } = {}) => {
      const signed = signedDelivery(event, payload, key, delivery);
      return send(signed.body, signed.headers);
    },
  };
}
