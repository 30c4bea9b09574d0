/** The docs name everything that a person can meet: each failure, variable, command, phase, folder and library. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../src/cli/program.ts';
import { catalogue } from '../../src/components/catalogue.ts';
import { failures } from '../../src/domain/failures.ts';
import { phases } from '../../src/domain/phase.ts';
import { searchAttributes } from '../../src/domain/search-attributes.ts';
import { portTable } from '../../src/stack/ports.ts';
import { webhookMetrics } from '../../src/webhook/metrics.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(project, path), 'utf8');
const readme = read('README.md');
const architecture = read('docs/architecture.md');
const operations = read('docs/operations.md');
const plain = (text: string) => text.replaceAll('`', '');

/** The cells of the first table row whose first cell is `name` as code. */
function row(text: string, name: string): string[] | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`| \`${name}\` |`));
  return line?.slice(2, -2).split(' | ');
}

describe('operations', () => {
  test.each(Object.entries(failures))('tells of the failure %s what the table in the code says', (type, failure) => {
    const [, means, next, retry] = row(operations, type) ?? [];
    expect(means).toBe(failure.means);
    expect(plain(next ?? '')).toBe(failure.next);
    expect(retry).toBe(failure.retry ? 'yes' : 'no');
  });

  test.each(Object.keys(phases))('says what to do in the phase %s', (phase) => {
    expect(row(operations, phase)).toHaveLength(3);
  });

  test.each(variablesOf('src/config.ts'))('has the variable %s', (name) => {
    expect(row(operations, name)).toHaveLength(4);
  });

  test.each(defaultsOf('src/config.ts'))('says that %s is %s by default', (name, fallback) => {
    expect(row(operations, name)?.[2]).toContain(fallback);
  });

  test.each(Object.values(portTable))('has $flag and its default', ({ flag, fallback }) => {
    expect(row(operations, flag)?.[1]).toContain(String(fallback));
  });

  test.each(flagsOf('up'))('has the flag %s of tekton up', (flag) => {
    expect(row(operations, flag)).toHaveLength(2);
  });

  test.each(Object.values(catalogue))('has the component $name, its least version and its variable', (spec) => {
    if (spec.variable) expect(operations).toContain(`\`${spec.variable}\``);
    const line = operations.split('\n').find((text) => text.startsWith(`| ${spec.title}`));
    expect(line).toContain(spec.minimum === '0' ? 'any' : `| ${spec.minimum} |`);
  });

  test('has every metric of the webhook', async () => {
    const names = (await webhookMetrics().registry.getMetricsAsJSON()).map(({ name }) => name);
    for (const name of names.filter((text) => text.startsWith('tekton_'))) expect(operations).toContain(name);
  });
});

describe('the README', () => {
  test.each(commandsOf(buildProgram()))('has the command %s', (command) => {
    expect(readme).toMatch(new RegExp(`\`${command}[ \`]`));
  });
});

describe('the architecture', () => {
  test.each(
    readdirSync(join(project, 'src'), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `src/${entry.name}/`),
  )('has the folder %s', (folder) => {
    expect(row(architecture, folder)).toHaveLength(2);
  });

  test('names no file of src or test that is not there', () => {
    const named = [...architecture.matchAll(/`((?:src|test)\/[\w./-]+)`/g)].map(([, path]) => path ?? '');
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((path) => !existsSync(join(project, path)))).toEqual([]);
  });

  test.each(Object.keys(JSON.parse(read('package.json')).dependencies))('says why %s is there', (library) => {
    const short = library.replace(/^@temporalio\//, '');
    expect(architecture.includes(`\`${library}\``) || architecture.includes(`\`${short}\``)).toBe(true);
  });

  test.each(Object.values(searchAttributes).map(({ name }) => name))('has the search attribute %s', (name) => {
    expect(architecture).toContain(`\`${name}\``);
    expect(operations).toContain(`\`${name}\``);
  });
});

const pages = ['README.md', ...readdirSync(join(project, 'docs')).map((name) => `docs/${name}`)];

test.each(pages.filter((name) => name.endsWith('.md')))('%s links to what is there', (page) => {
  for (const [, target] of read(page).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
    const [path = '', anchor] = (target ?? '').split('#');
    const file = path === '' ? page : join(dirname(page), path);
    expect(existsSync(join(project, file)), `${page} → ${target}`).toBe(true);
    if (anchor) expect(anchorsOf(read(file)), `${page} → ${target}`).toContain(anchor);
  }
});

/** The anchors that GitHub gives a page's headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

/** The variables that the configuration reads, by name. */
function variablesOf(file: string): string[] {
  const table = /const variables = \{([\s\S]*?)\n\} as const/.exec(read(file))?.[1] ?? '';
  return [...table.matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map(([, name]) => name ?? '');
}

/** Variables whose default is written beside them: `optional('NAME') ?? 'default'`. */
function defaultsOf(file: string): [string, string][] {
  return [...read(file).matchAll(/optional\('([A-Z_]+)'\) \?\? (?:'([^']+)'|(\d+))/g)].map(([, name, text, number]) => [
    name ?? '',
    text ?? number ?? '',
  ]);
}

function flagsOf(command: string): string[] {
  const found = buildProgram().commands.find((candidate) => candidate.name() === command);
  const general = ['--json', '--verbose', '--help'];
  return (found?.options ?? []).map(({ long }) => long ?? '').filter((flag) => !general.includes(flag));
}

/** `tekton preview create` and so on: every command that does something. */
function commandsOf(command: Command, path = 'tekton'): string[] {
  const children = command.commands.filter((child) => child.name() !== 'help');
  return children.flatMap((child) => {
    const name = `${path} ${child.name()}`;
    return child.commands.length > 0 ? commandsOf(child, name) : [name];
  });
}
