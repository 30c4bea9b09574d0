import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { agentContainerName, containerName, shortHash } from '../../src/domain/container-name.ts';

/** What nixos-container accepts (notes on its names: at most 11 characters, no underscore). */
const accepted = /^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$/;

describe('a container name', () => {
  it('is the same for the same deployment, and another for any other', () => {
    const name = containerName('preview/acme/shop/42', 'run-1', 1);
    expect(name).toBe(containerName('preview/acme/shop/42', 'run-1', 1));
    // It names what stands on hosts: a change here would orphan all of it.
    expect(name).toBe('pdf87n7axlk');
    const others = [
      containerName('preview/acme/shop/42', 'run-1', 2),
      containerName('preview/acme/shop/42', 'run-2', 1),
      containerName('preview/acme/shop/43', 'run-1', 1),
      agentContainerName('preview/acme/shop/42', 'run-1'),
    ];
    expect(new Set([name, ...others]).size).toBe(5);
  });

  it('is one that nixos-container accepts, whatever it stands for', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.uuid(), fc.nat(), (workflowId, runId, deployment) => {
        expect(containerName(workflowId, runId, deployment)).toMatch(accepted);
        expect(agentContainerName(workflowId, runId)).toMatch(accepted);
      }),
    );
  });

  it('hardly ever repeats', () => {
    const names = Array.from({ length: 50_000 }, (_, n) => containerName('preview/acme/shop/42', 'run', n));
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.length === 11 && name.startsWith('p'))).toBe(true);
  });

  it('tells long names apart that would be cut to the same', () => {
    const long = `preview/acme/${'x'.repeat(200)}`;
    expect(containerName(`${long}-a/1`, 'run', 1)).not.toBe(containerName(`${long}-b/1`, 'run', 1));
    expect(shortHash('a', 6)).toHaveLength(6);
  });
});
