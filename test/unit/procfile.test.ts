import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatEnvFile, parseEnvFile } from '../../src/runtime/local/env-file.ts';
import { isService, parseProcfile } from '../../src/runtime/local/procfile.ts';

describe('Procfile', () => {
  test('names and commands, in order; comments, blank lines, CRLF and a byte order mark do no harm', () => {
    const text =
      '\uFEFF# the app\r\nsetup: npm run migrate\r\n\r\n  web :  node server.js --url http://x:80  \r\nworker:node w.js # not a comment';
    expect(parseProcfile(text)).toEqual([
      { name: 'setup', command: 'npm run migrate' },
      { name: 'web', command: 'node server.js --url http://x:80' },
      { name: 'worker', command: 'node w.js # not a comment' },
    ]);
    expect(
      parseProcfile(text)
        .filter(isService)
        .map((e) => e.name),
    ).toEqual(['web', 'worker']);
    expect(parseProcfile('')).toEqual([]);
  });

  test.each([
    ['web node x', "Procfile, line 1: 'web node x' is not of the form 'name: command'."],
    ['# x\nweb:', "Procfile, line 2: 'web' has no command."],
    ['web: a\nweb: b', "Procfile, line 2: 'web' is there twice."],
    ['../x: a', "Procfile, line 1: '../x: a' is not of the form 'name: command'."],
  ])('%j says what is wrong', (text, message) => {
    expect(() => parseProcfile(text)).toThrow(message);
  });
});

describe('preview.env', () => {
  const values = fc.dictionary(
    fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,10}$/).filter((name) => name !== '__proto__'),
    fc.string({ unit: 'binary', maxLength: 30 }).filter((value) => !value.includes('\0')),
    { noNullPrototype: true },
  );

  test('what is written is read back exactly', () => {
    fc.assert(
      fc.property(values, (env) => {
        expect(parseEnvFile(formatEnvFile(env))).toEqual(env);
      }),
    );
  });

  test('a shell reads the same', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tekton-env-test-'));
    const nasty = { A: `it's "$HOME" \`id\` \\ '' \n$(id)`, B: '', C: "'", D: 'ünï 💥' };
    try {
      writeFileSync(join(folder, 'env'), formatEnvFile(nasty));
      const out = execFileSync('/bin/sh', ['-c', '. "$0"; printf "%s\\0" "$A" "$B" "$C" "$D"', join(folder, 'env')]);
      expect(out.toString().split('\0').slice(0, 4)).toEqual(Object.values(nasty));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('names and values that no environment takes are refused', () => {
    expect(() => formatEnvFile({ 'A B': '' })).toThrow("'A B'");
    expect(() => formatEnvFile({ A: 'x\0y' })).toThrow('NUL');
    expect(() => parseEnvFile('A=bare\n')).toThrow('not quoted');
  });
});
