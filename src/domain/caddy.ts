/**
 * Caddy's configuration as text: the main Caddyfile, one preview's shape, and the address file that Caddy reads on every request.
 * Pure functions, tested as whole texts. Meta is checked strictly where it is read (`meta.ts`); all the same nothing outside
 * the alphabets below is ever pasted: these functions throw instead.
 */
import { shortHash } from './container-name.ts';
import { declaredPorts, type PreviewMeta } from './meta.ts';
import type { ClaimedHost, Upstream } from './preview.ts';
import { labelPattern } from './slug.ts';

/** How long WebSockets of the old configuration live after a reload: the promise is at least 10 minutes. */
export const streamCloseDelay = '10m';

/** The key of every shape with one hostname and one route. */
export const singleShape = 'single';

/** Seconds after which a visitor of a preview that isn't up yet should ask again. */
export const retryAfterSeconds = 2;

/** Where previews answer on this host. */
export interface RouteSettings {
  /** Previews are `<label>.<domain>`. */
  domain: string;
  scheme: 'http' | 'https';
  /** The port Caddy serves previews on. */
  port: number;
  /** Folders of the host's layout, absolute. */
  layout: { live: string; progress: string; caddyPreviews: string };
}

export interface MainCaddyfileSettings extends RouteSettings {
  /** `127.0.0.1:2019`, or `unix//run/caddy/admin.sock`. */
  adminAddress: string;
  /** Where the webhook listens on 127.0.0.1. */
  webhookPort: number;
  /** Wildcard certificate for `*.<domain>`; required for https. */
  tls?: { certificate: string; key: string };
  /** Addresses to listen on; all of the machine's when absent. */
  bind?: string[];
  /** With https: the plain port that redirects. */
  redirectPort?: number;
  /** Networks (CIDR) of load balancers in front whose `X-Forwarded-*` is believed; nobody's when absent. */
  trustedProxies?: string[];
}

/** The shape of a preview: what makes a reload necessary when it changes. */
export interface PreviewShape {
  slug: string;
  hosts: ClaimedHost[];
  meta: Pick<PreviewMeta, 'routes' | 'extraHosts'>;
}

/** One line of an address file. */
export interface AddressLine extends Upstream {
  sha: string;
  /** Which shape the line is for: see `shapeKey`. */
  shape: string;
}

/** One of a preview's hostnames with its routes as Caddy gets them, the most specific path first. */
interface HostRoutes {
  hostname: string;
  routes: { path: string; port: number; stripPrefix: boolean }[];
}

/**
 * The whole main Caddyfile. Previews are imported from `<caddyPreviews>/*.caddy`; everything they share is a named route
 * here, provisioned once however many previews there are.
 *
 * @throws when a value is outside its alphabet, or https has no certificate
 */
