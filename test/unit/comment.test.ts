import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { commentBody, commentMarker, deservesComment, escapeMarkdown, redact } from '../../src/domain/comment.ts';

const preview = { workflowId: 'preview/acme/shop/42', repoUrl: 'https://github.com/acme/shop' };
const sha = 'a'.repeat(40);
const next = 'b'.repeat(40);

test('a live preview', () => {
  const state = { phase: 'live', url: 'https://shop-42.preview.example.com', servedSha: sha, sha } as const;
  expect(commentBody(state, preview)).toBe(`<!-- tekton:preview/acme/shop/42 -->

| **Preview** | **live**: serves the wanted commit |
| :-- | :-- |
| Address | https://shop-42.preview.example.com |
| Serves | [\`aaaaaaa\`](https://github.com/acme/shop/commit/${sha}) |
`);
});

test('a failed update: the last good commit serves, the reason and the next step are told', () => {
  const body = commentBody(
    {
      phase: 'live',
      url: 'https://shop-42.preview.example.com',
      servedSha: sha,
      sha: next,
      reason: 'npm run build ended with 1\nerror: no such file',
      next: 'Read the log: tekton preview logs shop-42 --build.',
    },
    preview,
  );
  expect(body).toBe(`<!-- tekton:preview/acme/shop/42 -->

| **Preview** | **live**: the last good commit serves |
| :-- | :-- |
| Address | https://shop-42.preview.example.com |
| Serves | [\`aaaaaaa\`](https://github.com/acme/shop/commit/${sha}) |
| Wanted | [\`bbbbbbb\`](https://github.com/acme/shop/commit/${next}) |

\`\`\`text
npm run build ended with 1
error: no such file
\`\`\`

Next: Read the log: tekton preview logs shop\\-42 \\-\\-build.
`);
});

test('the address is told only once something serves there', () => {
  const body = commentBody({ phase: 'building', url: 'https://shop-42.preview.example.com', sha }, preview);
  expect(body).not.toContain('https://shop-42.preview.example.com');
});

test('a fork: the command that approves this commit', () => {
  expect(commentBody({ phase: 'awaiting-approval', sha }, preview)).toContain(
    `Next: \`tekton preview approve acme/shop#42 --sha ${sha}\``,
  );
});

test('a pull request that never had a preview is not told that it is gone', () => {
  expect(deservesComment({ phase: 'gone' })).toBe(false);
  expect(deservesComment({ phase: 'destroying' })).toBe(false);
  expect(deservesComment({ phase: 'failed' })).toBe(true);
});

describe('text of others', () => {
  test('a reason can neither end its block nor mention anybody', () => {
    const reason = '```\n@everyone <script> | <!-- tekton:x -->\n````';
    const body = commentBody({ phase: 'failed', sha, reason }, preview);
    expect(body).toContain(`\`\`\`\`\`text\n${reason}\n\`\`\`\`\``);
  });

  test('whatever a reason holds, it stays between its fences', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('`', '~', '\n', ' ', 'x', '<', '|') }), (reason) => {
        const lines = commentBody({ phase: 'failed', sha, reason }, preview).split('\n');
        const opening = lines.findIndex((line) => /^`{3,}text$/.test(line));
        if (opening === -1) return reason.trim() === '' || reason === '';
        const fence = lines[opening]?.replace('text', '') ?? '';
        const closing = lines.findIndex(
          (line, i) => i > opening && new RegExp(`^ {0,3}\`{${fence.length},}\\s*$`).test(line),
        );
        return lines.slice(closing + 1).every((line) => line === '');
      }),
    );
  });

  test('a long reason is cut to its end, where the error is, and loses its colours', () => {
    const reason = `${'line\n'.repeat(5_000)}\u001b[31mthe error\u001b[0m`;
    const body = commentBody({ phase: 'failed', sha, reason }, preview);
    expect(body.length).toBeLessThan(2_000);
    expect(body).toContain('\nthe error\n');
  });

  test('markdown in a next step is only text', () => {
    expect(escapeMarkdown('[x](http://evil) *b* @me <img>\n# h')).toBe(
      '\\[x\\]\\(http://evil\\) \\*b\\* @\u200bme \\<img\\> \\# h',
    );
  });

  test.each([
    ['postgres://app:hush@10.0.0.1/db refused', 'postgres://***@10.0.0.1/db refused'],
    ['https://ghp_hushhushhush@github.com/x', 'https://***@github.com/x'],
    ['remote: token ghs_hushhushhush', 'remote: token ***'],
    ['API_KEY="hush hush" x', 'API_KEY=*** x'],
    ['DB_PASSWORD: hush', 'DB_PASSWORD: ***'],
    ['-----BEGIN RSA PRIVATE KEY-----\nhush\n-----END RSA PRIVATE KEY-----\nx', '***\nx'],
  ])('%j is told without its secret', (text, told) => {
    expect(redact(text)).toBe(told);
    expect(commentBody({ phase: 'failed', sha, reason: text, next: text }, preview)).not.toContain('hush');
  });
});

test("the marker stays one HTML comment for any repository's name", () => {
  expect(commentMarker('preview/a-b/c--d_.e/1')).toBe('<!-- tekton:preview/a-b/c--d_.e/1 -->');
});
