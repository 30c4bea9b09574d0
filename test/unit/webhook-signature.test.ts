import { sign } from '@octokit/webhooks-methods';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSigned } from '../../src/webhook/signature.ts';

const secret = fc.string({ unit: 'binary', minLength: 1 });
const body = fc.string({ unit: 'binary' });

test("what GitHub's own library signs is accepted, for any body and secret", async () => {
  await fc.assert(
    fc.asyncProperty(
      secret,
      body.filter((text) => text !== ''),
      async (key, text) => {
        expect(isSigned(key, Buffer.from(text), await sign(key, text))).toBe(true);
      },
    ),
  );
});

test('another secret, or one flipped bit of the body, is refused', async () => {
  await fc.assert(
    fc.asyncProperty(secret, fc.uint8Array({ minLength: 1 }), fc.nat(), async (key, bytes, at) => {
      const signature = await sign(key, Buffer.from(bytes).toString('latin1') || 'x');
      const ours = Buffer.from(Buffer.from(bytes).toString('latin1'));
      expect(isSigned(key, ours, signature)).toBe(true);
      expect(isSigned(`${key}x`, ours, signature)).toBe(false);
      const flipped = Buffer.from(ours);
      flipped[at % flipped.length] = (flipped[at % flipped.length] ?? 0) ^ (1 << (at % 8));
      expect(isSigned(key, flipped, signature)).toBe(false);
    }),
  );
});

test('any header that is not a signature is refused without a throw', () => {
  fc.assert(
    fc.property(
      fc.option(
        fc.oneof(
          fc.string(),
          fc.string({ unit: 'binary' }).map((s) => `sha256=${s}`),
        ),
      ),
      (header) => {
        expect(isSigned('secret', Buffer.from('body'), header ?? undefined)).toBe(false);
      },
    ),
  );
});

test.each([
  undefined,
  '',
  'sha256=',
  `sha1=${'0'.repeat(40)}`,
  `sha256=${'0'.repeat(63)}`,
  `sha256=${'0'.repeat(64)}, sha256=1`,
])('the header %s is refused', (header) => expect(isSigned('secret', Buffer.from('body'), header)).toBe(false));