export function mainCaddyfile(settings: MainCaddyfileSettings): string {
  const { scheme, layout } = settings;
  const domain = checkedDomain(settings.domain);
  if (scheme === 'https' && !settings.tls) {
    throw new Error('https needs a certificate and key for the wildcard site');
  }
  const progress = checkedPath(layout.progress);
  const own = `{http.request.host.labels.${domain.split('.').length}}`;
  return `# Written by tekton. Each preview's site is a file of its own, imported at the end.
${block('', globalOptions(settings))}
# An app, at the address that the preview's record gave (re.live.1), for the commit it names (re.live.2).
(tekton_app) {
	# Deferred, so that it replaces whatever the app says, on a WebSocket's 101 too.
	header >X-Tekton-Sha {re.live.2}
	reverse_proxy {re.live.1} {
		stream_close_delay ${streamCloseDelay}
		transport http {
			dial_timeout 3s
			# Shorter than any app server's own (Node's is 5s, gunicorn's 2s): a connection the app has just closed is never used.
			keepalive 1s
		}
	}
}

&(tekton_app) {
	route {
		import tekton_app
	}
}

# A preview of one route, the usual one: whatever its declared port, the record has one address.
&(tekton_single) {
	route {
		@live vars_regexp live tekton_record \`(?m)^(\\S+) ([0-9a-f]+) [0-9]+ ${singleShape}$\`
		handle @live {
			route {
				import tekton_app
			}
		}
		invoke tekton_progress
	}
}

# What a visitor sees while nothing serves: the page of the label asked for. Only hosts that are known to be labels get here.
&(tekton_progress) {
	route {
		header {
			Cache-Control no-store
			Retry-After ${retryAfterSeconds}
			X-Robots-Tag noindex
		}
		@page file {
			root ${progress}
			try_files /${own}.html
		}
		handle @page {
			method GET
			request_header -If-*
			request_header -Range
			rewrite {file_match.relative}
			file_server {
				root ${progress}
				status 503
			}
		}
		header Content-Type "text/html; charset=utf-8"
		respond <<HTML
			${plainPage('Starting', 'This preview is on its way. The page looks again by itself.')}
			HTML 503
	}
}

# Hosts that are none of ours; and, for every site, an app that refuses connections or doesn't take them.
${scheme}:// {
	respond "No such preview." 404
	handle_errors 502 503 504 {
		@known vars_regexp {re.live.2} ^[0-9a-f]+$
		header @known X-Tekton-Sha {re.live.2}
		header {
			Cache-Control no-store
			Retry-After ${retryAfterSeconds}
			Content-Type "text/html; charset=utf-8"
		}
		respond <<HTML
			${plainPage('The app isn’t answering', 'Its server refuses connections or has stopped. Its log says why: tekton preview logs. The page looks again by itself.')}
			HTML 503
	}
}

# Every label without a site of its own: a progress page when the label is claimed, else 404. The file matcher globs, so
# the label is checked first.
${scheme}://*.${domain} {
${tlsLine(settings.tls)}	@label vars_regexp ${own} ^[a-z0-9-]{1,63}$
	handle @label {
		@page file {
			root ${progress}
			try_files /${own}.html
		}
		invoke @page tekton_progress
	}
	respond "No such preview." 404
}

${scheme}://webhook.${domain} {
	reverse_proxy 127.0.0.1:${checkedPort(settings.webhookPort)}
}
${redirectSite(settings)}
${importLine(layout)}
`;
}

/** The line of the main Caddyfile that imports every preview. */
export function importLine(layout: { caddyPreviews: string }, file = '*.caddy'): string {
  return `import ${checkedPath(`${layout.caddyPreviews}/`, file)}`;
}

/**
 * One preview's site, `<slug>.caddy`: all its hostnames, and which path goes to which declared port. The address behind
 * each port comes from the address file on every request, by the line that carries this shape's key.
 *
 * @throws when anything is outside its alphabet, or a host has no route for "/"
 */
export function previewFragment(settings: RouteSettings, shape: PreviewShape): string {
  const slug = checkedLabel(shape.slug);
  const hosts = hostRoutes(shape);
  const addresses = hosts.map(({ hostname }) => `${settings.scheme}://${checkedHostname(hostname, settings.domain)}`);
  const file = `${settings.layout.live}/${slug}`;
  checkedPath(file);
  const key = shapeKey(settings, shape);
  const record = `vars tekton_record ${quoted(`{file.${file}}`)}`;
  const live = declaredPorts(shape.meta).map(
    (port) => `@live${port} vars_regexp live tekton_record \`(?m)^(\\S+) ([0-9a-f]+) ${port} ${key}$\``,
  );
  // A thousand previews are one reload: the usual shape gets the fewest directives that can do it.
  const body = key === singleShape ? [record, 'invoke tekton_single'] : [record, ...live, ...branches(hosts)];
  return `# Preview ${slug}. Written by tekton; the address of its live deployment is in ${file}
${block(`${addresses.join(', ')} `, body)}`;
}

