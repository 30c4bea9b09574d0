import { describe, expect, test } from 'vitest';
import { nothingDesired } from '../../src/domain/desired.ts';
import { detailsMarkdown, type PreviewState } from '../../src/workflows/preview-state.ts';

const at = '2026-03-04T10:00:00.000Z';
const sha = 'a'.repeat(40);
const state: PreviewState = {
  workflowId: 'preview/acme/hello/42',
  firstRunId: 'run',
  source: { owner: 'acme', repo: 'hello', number: 42 },
  host: 'box',
  slug: 'hello-42',
  url: 'http://hello-42.preview.localhost:8080',
  phase: 'failed',
  reason: {
    type: 'BuildFailed',
    message: 'npm run build ended with exit code 2.',
    next: 'Read the log: tekton preview logs <slug> --build.',
    tail: ['Type <string> is not a type'],
  },
  desired: { ...nothingDesired, open: true, sha },
  attempt: 1,
  failures: 1,
  deploymentCount: 1,
  retired: [],
  stands: true,
  acquainted: true,
  github: true,
  ask: false,
  missing: 0,
  comment: {},
  steps: [{ name: 'buildClosure', title: 'build closure', state: 'failed', startedAt: at, ms: 1234 }],
  story: [{ at, text: 'aaaaaaa failed: npm run build ended with exit code 2.\nmore' }],
};

describe("the details in Temporal's web UI", () => {
  test('as a whole', () => {
    expect(`\n${detailsMarkdown(state)}\n`).toBe(`
**failed** – nothing serves; the reason is shown

[http://hello-42.preview.localhost:8080](http://hello-42.preview.localhost:8080)

| wanted | built | served |
| --- | --- | --- |
| \`aaaaaaa\` | – | – |

**Why, and what next**

\`\`\`text
BuildFailed: npm run build ended with exit code 2.
| Type <string> is not a type

Read the log: tekton preview logs hello-42 --build.
\`\`\`

**Steps of attempt 1**

\`\`\`text
✗ build closure  1.2 s
\`\`\`

**What happened (UTC)**

\`\`\`text
10:00:00  aaaaaaa failed: npm run build ended with exit code 2.
\`\`\`
`);
  });

  test('fold long lines', () => {
    const text = detailsMarkdown({ ...state, story: [{ at, text: 'x'.repeat(130) }] });
    expect(text).toContain(`\n10:00:00  ${'x'.repeat(54)}\n${'x'.repeat(64)}\n${'x'.repeat(12)}\n`);
  });

  test('keep the text of others in its block, whatever it holds', () => {
    const evil = 'x\n````\n<img src=//elsewhere>';
    const text = detailsMarkdown({ ...state, reason: { type: 'Error', message: evil } });
    expect(text).toContain(`\n\`\`\`\`\`text\nError: ${evil}\n\`\`\`\`\`\n`);
  });
});
