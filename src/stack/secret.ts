import { randomBytes } from 'node:crypto';
import { readOrUndefined, writeAtomic } from '../host/files.ts';

/** The secret that a file holds; made at random (256 bits, hex) the first time, for its owner's eyes only. */
export async function secretOf(file: string): Promise<string> {
  const kept = (await readOrUndefined(file))?.trim();
  if (kept) return kept;
  const secret = randomBytes(32).toString('hex');
  await writeAtomic(file, `${secret}\n`, { mode: 0o600, sync: true });
  return secret;
}