/** The routes of a shape that has several: the first that fits is taken, so the order is that of `hostRoutes`. */
function branches(hosts: HostRoutes[]): string[] {
  const matchers: string[] = [];
  const handles: string[] = [];
  for (const { hostname, routes } of hosts) {
    for (const { path, port, stripPrefix } of routes) {
      const conditions = [
        ...(hosts.length > 1 ? [`host ${hostname}`] : []),
        ...(path === '/' ? [] : [`path ${path} ${path}/*`]),
      ];
      const name = `@route${handles.length} `;
      if (conditions.length > 0) matchers.push(block(name, conditions).trimEnd());
      const strip = stripPrefix && path !== '/' ? [`uri strip_prefix ${path}`] : [];
      handles.push(
        block(`handle ${conditions.length > 0 ? name : ''}`, [...strip, `invoke @live${port} tekton_app`]).trimEnd(),
      );
    }
  }
  return [...matchers, block('route ', [...handles, 'invoke tekton_progress']).trimEnd()];
}

/**
 * Tells one shape of a preview from another, in its fragment and in the lines of its address file. While a new shape comes
 * together with a new address, the file holds the lines of both: Caddy's old configuration reads the old shape's, the
 * new one the new shape's, and no request can meet the paths of one with the app of the other.
 */
export function shapeKey(settings: RouteSettings, shape: PreviewShape): string {
  const hosts = hostRoutes(shape);
  // With one route there are no paths to mix: an address can be replaced whatever it was declared as.
  if (hosts.length === 1 && hosts[0]?.routes.length === 1) return singleShape;
  return shortHash(JSON.stringify([settings.scheme, settings.domain, shape.slug, hosts]), 8);
}

/**
 * The address file: a line for each declared port, `IP:port SHA declared-port shape`.
 *
 * @throws when a line is outside its alphabet
 */
export function addressFile(lines: AddressLine[]): string {
  return lines
    .map(({ address, sha, port, shape }) => {
      if (!addressPattern.test(address)) throw new Error(`not an address of the form IP:port: ${shown(address)}`);
      if (!/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(sha)) throw new Error(`not a commit: ${shown(sha)}`);
      if (!/^[a-z0-9]{1,16}$/.test(shape)) throw new Error(`not a shape's key: ${shown(shape)}`);
      return `${address} ${sha} ${checkedPort(port)} ${shape}\n`;
    })
    .join('');
}

/** Reads an address file back; lines that aren't of its form are left out. */
export function parseAddressFile(text: string): AddressLine[] {
  return text.split('\n').flatMap((line) => {
    const [, address, sha, port, shape] = /^(\S+) ([0-9a-f]+) (\d+) ([a-z0-9]+)$/.exec(line) ?? [];
    return address && sha && port && shape ? [{ address, sha, port: Number(port), shape }] : [];
  });
}

function hostRoutes(shape: PreviewShape): HostRoutes[] {
  const { meta, hosts } = shape;
  if (!hosts.some(({ prefix }) => prefix === '')) throw new Error(`${shape.slug} has no hostname of its own`);
  return hosts
    .map(({ prefix, hostname }) => {
      const routes = prefix === '' ? meta.routes : meta.extraHosts.find((host) => host.prefix === prefix)?.routes;
      if (!routes) return { hostname, routes: [] };
      const sorted = routes
        .map(({ path, port, stripPrefix }) => ({ path: checkedRoute(path), port: checkedPort(port), stripPrefix }))
        .sort(
          (a, b) =>
            b.path.split('/').length - a.path.split('/').length ||
            b.path.length - a.path.length ||
            (a.path < b.path ? -1 : 1),
        );
      const paths = sorted.map(({ path }) => path);
      if (!paths.includes('/')) throw new Error(`${hostname} has no route for "/"`);
      if (new Set(paths).size < paths.length) throw new Error(`${hostname} has two routes for one path`);
      return { hostname, routes: sorted };
    })
    .filter(({ routes }) => routes.length > 0);
}

