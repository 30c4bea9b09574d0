import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { type PreviewSource, previewWorkflowId } from '../../src/domain/preview.ts';
import { initialSearchAttributes } from '../../src/domain/search-attributes.ts';
import { connectTemporal, type Temporal } from '../../src/temporal/connection.ts';
import { ensureSearchAttributes } from '../../src/temporal/search-attributes.ts';
import { previewWorkflowType, taskQueue } from '../../src/workflows/messages.ts';
import { type TemporalServer, temporalServer } from '../support/temporal-server.ts';

// A real Temporal, and no worker: what can be told then, and what is said of the rest.
let server: TemporalServer;
let temporal: Temporal;

beforeAll(async () => {
  server = await temporalServer();
  await server.start();
  temporal = await connectTemporal(server.env);
});
afterAll(async () => {
  await temporal?.connection.close();
  await server?.close();
});
beforeEach(() => {
  vi.stubEnv('TEMPORAL_ADDRESS', server.address);
  vi.stubEnv('TEKTON_STATE_DIR', '/nowhere/at/all');
});
afterEach(() => {
  vi.unstubAllEnvs();
});

async function tekton(...args: string[]) {
  const out = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      out[name] += String(text);
      return true;
    }),
  );
  try {
    const exitCode = await runProgram(args);
    return { exitCode, ...out };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

async function open(source: PreviewSource, slug: string): Promise<void> {
  await temporal.client.workflow.start(previewWorkflowType, {
    workflowId: previewWorkflowId(source),
    taskQueue,
    args: [{ source, host: 'box' }],
    typedSearchAttributes: initialSearchAttributes({
      repo: `${source.owner}/${source.repo}`,
      number: source.number,
      slug,
      host: 'box',
    }),
  });
}

describe('a namespace that no service has set up', () => {
  test('is named, with the cure', async () => {
    const { exitCode, stderr } = await tekton('preview', 'status', 'hello-42');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('not set up for tekton');
    expect(stderr).toContain('tekton up');
  });
});

describe('a Temporal with previews', () => {
  beforeAll(async () => {
    await ensureSearchAttributes(temporal.connection, temporal.namespace);
    // Others see a new search attribute a moment later.
    await vi.waitFor(() => temporal.client.workflow.count('TektonSlug = "x"'), 20_000);
  });

  test('that has none says how to begin', async () => {
    expect(await tekton('preview', 'list')).toEqual({
      exitCode: 0,
      stdout: 'No previews. Open a pull request, or make one by hand: tekton preview create <owner/repo> <branch>\n',
      stderr: '',
    });
    expect((await tekton('preview', 'list', '--json')).stdout).toBe('[]\n');
    expect((await tekton('agent', 'list', '--json')).stdout).toBe('[]\n');
  });

  test('a preview that there is not, with near names', async () => {
    await open({ owner: 'acme', repo: 'hello', number: 42 }, 'hello-42');
    await vi.waitFor(async () => {
      const { exitCode, stderr } = await tekton('preview', 'destroy', 'helo-42');
      expect(exitCode).toBe(1);
      expect(stderr).toContain('there is no preview "helo-42"\nDid you mean hello-42?');
    }, 10_000);
    const exact = await tekton('preview', 'status', 'acme/hello#43');
    expect(exact.exitCode).toBe(1);
    expect(exact.stderr).toContain('there is no preview "acme/hello#43"');
  });

  test('a slug that two previews have (for a moment): the person chooses', async () => {
    await open({ owner: 'acme', repo: 'shop', number: 1 }, 'shop-1');
    await open({ owner: 'umbrella', repo: 'shop', number: 1 }, 'shop-1');
    await vi.waitFor(async () => {
      const { exitCode, stderr } = await tekton('preview', 'update', 'shop-1');
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(/"shop-1" could be any of: \S+shop#1, \S+shop#1\n/);
      expect(stderr).toContain('acme/shop#1');
      expect(stderr).toContain('umbrella/shop#1');
    }, 10_000);
  });

  test('a preview that is gone can be brought back, and how is said', async () => {
    const source = { owner: 'acme', repo: 'old', branch: 'main' };
    await open(source, 'old-main');
    await temporal.client.workflow.getHandle(previewWorkflowId(source)).terminate();
    const { exitCode, stderr } = await tekton('preview', 'update', 'acme/old@main');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('acme/old@main is gone');
    expect(stderr).toContain('tekton preview create');
  });

  test('without a worker, a question is answered by how to start one', async () => {
    const { exitCode, stdout, stderr } = await tekton('preview', 'status', 'acme/hello#42');
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain('the worker does not answer');
    expect(stderr).toContain('`tekton up`');
  });

  test('an agent that there is not', async () => {
    const { exitCode, stderr } = await tekton('agent', 'destroy', 'ada');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('there is no agent "ada"');
  });
});
