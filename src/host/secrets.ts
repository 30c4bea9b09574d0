/** What a repo's previews may be given of this host: `<owner>/<repo>.env`, never the services' own environment. */
import { join } from 'node:path';
import { failure } from '../activities/failure.ts';
import { EnvFileError, parseEnvFile } from '../domain/environment.ts';
import { readOrUndefined } from './files.ts';
import type { HostLayout } from './layout.ts';

const namePattern = /^[a-z0-9._-]{1,100}$/;

/** The file with a repo's secrets; owner and repo in lower case. Throws RangeError when they are no GitHub names. */
export function secretsFile(layout: HostLayout, repo: { owner: string; repo: string }): string {
  const [owner, name] = [repo.owner.toLowerCase(), repo.repo.toLowerCase()];
  for (const part of [owner, name]) {
    if (!namePattern.test(part) || /^\.+$/.test(part))
      throw new RangeError(`${JSON.stringify(part)} is not a name of GitHub's`);
  }
  return join(layout.previewSecrets, owner, `${name}.env`);
}

/**
 * The named secrets of a repo, and no others.
 *
 * @throws MissingHostSecret that names each secret that is missing, and the file; never what the file holds
 */
export async function readHostSecrets(input: {
  layout: HostLayout;
  repo: { owner: string; repo: string };
  names: readonly string[];
}): Promise<Record<string, string>> {
  if (input.names.length === 0) return {};
  const file = secretsFile(input.layout, input.repo);
  const text = await readOrUndefined(file);
  let all: Record<string, string>;
  try {
    all = parseEnvFile(text ?? '');
  } catch (error) {
    if (!(error instanceof EnvFileError)) throw error;
    throw failure('MissingHostSecret', `${file}: ${error.message}`);
  }
  const missing = input.names.filter((name) => !Object.hasOwn(all, name));
  if (missing.length > 0) {
    throw failure(
      'MissingHostSecret',
      `${missing.join(', ')}: named in hostSecrets, but ${text === undefined ? `there is no ${file}` : `not set in ${file}`}`,
    );
  }
  return Object.fromEntries(input.names.map((name) => [name, all[name] as string]));
}
