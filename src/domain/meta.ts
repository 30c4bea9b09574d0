/**
 * What a repo declares of its preview: `preview-meta.json` (local runtime) or `previewMeta` of `preview-config.nix`.
 * It is the pull request author's text: every string is restricted here, so that no later layer meets surprising bytes.
 *
 * Workflow code imports only types from here: zod in the bundle would cost every workflow half a megabyte.
 */
import { z } from 'zod';

export interface PreviewMeta {
  setupService?: string;
  appServices: string[];
  /** `"host"`: one PostgreSQL database of the host's; `"container"`: the app brings its own, or has none. */
  database: 'host' | 'container';
  routes: MetaRoute[];
  hostSecrets: string[];
  extraHosts: { prefix: string; routes: MetaRoute[] }[];
  healthCheck: { path: string; timeoutSeconds: number };
}

export interface MetaRoute {
  /** `/` or `/api`; `/api` and `/api/*` mean the same and are kept as `/api`. */
  path: string;
  /** Declared port, 1–65535. */
  port: number;
  stripPrefix: boolean;
  /** The service that listens there. */
  service?: string;
}

/** What is wrong with a meta: every problem, one a line, each with the path of its field. */
export class MetaError extends Error {
  override readonly name = 'MetaError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.length === 1 ? `${problems[0]}` : `${problems.length} problems:\n- ${problems.join('\n- ')}`);
    this.problems = problems;
  }
}

/** A meta of more characters than this isn't read. */
const maxText = 65_536;
/** A message is read by people and kept in Temporal's history: beyond this many problems, it only counts them. */
const maxProblems = 50;

const serviceRule = 'must be a service name: 1–64 of letters, digits and @ . _ -, not starting with -';
const pathRule =
  'must be / or like /api: segments of letters, digits and . _ ~ -, without "..", "//" or a "/" at the end';
const healthRule = 'must be a path like /healthz, optionally with a query like ?full=1';

/** Names that tekton itself sets for the app's processes. */
const ownNames = /^(?:(?:PREVIEW|PORT|TEKTON)_.*|PORT|HOST|PATH|HOME|TMPDIR|USER|LOGNAME|SHELL|LANG)$/;

const segment = '(?!\\.{1,2}(?:[/?]|$))[A-Za-z0-9._~-]+';
const routePath = new RegExp(`^/(?:${segment}(?:/${segment})*)?$`);
// The trailing slash counts here: this very path is requested.
const requestPath = new RegExp(`^/(?:${segment}(?:/${segment})*/?)?(?:\\?[A-Za-z0-9._~=&-]*)?$`);

const service = z.string().regex(/^[A-Za-z0-9@._][A-Za-z0-9@._-]{0,63}$/, { error: told(serviceRule) });

/** A whole number within bounds, refused in one sentence whatever is wrong with it. */
function whole(min: number, max: number) {
  const error = told(`must be ${min}–${max}`);
  return z.int({ error }).min(min, { error }).max(max, { error });
}

function list<T extends z.ZodType>(item: T, min: number, max: number, noun: string) {
  return z
    .array(item)
    .min(min, { error: `must name at least ${min} ${noun}` })
    .max(max, { error: (issue) => `must have at most ${max} entries, got ${(issue.input as unknown[]).length}` });
}

/** An object that names the fields it doesn't know, and those it does. */
function fields<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `is not a field here; there are ${Object.keys(shape).join(', ')}`
        : undefined,
  });
}

const route = fields({
  path: z
    .string()
    .max(256, { error: 'must have at most 256 characters' })
    .overwrite(withoutStar)
    .regex(routePath, { error: told(pathRule) }),
  port: whole(1, 65_535),
  stripPrefix: z.boolean().default(false),
  service: service.optional(),
});