function globalOptions(settings: MainCaddyfileSettings): string[] {
  const { adminAddress, bind, trustedProxies, scheme, port, redirectPort } = settings;
  if (!/^(?:unix\/\/?[\w./-]+(?:\|0[0-7]{3})?|(?:[\w.-]+|\[[0-9a-f:]+\]):\d{1,5})$/.test(adminAddress)) {
    throw new Error(`not an admin address: ${shown(adminAddress)}`);
  }
  return [
    `admin ${adminAddress}`,
    '# Here and in no site, so that a preview keeps its file when the port changes.',
    ...(scheme === 'http' ? [`http_port ${checkedPort(port)}`] : [`https_port ${checkedPort(port)}`]),
    ...(scheme === 'https' && redirectPort !== undefined ? [`http_port ${checkedPort(redirectPort)}`] : []),
    '# Certificates are given, never asked for: a preview must not wait for a certificate authority.',
    'auto_https off',
    '# The files are the truth; a second copy of the configuration would cost every reload its writing.',
    'persist_config off',
    ...(bind?.length ? [`default_bind ${bind.map(checkedAddress).join(' ')}`] : []),
    '# Requests in flight at a reload may take this long; without a limit a forgotten event stream would pin old configurations.',
    'grace_period 1h',
    'log {\n\tlevel WARN\n}',
    `servers {\n\t# HTTP/3 streams would not survive a reload.\n\tprotocols h1 h2\n${
      trustedProxies?.length ? `\ttrusted_proxies static ${trustedProxies.map(checkedAddress).join(' ')}\n` : ''
    }}`,
  ];
}

function block(name: string, lines: string[]): string {
  const inner = lines.flatMap((line) => line.split('\n')).map((line) => `\t${line}\n`);
  return `${name}{\n${inner.join('')}}\n`;
}

function tlsLine(tls: MainCaddyfileSettings['tls']): string {
  return tls ? `\ttls ${checkedPath(tls.certificate)} ${checkedPath(tls.key)}\n` : '';
}

function redirectSite({ scheme, port, redirectPort }: MainCaddyfileSettings): string {
  if (scheme !== 'https' || redirectPort === undefined) return '';
  const target = `https://{host}${port === 443 ? '' : `:${port}`}{uri}`;
  return `\nhttp:// {\n\tredir ${target} 308\n}\n`;
}

/** One line, so that the Caddyfile stays readable; no styles, because Caddy would look for placeholders in their braces. */
function plainPage(title: string, text: string): string {
  return `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><meta http-equiv="refresh" content="5"><title>${title}</title><body style="font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1.2em"><h1 style="font-size:1.4em">${title}</h1><p>${text}</p>`;
}

const addressPattern = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]):\d{1,5}$/;

function checkedPort(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Error(`not a port: ${shown(String(port))}`);
  return port;
}

function checkedLabel(label: string): string {
  if (!labelPattern.test(label)) throw new Error(`not a DNS label: ${shown(label)}`);
  return label;
}

function checkedDomain(domain: string): string {
  domain.split('.').forEach(checkedLabel);
  return domain;
}

function checkedHostname(hostname: string, domain: string): string {
  if (!hostname.endsWith(`.${domain}`)) throw new Error(`not a hostname under ${domain}: ${shown(hostname)}`);
  checkedLabel(hostname.slice(0, -domain.length - 1));
  return hostname;
}

function checkedRoute(path: string): string {
  if (
    path.length > 256 ||
    !/^\/(?:(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)*)?$/.test(path)
  ) {
    throw new Error(`not a route's path: ${shown(path)}`);
  }
  return path;
}

function checkedAddress(address: string): string {
  if (!/^[0-9a-f.:]+(?:\/\d{1,3})?$/.test(address)) throw new Error(`not an IP address or network: ${shown(address)}`);
  return address;
}

/** An absolute path as one token. Characters that mean something to a glob, a placeholder or the Caddyfile are refused. */
function checkedPath(path: string, file = ''): string {
  if (!/^\/[A-Za-z0-9 ._@+:=,~/-]*$/.test(path)) {
    throw new Error(`Caddy can't be given this path; use letters, digits and ._@+:=,~- only: ${shown(path)}`);
  }
  return quoted(path + file);
}

function quoted(token: string): string {
  return token.includes(' ') ? `"${token}"` : token;
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
