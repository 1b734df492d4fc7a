import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { SuperfleetError } from './errors.ts';
import type { PeerIdText, RandomBytes } from './ids.ts';

/**
 * Ed25519 keys in their four forms: raw 32 bytes, base64, node:crypto KeyObject, and libp2p peer id (the identity
 * multihash of the raw key in base58, so a peer id *is* its public key).
 */
export interface SigningKey {
  /** 32-byte seed, from which libp2p's and node's private keys are both made. Secret. */
  seed: Uint8Array;
  /** Raw 32-byte public key. */
  publicKey: Uint8Array;
  /** The public key as a peer id, also of keys that are no peer's: it is the `keyid` of their signatures. */
  peer: PeerIdText;
  privateKey: KeyObject;
}

export const KEY_BYTES = 32;
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_ED25519 = Buffer.from('302a300506032b6570032100', 'hex');

/** A fresh key from a source of random bytes; the same bytes give the same key. */
export const newSigningKey = (random: RandomBytes): SigningKey => signingKeyFromSeed(random(KEY_BYTES));

/** The key pair of a 32-byte seed (RFC 8032). */
export function signingKeyFromSeed(seed: Uint8Array): SigningKey {
  if (seed.length !== KEY_BYTES) throw badKey(`a seed of ${seed.length} bytes`);
  const der = Buffer.concat([PKCS8_ED25519, seed]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const publicKey = rawPublicKey(createPublicKey(privateKey));
  return { seed: Uint8Array.from(seed), publicKey, peer: peerIdFromPublicKey(publicKey), privateKey };
}

/** Keys kept as what is made of them: those of all members of a large mesh, so that each is made once and not for each signature. */
const KEPT_MAX = 4096;

/** What `make` gives, made once for each of the last texts asked for. */
function kept<T>(make: (text: string) => T): (text: string) => T {
  const made = new Map<string, T>();
  return (text) => {
    const known = made.get(text);
    if (known !== undefined) return known;
    const fresh = make(text);
    if (made.size >= KEPT_MAX) for (const oldest of made.keys()) if (made.delete(oldest)) break;
    made.set(text, fresh);
    return fresh;
  };
}

/** The KeyObject of a raw public key; `SF_NOT_PROVED` for the keys of small order, under which anyone can sign. */
export const publicKeyObject = (raw: Uint8Array): KeyObject => keptObject(asLatin1(raw));
const keptObject = kept((text) => makeKeyObject(Buffer.from(text, 'latin1')));
const asLatin1 = (raw: Uint8Array): string =>
  Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('latin1');

function makeKeyObject(raw: Uint8Array): KeyObject {
  if (raw.length !== KEY_BYTES) throw badKey(`a key of ${raw.length} bytes`);
  if (hasSmallOrder(raw)) throw badKey('a point of small order');
  return createPublicKey({ key: Buffer.concat([SPKI_ED25519, raw]), format: 'der', type: 'spki' });
}

/** Raw 32 bytes of an Ed25519 KeyObject, public or private. */
export function rawPublicKey(key: KeyObject): Uint8Array {
  if (key.asymmetricKeyType !== 'ed25519') throw badKey(`a key of type ${key.asymmetricKeyType ?? key.type}`);
  const half = key.type === 'private' ? createPublicKey(key) : key;
  return Uint8Array.from(half.export({ format: 'der', type: 'spki' }).subarray(SPKI_ED25519.length));
}

export const publicKeyToBase64 = (raw: Uint8Array): string => Buffer.from(raw).toString('base64');

/** Raw public key from base64 as it stands in the genesis entry; only the one canonical spelling is taken. */
export function publicKeyFromBase64(text: string): Uint8Array {
  const raw = Buffer.from(text, 'base64');
  if (raw.length !== KEY_BYTES || raw.toString('base64') !== text) throw badKey('another text');
  return Uint8Array.from(raw);
}

const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
/** Identity multihash (0x00, 36 bytes) of the protobuf {type: Ed25519, data: 32 bytes}. */
const PEER_ID_PREFIX = Buffer.from('002408011220', 'hex');
const PEER_ID_CHARACTERS = 52;

/** libp2p peer id of a raw Ed25519 public key: `12D3KooW…`. */
export const peerIdFromPublicKey = (raw: Uint8Array): PeerIdText => keptPeerId(asLatin1(raw));
const keptPeerId = kept((text) => makePeerId(Buffer.from(text, 'latin1')));

function makePeerId(raw: Uint8Array): PeerIdText {
  if (raw.length !== KEY_BYTES) throw badKey(`a key of ${raw.length} bytes`);
  let number = BigInt(`0x${Buffer.concat([PEER_ID_PREFIX, raw]).toString('hex')}`);
  let text = '';
  for (; number > 0n; number /= 58n) text = BASE58[Number(number % 58n)] + text;
  return `1${text}`;
}

/** Raw public key that a peer id is made of; `SF_USAGE` where the text is no Ed25519 peer id. */
export const publicKeyFromPeerId = (peer: string): Uint8Array => Uint8Array.from(keptPublicKey(peer));
const keptPublicKey = kept(readPeerId);

function readPeerId(peer: string): Uint8Array {
  let number = 0n;
  const fits = peer.length === PEER_ID_CHARACTERS && peer.startsWith('1');
  for (const character of fits ? peer : '') {
    const digit = BASE58.indexOf(character);
    if (digit === -1) throw badPeerId(peer);
    number = number * 58n + BigInt(digit);
  }
  const bytes = Buffer.from(
    number.toString(16).padStart((PEER_ID_PREFIX.length + KEY_BYTES) * 2, '0'),
    'hex',
  );
  if (!fits || bytes.length !== PEER_ID_PREFIX.length + KEY_BYTES) throw badPeerId(peer);
  if (!bytes.subarray(0, PEER_ID_PREFIX.length).equals(PEER_ID_PREFIX)) throw badPeerId(peer);
  return Uint8Array.from(bytes.subarray(PEER_ID_PREFIX.length));
}

/** y coordinates of the points of small order, little-endian, sign bit cleared (orders 4, 1, 8, 8, 2; p and p + 1 twice). */
const SMALL_ORDER = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);

function hasSmallOrder(raw: Uint8Array): boolean {
  const y = Buffer.from(raw);
  y[31] = y[31]! & 0x7f;
  return SMALL_ORDER.has(y.toString('hex'));
}

function badKey(got: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', `not an Ed25519 key: ${got}`, {
    expected: 'an Ed25519 public key of 32 bytes (44 characters of base64)',
    got,
  });
}

function badPeerId(peer: string): SuperfleetError {
  const got = JSON.stringify(peer.slice(0, 64));
  return new SuperfleetError('SF_USAGE', `not a peer id: ${got}`, {
    expected: '52 characters of base58 that begin with 12D3KooW',
    got,
  });
}
