#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  const project = fileURLToPath(new URL('..', import.meta.url));
  process.stderr.write(`tekton: it is not built yet.\nRun: cd ${project} && npm run setup\n`);
  process.exitCode = 1;
}
