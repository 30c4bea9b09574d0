import { Command } from 'commander';

/** `tekton webhook` and `tekton worker`: one service, configured by its environment alone, until it is told to stop. */
export function serviceCommand(name: 'webhook' | 'worker', description: string): Command {
  return new Command(name).description(description).action(async () => {
    if (name === 'webhook') {
      const { runWebhook } = await import('../webhook/main.ts');
      await runWebhook(process.env);
    } else {
      const { runWorker } = await import('../worker/main.ts');
      await runWorker(process.env);
    }
  });
}
