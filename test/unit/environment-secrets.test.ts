import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { environmentActivities } from '../../src/activities/environment.ts';
import { parsePreviewMeta } from '../../src/domain/meta.ts';
import type { Closure, DeploymentRef } from '../../src/domain/preview.ts';
import { parseSubnet, slotOf } from '../../src/domain/slot.ts';
import { type HostLayout, hostLayout } from '../../src/host/layout.ts';
import { createPostgres } from '../../src/host/postgres.ts';
import { readHostSecrets, secretsFile } from '../../src/host/secrets.ts';
import type { Runtime } from '../../src/runtime/runtime.ts';

let layout: HostLayout;

beforeEach(async () => {
  layout = hostLayout(await mkdtemp(join(tmpdir(), 'tekton-secrets-')));
});
afterEach(() => rm(layout.root, { recursive: true }));

async function write(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text, { mode: 0o600 });
}

describe('host secrets', () => {
  const repo = { owner: 'Acme', repo: 'Shop.js' };

  it('are those of the repo, and only those named', async () => {
    const file = secretsFile(layout, repo);
    expect(file).toBe(join(layout.root, 'var/secrets/previews/acme/shop.js.env'));
    await write(file, `STRIPE_KEY=sk_1\nOTHER=x\nEMPTY=\nPEM='a\nb'\n`);
    expect(await readHostSecrets({ layout, repo, names: ['STRIPE_KEY', 'PEM', 'EMPTY'] })).toEqual({
      STRIPE_KEY: 'sk_1',
      PEM: 'a\nb',
      EMPTY: '',
    });
    expect(await readHostSecrets({ layout, repo, names: [] })).toEqual({});
  });

  it('that are missing are named, with the file they belong in', async () => {
    const file = secretsFile(layout, repo);
    const names = ['STRIPE_KEY', 'A', 'toString'];
    await expect(readHostSecrets({ layout, repo, names })).rejects.toMatchObject({
      type: 'MissingHostSecret',
      nonRetryable: true,
      message: `STRIPE_KEY, A, toString: named in hostSecrets, but there is no ${file}`,
    });
    await write(file, 'A=hunter2\n');
    await expect(readHostSecrets({ layout, repo, names })).rejects.toMatchObject({
      message: `STRIPE_KEY, toString: named in hostSecrets, but not set in ${file}`,
    });
    await write(file, 'A=hunter2\nhunter2\n');
    await expect(readHostSecrets({ layout, repo, names })).rejects.toMatchObject({
      type: 'MissingHostSecret',
      message: `${file}: line 2 is not NAME=value`,
    });
  });

  it.each([
    ['..', 'x'],
    ['a', '../../../etc/passwd'],
    ['a/b', 'c'],
    ['', 'c'],
    ['a', '.'],
    ['a\0', 'c'],
  ])('of %j/%j are of nobody', async (owner, name) => {
    await expect(readHostSecrets({ layout, repo: { owner, repo: name }, names: ['A'] })).rejects.toThrow(RangeError);
  });
});

describe('writeEnvironment', () => {
  const preview = { owner: 'Acme', repo: 'Shop', number: 7, workflowId: 'preview/acme/shop/7', slug: 'shop-7' };
  const deployment: DeploymentRef = {
    preview,
    container: 'pabc',
    sha: 'b'.repeat(40),
    ref: 'refs/pull/7/head',
    fork: false,
  };
  const meta = parsePreviewMeta({
    appServices: ['web'],
    routes: [{ path: '/', port: 3000 }],
    hostSecrets: ['STRIPE_KEY'],
  });
  const closure: Closure = { path: '/c', meta, logPath: '/l', cached: false };
  const slot = slotOf(parseSubnet('10.100.0.0/24'), 1);

  async function written(input: { deployment: DeploymentRef; database?: string; gitBaseUrl?: string }) {
    let given: unknown[] = [];
    const runtime = {
      databaseHost: (one) => one.hostAddress,
      writeEnvironment: async (...args) => {
        given = args;
      },
    } as Partial<Runtime> as Runtime;
    const { writeEnvironment } = environmentActivities({
      runtime,
      layout,
      postgres: createPostgres({ adminUrl: 'postgresql://admin:hunter2@127.0.0.1:5433/postgres', layout }),
      publicUrl: (slug) => `https://${slug}.preview.example.org`,
      gitBaseUrl: input.gitBaseUrl ?? 'https://github.com',
    });
    const environment = new MockActivityEnvironment();
    const { deployment, database } = input;
    await environment.run(writeEnvironment, { deployment, closure, slot, database });
    return given;
  }

  it('gives the app what it needs, with the database by its own host-side address', async () => {
    await write(secretsFile(layout, preview), 'STRIPE_KEY=k\nOTHER=x\n');
    await write(join(layout.databases, 'preview_shop-7'), 'pass\npreview/acme/shop/7\n');
    const [name, to, what, env] = await written({
      deployment,
      database: 'preview_shop-7',
      gitBaseUrl: 'https://u:hunter2@git.example.org/',
    });
    expect([name, to, what]).toEqual(['pabc', deployment, closure]);
    expect(env).toEqual({
      STRIPE_KEY: 'k',
      PREVIEW_REPO_URL: 'https://git.example.org/Acme/Shop.git',
      PREVIEW_BRANCH: 'refs/pull/7/head',
      PREVIEW_SHA: 'b'.repeat(40),
      PREVIEW_PR: '7',
      PREVIEW_SLUG: 'shop-7',
      PREVIEW_HOST: 'shop-7.preview.example.org',
      PREVIEW_URL: 'https://shop-7.preview.example.org',
      DATABASE_URL: 'postgresql://preview_shop-7:pass@10.100.0.2:5433/preview_shop-7',
    });
  });

  it('gives a fork no secret, whatever it names', async () => {
    await write(secretsFile(layout, preview), 'STRIPE_KEY=k\n');
    const [, , , env] = await written({ deployment: { ...deployment, fork: true } });
    expect(env).toHaveProperty('PREVIEW_SHA');
    expect(env).not.toHaveProperty('STRIPE_KEY');
    expect(env).not.toHaveProperty('DATABASE_URL');
  });

  it('fails by name when a secret is missing', async () => {
    await expect(written({ deployment })).rejects.toMatchObject({ type: 'MissingHostSecret' });
  });
});
