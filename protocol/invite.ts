import { createHash } from 'node:crypto';
import { z } from 'zod';
import { SuperfleetError } from './errors.ts';
import { count, meshId, peerId, type RandomBytes, ROLES, roles } from './ids.ts';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './keys.ts';

/**
 * The invite token: `sfi1_` and base32 in lower case, one word that a double click selects. Inside: length, checksum,
 * then the fields below. The length tells a cut token from a mistyped one, the checksum a mistyped one from one
 * that is right and unknown to the founder. Neither guards anything: the secret does.
 */
const PREFIX = 'sfi';
const VERSION = 1;
/** Addresses in a token: a founder has a handful; more would not fit a terminal. */
export const inviteAddressesMax = 16;
export const INVITE_SECRET_BYTES = 16;
const tokenCharactersMax = 8192;
const CHECKSUM_BYTES = 4;

const schema = z.strictObject({
  mesh: meshId,
  /** Founder's peer id: the joiner refuses any other before it sends the secret. */
  founder: peerId,
  /** Multiaddrs of the founder. */
  addresses: z
    .array(z.string().regex(/^\/[\x21-\x7e]{1,254}$/, 'a multiaddr such as /ip4/192.168.1.2/tcp/4747'))
    .max(inviteAddressesMax),
  /** 128 bits in hex, good for one use unless the founder said otherwise. */
  secret: z.string().regex(/^[0-9a-f]{32}$/),
  /** Unix ms; judged by the founder's clock, shown to the joiner. */
  expiresAt: count,
  roles,
});
export type Invite = z.infer<typeof schema>;

export const newInviteSecret = (random: RandomBytes): string =>
  Buffer.from(random(INVITE_SECRET_BYTES)).toString('hex');

/** What the log and the founder's memory know a secret by: SHA-256 of its bytes, in hex. */
export const secretHash = (secret: string): string =>
  createHash('sha256').update(Buffer.from(secret, 'hex')).digest('hex');

/** The token of an invite: the same facts give the same token. */
export function encodeInvite(invite: Invite): string {
  const { mesh, founder, addresses, secret, expiresAt, roles: given } = schema.parse(invite);
  const fixed = Buffer.alloc(8);
  fixed.writeUIntBE(expiresAt, 0, 6);
  fixed[6] = ROLES.reduce((bits, role, index) => bits | (given.includes(role) ? 1 << index : 0), 0);
  fixed[7] = addresses.length;
  const body = Buffer.concat([
    Buffer.from(mesh, 'hex'),
    publicKeyFromPeerId(founder),
    Buffer.from(secret, 'hex'),
    fixed,
    ...addresses.flatMap((address) => [Uint8Array.of(address.length), Buffer.from(address)]),
  ]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  return `${PREFIX}${VERSION}_${toBase32(Buffer.concat([length, checksum(body), body]))}`;
}

/**
 * An invite from what a person pasted; spaces, line breaks and capitals do no harm. `SF_INVITE` (`SF_VERSION` for a
 * newer kind) says what is wrong: no token, cut off, too long, mistyped.
 */
export function parseInvite(text: string): Invite {
  if (text.length > tokenCharactersMax) throw badToken('it is no invite token: it is far too long');
  const token = text.replace(/\s+/g, '').toLowerCase();
  const match = /^sfi(\d{1,4})_([a-z2-7]*)(.?)/s.exec(token);
  if (match === null) throw badToken('it is no invite token', `a word that begins with ${PREFIX}${VERSION}_`);
  if (Number(match[1]) !== VERSION) {
    throw new SuperfleetError('SF_VERSION', 'this invite token is of another version', {
      expected: `${PREFIX}${VERSION}_`,
      got: `${PREFIX}${match[1]}_`,
      hint: 'run the same version of the program on both machines',
    });
  }
  if (match[3] !== '') throw badToken('it is mistyped: it has a character that no token has');
  const bytes = fromBase32(match[2] ?? '');
  const length = bytes.length < 2 ? Number.POSITIVE_INFINITY : bytes.readUInt16BE(0);
  const body = bytes.subarray(2 + CHECKSUM_BYTES);
  if (body.length < length) throw badToken('it is cut off', 'the whole token, to its last character');
  if (body.length > length) throw badToken('it is too long', 'one token and nothing after it');
  if (!bytes.subarray(2, 2 + CHECKSUM_BYTES).equals(checksum(body)))
    throw badToken('it is mistyped: its checksum is wrong');
  const invite = schema.safeParse(fieldsOf(body));
  if (!invite.success) throw badToken('its fields are not those of an invite');
  // One token for one invite: what does not come out again as it went in was made by something else.
  if (encodeInvite(invite.data) !== token) throw badToken('it is not spelled as a token is');
  return invite.data;
}

function fieldsOf(body: Buffer): unknown {
  const rest = body.subarray(88);
  const addresses: string[] = [];
  for (let at = 0; at < rest.length && addresses.length <= inviteAddressesMax; at += 1 + (rest[at] ?? 0)) {
    addresses.push(rest.toString('latin1', at + 1, at + 1 + (rest[at] ?? 0)));
  }
  if (body.length < 88) return null;
  return {
    mesh: body.toString('hex', 0, 32),
    founder: peerIdFromPublicKey(body.subarray(32, 64)),
    addresses,
    secret: body.toString('hex', 64, 80),
    expiresAt: body.readUIntBE(80, 6),
    roles: ROLES.filter((_, index) => ((body[86] ?? 0) & (1 << index)) !== 0),
  };
}

const checksum = (body: Uint8Array): Buffer =>
  createHash('sha256').update('superfleet invite 1').update(body).digest().subarray(0, CHECKSUM_BYTES);

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

function toBase32(bytes: Uint8Array): string {
  let text = '';
  let [bits, held] = [0, 0];
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    for (bits += 8; bits >= 5; bits -= 5) text += BASE32[(held >> (bits - 5)) & 31];
  }
  return bits === 0 ? text : text + BASE32[(held << (5 - bits)) & 31];
}

function fromBase32(text: string): Buffer {
  const bytes: number[] = [];
  let [bits, held] = [0, 0];
  for (const character of text) {
    held = ((held << 5) | BASE32.indexOf(character)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((held >> bits) & 255);
  }
  return Buffer.from(bytes);
}

function badToken(message: string, expected = 'the token as `mesh-hub invite` printed it'): SuperfleetError {
  return new SuperfleetError('SF_INVITE', `the invite token cannot be used: ${message}`, {
    expected,
    hint: 'copy it again, whole, or ask for a new one with: mesh-hub invite',
  });
}
