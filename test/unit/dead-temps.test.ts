import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { removeDeadTemps } from '../../src/host/files.ts';

test('half-written files go once their writer is dead; everything else stays', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tekton-temps-'));
  try {
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    const ofTheDead = `.tmp-${dead}-0123456789ab`;
    const ofAnEarlierSelf = `.tmp-${process.pid}-0123456789ab`;
    const ofTheLiving = `.tmp-${process.ppid}-0123456789ab`;
    const others = ['shop-1.json', '.tmp-note', `.tmp-${dead}-0123456789ab.json`];
    for (const name of [ofTheDead, ofAnEarlierSelf, ofTheLiving, ...others]) await writeFile(join(folder, name), '');
    expect(await removeDeadTemps([folder, join(folder, 'none')])).toBe(2);
    expect((await readdir(folder)).sort()).toEqual([ofTheLiving, ...others].sort());
  } finally {
    await rm(folder, { recursive: true });
  }
});
