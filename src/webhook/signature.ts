import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * Whether `header` (`X-Hub-Signature-256`) is GitHub's HMAC-SHA256 of exactly these bytes. Constant time, and over the raw bytes:
 * decoding them first would let two bodies share a signature.
 *
 * @param secret as it is in GitHub's settings; any characters
 */
export function isSigned(secret: string, body: Uint8Array, header: string | undefined): boolean {
  const claimed = /^sha256=([0-9a-f]{64})$/.exec(header ?? '')?.[1];
  if (claimed === undefined) return false;
  return timingSafeEqual(createHmac('sha256', secret).update(body).digest(), Buffer.from(claimed, 'hex'));
}