const routes = list(route, 1, 32, 'route').superRefine(
  (given, context) => {
    // Caddy's path matcher ignores case: of two that differ in case only, one would never be reached.
    repeated(context, given, ['path'], (one) => pathOf(one)?.toLowerCase());
    if (given.length > 0 && !given.some((one) => pathOf(one) === '/')) {
      context.addIssue({ code: 'custom', message: 'must have a route with the path "/"' });
    }
  },
  { when: ({ value }) => Array.isArray(value) },
);

const extraHost = fields({
  prefix: z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?$/, {
    error: told('must be 1–20 lower-case letters, digits and hyphens, not starting or ending with a hyphen'),
  }),
  routes,
});

/** Strict everywhere: what it doesn't know is an error. Its output is a `PreviewMeta`, which it accepts again unchanged. */
export const previewMetaSchema = fields({
  setupService: service.optional(),
  appServices: unique(list(service, 1, 16, 'service')),
  database: z.enum(['host', 'container'], { error: told('must be "host" or "container"') }).default('container'),
  routes,
  hostSecrets: unique(
    list(
      z
        .string()
        .max(128, { error: 'must have at most 128 characters' })
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: told('must be the name of an environment variable') })
        .refine((name) => !ownNames.test(name), { error: told('is a name that tekton sets itself') }),
      0,
      64,
      'secret',
    ),
  ).default([]),
  extraHosts: list(extraHost, 0, 16, 'host')
    .superRefine((given, context) => repeated(context, given, ['prefix'], (one) => read(one, 'prefix')), {
      when: ({ value }) => Array.isArray(value),
    })
    .default([]),
  healthCheck: fields({
    path: z
      .string()
      .max(256, { error: 'must have at most 256 characters' })
      .regex(requestPath, { error: told(healthRule) })
      .default('/'),
    timeoutSeconds: whole(1, 3600).default(300),
  }).prefault({}),
}).superRefine(
  (meta, context) => {
    const { appServices, database, hostSecrets, setupService } = meta;
    if (Array.isArray(appServices) && setupService !== undefined && appServices.includes(setupService)) {
      context.addIssue({
        code: 'custom',
        path: ['setupService'],
        message: `must not be among appServices too: it runs once, to its end; got ${show(setupService)}`,
      });
    }
    const url = Array.isArray(hostSecrets) ? hostSecrets.indexOf('DATABASE_URL') : -1;
    if (database === 'host' && url >= 0) {
      context.addIssue({
        code: 'custom',
        path: ['hostSecrets', url],
        message: 'DATABASE_URL is set by tekton itself when database is "host"',
      });
    }
  },
  { when: ({ value }) => typeof value === 'object' && value !== null },
);

/**
 * Checks what a repo declares and fills in the defaults.
 *
 * @throws MetaError that lists every problem by its path; never anything else
 */
export function parsePreviewMeta(value: unknown): PreviewMeta {
  let result: ReturnType<typeof previewMetaSchema.safeParse>;
  try {
    result = previewMetaSchema.safeParse(value, { error: plainWords });
  } catch {
    throw new MetaError(['the meta: must be plain data, as JSON gives it']);
  }
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => `${pathText([...issue.path, key])}: ${issue.message}`)
      : [`${pathText(issue.path)}: ${issue.message}`],
  );
  const more = problems.length - maxProblems;
  throw new MetaError(more > 0 ? [...problems.slice(0, maxProblems), `… and ${more} more`] : problems);
}

/**
 * The same for JSON text.
 *
 * @param defaults top-level fields for those the text leaves out (the local runtime knows services and routes from the Procfile)
 * @throws MetaError
 */
export function parsePreviewMetaJson(text: string, defaults: Partial<PreviewMeta> = {}): PreviewMeta {
  if (text.length > maxText)
    throw new MetaError([`the meta: must have at most ${maxText} characters, got ${text.length}`]);
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (error) {
    throw new MetaError([`the meta: is not JSON: ${printable((error as Error).message)}`]);
  }
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return parsePreviewMeta(isObject ? { ...defaults, ...(value as object) } : value);
}

