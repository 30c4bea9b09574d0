/** End-to-end tests' rig: the whole stack as `tekton up` starts it, a folder of git repositories, and somebody who plays GitHub. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HostInventory, readHost, whatIsLeft } from '../../src/cli/demo/inventory.ts';
import { type Answer, visit } from '../../src/cli/demo/visitor.ts';
import { previewWorkflowId } from '../../src/domain/preview.ts';
import { type PullRequestFacts, pullRequestPayload, signedDelivery } from '../../src/github/payload.ts';
import { type HostLayout, hostLayout } from '../../src/host/layout.ts';
import { type Stack, type StackOptions, startStack } from '../../src/stack/stack.ts';
import { connectTemporal, type Temporal } from '../../src/temporal/connection.ts';
import { type PreviewStatus, statusQuery } from '../../src/workflows/messages.ts';
import { createGitHouse, type GitHouse } from './git-house.ts';

export interface PullRequest {
  owner: string;
  repo: string;
  number: number;
}

export interface RealStack {
  readonly stack: Stack;
  readonly temporal: Temporal;
  readonly git: GitHouse;
  readonly layout: HostLayout;
  stateDir: string;
  /** Sends a signed `pull_request` delivery; gives status and answer. Every delivery is a second later than the one before. */
  deliver(
    pr: PullRequest,
    action: string,
    sha: string,
    more?: Partial<PullRequestFacts>,
  ): Promise<{ status: number; body: { workflowId?: string; slug?: string } }>;
  status(pr: PullRequest | string): Promise<PreviewStatus>;
  /** Waits until the status is as wished; fails with the whole status otherwise. */
  until(
    pr: PullRequest | string,
    what: string,
    wish: (status: PreviewStatus) => boolean,
    seconds?: number,
  ): Promise<PreviewStatus>;
  live(pr: PullRequest, sha: string): Promise<PreviewStatus>;
  gone(pr: PullRequest): Promise<void>;
  /** The public address of a label. */
  url(label: string, path?: string): string;
  visit(label: string, path?: string): Promise<Answer>;
  /** What stands on the host that did not stand when the stack was new, as `kind: name`. */
  left(): Promise<string[]>;
  /** Stops the stack and starts it again on the same state folder. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function startRealStack(options: Partial<StackOptions> = {}): Promise<RealStack> {
  const git = await createGitHouse();
  const stateDir = await mkdtemp(join(tmpdir(), 'tekton-e2e-'));
  const up = () =>
    startStack({
      stateDir,
      gitBaseUrl: git.baseUrl,
      allowedRepos: '*',
      logLevel: 'info',
      // Any free ports the first time, the same ones after that.
      ports: { http: 0, webhook: 0, temporal: 0, temporalUi: 0, postgres: 0, caddyAdmin: 0, metrics: 0 },
      ...options,
    });
  let stack = await up();
  let temporal = await connectTemporal({ TEMPORAL_ADDRESS: stack.record.temporalAddress });
  const layout = hostLayout(stateDir);
  const atFirst: HostInventory = await readHost(stack.record);
  const secret = (await readFile(stack.record.webhookSecretFile as string, 'utf8')).trim();
  let time = Date.now() - 3_600_000;

  const idOf = (pr: PullRequest | string) => (typeof pr === 'string' ? pr : previewWorkflowId(pr));
  const status = (pr: PullRequest | string) =>
    temporal.client.workflow.getHandle(idOf(pr)).query<PreviewStatus, []>(statusQuery);
  const url = (label: string, path = '/') => `http://${label}.${stack.record.domain}:${stack.record.ports.http}${path}`;

  const rig: RealStack = {
    get stack() {
      return stack;
    },
    get temporal() {
      return temporal;
    },
    git,
    layout,
    stateDir,
    async deliver(pr, action, sha, more = {}) {
      time += 1000;
      const payload = pullRequestPayload({ ...pr, action, sha, updatedAt: new Date(time), ...more });
      const { headers, body } = signedDelivery('pull_request', payload, secret);
      const response = await fetch(stack.record.webhookUrl, { method: 'POST', headers, body });
      return { status: response.status, body: (await response.json()) as { workflowId?: string; slug?: string } };
    },
    status,
    async until(pr, what, wish, seconds = 60) {
      const end = Date.now() + seconds * 1000;
      let last: PreviewStatus | undefined;
      for (;;) {
        last = await status(pr).catch(() => last);
        if (last && wish(last)) return last;
        if (Date.now() > end) throw new Error(`${idOf(pr)} was never ${what}; it is ${JSON.stringify(last, null, 1)}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    live: (pr, sha) => rig.until(pr, `live with ${sha.slice(0, 7)}`, (s) => s.phase === 'live' && s.servedSha === sha),
    gone: async (pr) => {
      await rig.until(pr, 'gone', (s) => s.phase === 'gone');
    },
    url,
    visit: (label, path) => visit(url(label, path)),
    left: async () => whatIsLeft(atFirst, await readHost(stack.record)),
    async restart() {
      await temporal.connection.close();
      await stack.stop();
      stack = await up();
      temporal = await connectTemporal({ TEMPORAL_ADDRESS: stack.record.temporalAddress });
    },
    async close() {
      await temporal.connection.close();
      await stack.stop();
      await git.remove();
      if (process.env.TEKTON_KEEP) console.error(`kept: ${stateDir}`);
      else await rm(stateDir, { recursive: true, force: true });
    },
  };
  return rig;
}
