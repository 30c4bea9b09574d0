import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';

const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** `length` characters of `[a-z0-9]`, the same for the same text: a hash that also runs inside a workflow, where Node's crypto is not. */
export function shortHash(text: string, length: number): string {
  return Array.from(sha256(utf8ToBytes(text)).slice(0, length), (byte) => alphabet[byte % alphabet.length]).join('');
}

/**
 * A container's machine name: 11 characters that start with a letter, which is all nixos-container accepts
 * (`^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$`). People read slugs; long names cut to fit would collide (nixpkgs#38509).
 *
 * @param firstRunId the first run of the workflow's chain, the same through continue-as-new
 * @param deployment counts this preview's deployments from 1
 */
export function containerName(workflowId: string, firstRunId: string, deployment: number): string {
  return `p${shortHash(`${workflowId}\n${firstRunId}\n${deployment}`, 10)}`;
}

/** The container of an agent: also 11 characters. */
export function agentContainerName(workflowId: string, firstRunId: string): string {
  return `a${shortHash(`${workflowId}\n${firstRunId}`, 10)}`;
}
