import { createHash, timingSafeEqual } from 'node:crypto';
import { SuperfleetError } from './errors.ts';
import { publicKeyFromPeerId } from './keys.ts';

/**
 * The short code that two screens show and a person compares. Commit and reveal: the joiner commits to its nonce,
 * the founder sends its own, the joiner reveals. Whoever stands between has chosen its own nonces before it learns
 * the others', so it has one guess in 10^9 for each request a person approves (9 digits, 29.9 bits), however fast it
 * computes. Nonces are 128 bits in hex.
 */
export interface ShortCodeInput {
  mesh: string;
  /** Peer ids as the connection authenticated them. */
  joiner: string;
  founder: string;
  joinerNonce: string;
  founderNonce: string;
}

/** The joiner's commitment to its nonce: SHA-256 with a domain of its own, in hex. */
export const commitNonce = (nonce: string): string =>
  createHash('sha256')
    .update('superfleet short code: commit\0')
    .update(Buffer.from(nonce, 'hex'))
    .digest('hex');

/** Whether a revealed nonce is the one committed to. The founder refuses the request where it is not. */
export function opensCommitment(commitment: string, nonce: string): boolean {
  const [given, made] = [Buffer.from(commitment, 'hex'), Buffer.from(commitNonce(nonce), 'hex')];
  return /^[0-9a-f]{32}$/.test(nonce) && given.length === made.length && timingSafeEqual(given, made);
}

/** The code of one request, `123-456-789`, the same on both sides if both saw the same keys and nonces. */
export function shortCode(input: ShortCodeInput): string {
  const digest = createHash('sha256')
    .update('superfleet short code: digits\0')
    .update(Buffer.from(input.mesh, 'hex'))
    .update(publicKeyFromPeerId(input.joiner))
    .update(publicKeyFromPeerId(input.founder))
    .update(Buffer.from(input.joinerNonce, 'hex'))
    .update(Buffer.from(input.founderNonce, 'hex'))
    .digest();
  // 64 bits modulo 10^9: no code is likelier than another by more than one part in 10^10.
  const number = digest.readBigUInt64BE(0) % 1_000_000_000n;
  return grouped(number.toString().padStart(9, '0'));
}

/** The code as a person typed it, with or without dashes and spaces, in the form shown. `SF_USAGE` otherwise. */
export function parseShortCode(text: string): string {
  const digits = text.replace(/[\s-]/g, '');
  if (/^\d{9}$/.test(digits)) return grouped(digits);
  throw new SuperfleetError('SF_USAGE', 'not a code', {
    expected: 'nine digits such as 123-456-789',
    got: JSON.stringify(text.slice(0, 32)),
    hint: 'the code is on the screen of the machine that wants to join',
  });
}

const grouped = (digits: string): string => digits.replace(/^(\d{3})(\d{3})(\d{3})$/, '$1-$2-$3');
