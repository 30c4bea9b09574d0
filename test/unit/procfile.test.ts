import { describe, expect, test } from 'vitest';
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
