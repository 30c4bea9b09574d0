import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  applyDestroy,
  applyPullRequest,
  applyRedeploy,
  attemptWanted,
  type Desired,
  isWanted,
  nothingDesired,
} from '../../src/domain/desired.ts';
import type { PullRequestState } from '../../src/domain/pull-request.ts';

const sha = (digit: string) => digit.repeat(40);
const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
const told = (action: string, digit: string, second: number): PullRequestState => ({
  action,
  open: action !== 'closed',
  sha: sha(digit),
  updatedAt: at(second),
  fork: false,
});
const desiredAfter = (...tellings: PullRequestState[]) =>
  tellings.reduce((desired, telling) => applyPullRequest(desired, telling).desired, nothingDesired);

describe('the reducer', () => {
  it('takes what is newer and leaves what is older', () => {
    expect(desiredAfter(told('opened', 'a', 1), told('synchronize', 'b', 3), told('synchronize', 'c', 2)).sha).toBe(
      sha('b'),
    );
  });

  it('asks GitHub about a late message that contradicts what is known', () => {
    const desired = desiredAfter(told('opened', 'a', 5));
    expect(applyPullRequest(desired, told('synchronize', 'b', 4))).toMatchObject({ changed: false, ask: true });
    expect(applyPullRequest(desired, told('opened', 'a', 5))).toMatchObject({ changed: false, ask: false });
  });

  it('lets a close act at once on a tie, and an open not undo it', () => {
    const desired = desiredAfter(told('opened', 'a', 5), told('closed', 'a', 5));
    expect(desired.open).toBe(false);
    expect(applyPullRequest(desired, told('reopened', 'a', 5))).toMatchObject({ changed: false, ask: true });
    expect(applyPullRequest(desired, { ...told('truth', 'a', 5), open: true }).desired.open).toBe(true);
  });

  it('takes a pushed tie, and asks', () => {
    const reduced = applyPullRequest(desiredAfter(told('opened', 'a', 5)), told('synchronize', 'b', 5));
    expect(reduced).toMatchObject({ desired: { sha: sha('b') }, changed: true, ask: true });
  });

  it('ends in the newest state whatever the order, when no two carry the same time', () => {
    const actions = fc.constantFrom('opened', 'synchronize', 'closed', 'reopened', 'truth');
    const tellings = fc.uniqueArray(
      fc.tuple(actions, fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 0, max: 59 })),
      {
        selector: ([, , second]) => second,
        minLength: 1,
      },
    );
    fc.assert(
      fc.property(tellings, fc.infiniteStream(fc.nat()), (list, order) => {
        const states = list.map(([action, digit, second]) => told(action, digit, second));
        const newest = [...states].sort((a, b) => (a.updatedAt < b.updatedAt ? 1 : -1))[0] as PullRequestState;
        const shuffled = states
          .map((state) => ({ state, rank: order.next().value as number }))
          .sort((a, b) => a.rank - b.rank);
        const delivered = [...shuffled, ...shuffled].map(({ state }) => state);
        expect(desiredAfter(...delivered)).toMatchObject({
          open: newest.open,
          sha: newest.sha,
          updatedAt: newest.updatedAt,
        });
      }),
    );
  });
});

describe('destroyed by hand', () => {
  const held = applyDestroy(desiredAfter(told('opened', 'a', 1)), false);

  it('an open pull request is held down', () => {
    expect(held).toMatchObject({ open: true, heldDown: true });
    expect(isWanted(held)).toBe(false);
  });

  it.each([
    ['a redelivery', told('opened', 'a', 1), true],
    ['the timer', { ...told('truth', 'a', 9), open: true }, true],
    ['a push', told('synchronize', 'b', 9), false],
    ['a reopen', told('reopened', 'a', 9), false],
  ])('%s', (_what, telling, stillHeld) => {
    expect(applyPullRequest(held, telling).desired.heldDown).toBe(stillHeld);
  });

  it('somebody’s hand revives it', () => {
    expect(applyRedeploy(held)).toMatchObject({ heldDown: false, open: true, redeploys: 1 });
  });

  it('a branch made by hand is simply over', () => {
    const branch: Desired = { ...applyRedeploy(nothingDesired), sha: sha('a') };
    expect(applyDestroy(branch, true)).toMatchObject({ open: false, heldDown: false });
  });
});

describe('an attempt', () => {
  const desired = desiredAfter(told('opened', 'a', 1));
  it.each([
    ['is wanted at first', desired, undefined, true],
    ['is not made twice', desired, { sha: sha('a'), redeploys: 0 }, false],
    ['is wanted for another commit', desired, { sha: sha('b'), redeploys: 0 }, true],
    ['is wanted again by hand', applyRedeploy(desired), { sha: sha('a'), redeploys: 0 }, true],
    [
      'is not made twice when the commit stayed unknown',
      applyRedeploy(nothingDesired),
      { sha: '', redeploys: 1 },
      false,
    ],
    ['is not wanted of what is closed', desiredAfter(told('closed', 'a', 1)), undefined, false],
  ])('%s', (_what, wish, last, wanted) => expect(attemptWanted(wish, last)).toBe(wanted));
});
