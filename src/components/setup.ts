/**
 * What `scripts/setup.mjs` runs once Tekton is built: finds or fetches every component, says so on stderr, and prints on stdout, as
 * JSON, which files it found, so that the next setup can tell at a glance that nothing has changed.
 */
import { statSync } from 'node:fs';
import { catalogue } from './catalogue.ts';
import { ComponentMissing, resolveComponent } from './resolve.ts';

const quiet = process.argv.includes('--quiet');
const found: { path: string; mtimeMs: number }[] = [];
const missing: string[] = [];

for (const spec of Object.values(catalogue)) {
  try {
    const { version, path, origin } = await resolveComponent(spec.name);
    found.push({ path, mtimeMs: statSync(path).mtimeMs });
    if (!quiet || origin === 'download') process.stderr.write(`${spec.title} ${version}: ${path}\n`);
  } catch (error) {
    if (!(error instanceof ComponentMissing)) throw error;
    process.stderr.write(`${error.message}\n`);
    if (spec.needed) missing.push(spec.title);
  }
}

if (missing.length > 0) process.exitCode = 1;
else process.stdout.write(JSON.stringify(found));