/** Every port the meta declares, each once, in ascending order. */
export function declaredPorts(meta: Pick<PreviewMeta, 'routes' | 'extraHosts'>): number[] {
  return [...new Set(allRoutes(meta).map((one) => one.port))].sort((a, b) => a - b);
}

/**
 * The port a service finds in `PORT`: that of the first route whose `service` names it. `web` has that of `/` when no route names
 * `web` and `/` names no other service. Undefined for a service that listens nowhere.
 */
export function servicePort(meta: PreviewMeta, service: string): number | undefined {
  const named = allRoutes(meta).find((one) => one.service === service);
  if (named) return named.port;
  const root = meta.routes.find((one) => one.path === '/');
  return service === 'web' && root?.service === undefined ? root?.port : undefined;
}

function allRoutes(meta: Pick<PreviewMeta, 'routes' | 'extraHosts'>): MetaRoute[] {
  return [...meta.routes, ...meta.extraHosts.flatMap((host) => host.routes)];
}

function unique<T extends z.ZodArray<z.ZodString>>(schema: T): T {
  return schema.superRefine((given, context) => repeated(context, given, [], (one) => one), {
    when: ({ value }) => Array.isArray(value),
  });
}

/** Adds an issue for each entry whose key an earlier one has. Runs on half-valid lists too, so that every problem shows at once. */
function repeated(
  context: { addIssue(issue: { code: 'custom'; path: PropertyKey[]; message: string }): void },
  given: readonly unknown[],
  path: string[],
  keyOf: (one: unknown) => unknown,
): void {
  const first = new Map<unknown, number>();
  given.forEach((one, index) => {
    const key = keyOf(one);
    if (typeof key !== 'string') return;
    const before = first.get(key);
    if (before === undefined) first.set(key, index);
    else
      context.addIssue({
        code: 'custom',
        path: [index, ...path],
        message: `${show(key)} is there already, at [${before}]`,
      });
  });
}

/** `/api/*` is another way to write `/api`. */
function withoutStar(path: string): string {
  return path.endsWith('/*') ? path.slice(0, -2) || '/' : path;
}

/** A route's path, also of a route with other faults, which zod leaves as it was written. */
function pathOf(one: unknown): string | undefined {
  const path = read(one, 'path');
  return path === undefined ? undefined : withoutStar(path);
}

function read(one: unknown, field: string): string | undefined {
  const value = typeof one === 'object' && one !== null ? (one as Record<string, unknown>)[field] : undefined;
  return typeof value === 'string' ? value : undefined;
}

/** An error of one sentence: the rule, and what was found instead. */
function told(rule: string) {
  return (issue: { input?: unknown }) =>
    issue.input === undefined ? `is missing; it ${rule}` : `${rule}, got ${show(issue.input)}`;
}

/** What zod finds by itself, in the words of someone who writes JSON. */
function plainWords(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code !== 'invalid_type') return undefined;
  const nouns: Record<string, string> = {
    string: 'a text',
    boolean: 'true or false',
    array: 'a list',
    object: 'an object',
  };
  const wanted = nouns[issue.expected] ?? `a ${issue.expected}`;
  return issue.input === undefined ? `is missing; it must be ${wanted}` : `must be ${wanted}, got ${show(issue.input)}`;
}

/** Someone else's value for a message: one line, short, without control characters. */
function show(value: unknown): string {
  if (typeof value === 'string')
    return printable(JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}...` : value));
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return typeof value === 'number' || typeof value === 'boolean' || value === null ? String(value) : typeof value;
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function pathText(path: readonly PropertyKey[]): string {
  const text = path
    .map((part) => {
      if (typeof part === 'number') return `[${part}]`;
      const name = String(part);
      return /^[A-Za-z_$][\w$]{0,63}$/.test(name) ? `.${name}` : `[${show(name)}]`;
    })
    .join('');
  return text.replace(/^\./, '') || 'the meta';
}
