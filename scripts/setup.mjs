#!/usr/bin/env node
// Makes a fresh clone ready to run: dependencies, build, components. Plain Node, as nothing else is there yet. Does only what is
// missing; two at once wait for each other. `--quiet`: says only what it does, and nothing when there is nothing to do.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('..', import.meta.url));
const at = (...parts) => join(project, ...parts);
const quiet = process.argv.includes('--quiet');

/** Each step knows whether it is done, and how to do it. Later ones need the earlier ones. */
const steps = [
  { isDone: dependenciesAreThere, run: installDependencies },
  { isDone: buildIsCurrent, run: build },
  { isDone: componentsAreThere, run: fetchComponents },
];

checkNode();
checkGit();
const release = (await lockHolder()) ? await lock() : undefined;
if (release || !steps.every((step) => step.isDone())) {
  const unlock = release ?? (await lock());
  for (const step of steps) if (!step.isDone()) step.run();
  unlock();
}
if (!quiet) console.error('Ready. Try: npm run demo, or: node bin/tekton.mjs up');

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`Node ${process.versions.node} is too old: Tekton needs 20.19 or newer (https://nodejs.org).`);
}

function checkGit() {
  const { error } = spawnSync('git', ['--version'], { stdio: 'ignore' });
  if (error) fail('git was not found: install it (apt install git), then run this again.');
}

function dependenciesAreThere() {
  const installed = at('node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const stamp = read(at('node_modules/.tekton-lockfile'));
  if (stamp !== undefined) return stamp === lockfileHash();
  // Installed by hand: npm's own record tells when.
  return statSync(installed).mtimeMs >= statSync(at('package-lock.json')).mtimeMs;
}

function installDependencies() {
  say('Installing dependencies (npm ci)');
  const options = ['--no-audit', '--no-fund', '--loglevel=error'];
  const ci = spawnSync('npm', ['ci', ...options], {
    cwd: project,
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (ci.error) fail(`npm could not be run: ${ci.error.message}`);
  if (ci.status !== 0) {
    // It refuses a lockfile that lacks another platform's optional packages; npm install takes the same pinned versions.
    const reason = /code (\w+)/.exec(ci.stderr)?.[1] ?? `exit code ${ci.status}`;
    say(`npm ci refused (${reason}); trying npm install with the same lockfile`);
    run('npm', ['install', '--no-save', ...options]);
  }
  writeFileSync(at('node_modules/.tekton-lockfile'), lockfileHash());
}

function lockfileHash() {
  return createHash('sha256')
    .update(readFileSync(at('package-lock.json')))
    .digest('hex');
}

function buildIsCurrent() {
  return read(at('dist/.stamp')) === sourceHash();
}

function build() {
  say('Building (npm run build)');
  const stamp = sourceHash();
  rmSync(at('dist/.stamp'), { force: true });
  run('npm', ['run', '--silent', 'build']);
  writeFileSync(at('dist/.stamp'), stamp);
}

/** Of all that the build reads. By content: a checkout changes times, and a clock may be wrong. */
function sourceHash() {
  const hash = createHash('sha256');
  const sources = readdirSync(at('src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
  const all = [...sources, at('tsconfig.json'), at('tsconfig.build.json'), at('package-lock.json'), at('package.json')];
  for (const file of all)
    hash
      .update(`${file.slice(project.length)}\0`)
      .update(readFileSync(file))
      .update('\0');
  return hash.digest('hex');
}

function componentsAreThere() {
  try {
    const { key, found } = JSON.parse(read(at('.cache/components.json')) ?? '{}');
    return key === componentsKey() && found.every(({ path, mtimeMs }) => statSync(path).mtimeMs === mtimeMs);
  } catch {
    return false;
  }
}

function fetchComponents() {
  const result = spawnSync(process.execPath, [at('dist/components/setup.js'), ...(quiet ? ['--quiet'] : [])], {
    cwd: project,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (result.status !== 0) fail('A component is missing; see above.');
  mkdirSync(at('.cache'), { recursive: true });
  writeFileSync(
    at('.cache/components.json'),
    JSON.stringify({ key: componentsKey(), found: JSON.parse(result.stdout) }),
  );
}

/** What decides where components are looked for. */
function componentsKey() {
  const names = ['HOME', 'XDG_CACHE_HOME', 'TEKTON_CACHE_DIR', 'TEKTON_TEMPORAL', 'TEKTON_CADDY', 'TEKTON_POSTGRES'];
  const values = [...names, 'TEKTON_TEMPORAL_TEST_SERVER'].map((name) => process.env[name]);
  // npm puts folders of its own in front, which hold no component: the same machine with and without npm.
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  return createHash('sha256')
    .update(JSON.stringify([values, path, read(at('dist/components/catalogue.js'))]))
    .digest('hex');
}

/** A name that only one process can listen on, and that the kernel frees when that process ends, however it ends. */
function lockName() {
  const id = createHash('sha256').update(project).digest('hex').slice(0, 24);
  return process.platform === 'linux' ? `\0tekton-setup-${id}` : `/tmp/tekton-setup-${id}.sock`;
}

/** Whether another setup of this project runs. */
function lockHolder() {
  return new Promise((resolve) => {
    const socket = connect(lockName(), () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function lock() {
  for (let told = false; ; told = true) {
    const release = await tryLock();
    if (release) return release;
    if (!told) say('Another setup of this project is at work; waiting for it');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function tryLock() {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', async (error) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      // Where the name is a file, one that nobody answers on was left by a process that was killed.
      if (process.platform !== 'linux' && !(await lockHolder())) rmSync(lockName(), { force: true });
      resolve(undefined);
    });
    server.listen(lockName(), () => resolve(() => server.close()));
  });
}

function run(command, args) {
  // What npm says goes to stderr: stdout is the result of the command that this prepares.
  const { status, error } = spawnSync(command, args, { cwd: project, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : '; see above'}.`);
}

function read(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

function say(text) {
  console.error(text);
}

function fail(text) {
  console.error(text);
  process.exit(1);
}
