import type { Command } from 'commander';
import { type DataOptions, dataCommand, note, print } from '../command.ts';
import { withTemporal } from '../connection.ts';
import { CliError } from '../errors.ts';
import { readStatus, resolvePreview } from '../resolve.ts';

/** `tekton preview open`: prints the address, and opens it where there is a person to look. */
export function openCommand(): Command {
  return dataCommand('open', 'print the address, and open it in the browser when run on a terminal')
    .argument('<slug>', 'slug, owner/repo#42, owner/repo@branch, or URL')
    .action(async (typed: string, options: DataOptions) => {
      const status = await withTemporal(options, async ({ client }) =>
        readStatus(client, (await resolvePreview(client, typed, false)).handle),
      );
      if (!status.url)
        throw new CliError(`${typed} has no address yet: it is ${status.phase}`, `tekton preview status ${typed}`);
      print(options, { url: status.url, phase: status.phase }, [status.url]);
      if (process.stdout.isTTY && !options.json) await openInBrowser(status.url);
    });
}

async function openInBrowser(url: string): Promise<void> {
  const { execa } = await import('execa');
  const opener = process.platform === 'darwin' ? 'open' : 'xdg-open';
  const { failed } = await execa(opener, [url], { stdio: 'ignore', reject: false, timeout: 10_000 });
  if (failed) note(`Open it yourself: ${opener} did not.`);
}
