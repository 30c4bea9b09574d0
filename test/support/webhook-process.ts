/** `tekton webhook` alone, for tests and benches that want it in a process of its own: `npx tsx test/support/webhook-process.ts`. */
import { runWebhook } from '../../src/webhook/main.ts';

await runWebhook(process.env);
