import { hash, type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { SuperfleetError } from '../../protocol/errors.ts';
import { publicKeyFromBase64, publicKeyObject, type SigningKey } from '../../protocol/keys.ts';

/**
 * Signed checkpoints: the note text of C2SP tlog-checkpoint (origin, size, base64 root) under the signatures of
 * C2SP signed-note, Ed25519 only. Origin and key name are the mesh id.
 */
const SIGNATURE_ED25519 = 0x01;
const KEY_ID_BYTES = 4;
const ROOT_BYTES = 32;
/** Fits a session message and one log line with room for co-signatures. */
export const checkpointBytesMax = 4096;

/** What a checkpoint says, and the whole signed note as it stands in the log. */
export interface Checkpoint {
  /** Mesh id. */
  origin: string;
  /** Entries under the root. */
  size: number;
  /** Merkle root in hex. At size 1 it is the mesh id. */
  root: string;
  /** The signed note, ending in a newline. */
  text: string;
}

/** Signs size and root for this origin. `root` is hex. */
export function makeCheckpoint(
  said: { origin: string; size: number; root: string },
  key: SigningKey,
): Checkpoint {
  const body = checkpointBody(said);
  const signature = sign(null, Buffer.from(body), key.privateKey);
  const id = keyId(said.origin, key.publicKey);
  const text = `${body}\n— ${said.origin} ${Buffer.concat([id, signature]).toString('base64')}\n`;
  return { origin: said.origin, size: said.size, root: said.root, text };
}

/** Reads a note without checking a signature. Throws `SF_NOT_PROVED` where it is not of the form. */
export function parseCheckpoint(text: string): Checkpoint {
  return parseNote(text).checkpoint;
}

/**
 * The checkpoint, when `publicKey` (raw, base64) signed it under the name `origin` and it speaks of `origin`.
 * Signatures of other keys are passed over, as the note format has it. Throws `SF_NOT_PROVED` otherwise.
 */
export function verifyCheckpoint(text: string, by: { origin: string; publicKey: string }): Checkpoint {
  const { checkpoint, body, key, signature } = claimOf(text, by);
  if (!verify(null, body, key, signature)) throw badSignature();
  return checkpoint;
}

/** The same in the thread pool: of many together each processor takes its part. Rejects where that throws. */
export async function verifyCheckpointAside(
  text: string,
  by: { origin: string; publicKey: string },
): Promise<Checkpoint> {
  const { checkpoint, body, key, signature } = claimOf(text, by);
  if (!(await verifyInPool(null, body, key, signature))) throw badSignature();
  return checkpoint;
}

const verifyInPool = promisify(verify);
const badSignature = (): SuperfleetError =>
  notProved('the signature of the checkpoint does not hold', 'a good Ed25519 signature', 'a bad one');

/** What the note says, and whose signature over what is to be checked. Throws `SF_NOT_PROVED` where it has none of this key. */
function claimOf(
  text: string,
  by: { origin: string; publicKey: string },
): { checkpoint: Checkpoint; body: Buffer; key: KeyObject; signature: Buffer } {
  const { checkpoint, body, signatures } = parseNote(text);
  if (checkpoint.origin !== by.origin) {
    throw notProved('the checkpoint is of another log', `origin ${by.origin}`, `origin ${checkpoint.origin}`);
  }
  const raw = publicKeyFromBase64(by.publicKey);
  const id = keyId(by.origin, raw);
  const ours = signatures.find((signature) => signature.name === by.origin && signature.id.equals(id));
  if (ours === undefined) {
    throw notProved(
      'the checkpoint is not signed by the log key',
      `a signature of key ${id.toString('hex')}`,
      signatures.map((signature) => signature.id.toString('hex')).join(', '),
    );
  }
  return {
    checkpoint,
    body: Buffer.from(body),
    key: keyObject(by.publicKey, raw),
    signature: ours.signature,
  };
}

/** The key that was asked for last: a log's checkpoints are mostly under one, and making it costs half as much as to verify. */
let lastKey: { publicKey: string; key: KeyObject } | null = null;

function keyObject(publicKey: string, raw: Uint8Array): KeyObject {
  if (lastKey?.publicKey !== publicKey) lastKey = { publicKey, key: publicKeyObject(raw) };
  return lastKey.key;
}

/** Key id of signed-note: the first 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key); type 0x01 is the log's own. */
export function keyId(name: string, publicKey: Uint8Array, type = SIGNATURE_ED25519): Buffer {
  const named = Buffer.concat([Buffer.from(`${name}\n`), Buffer.of(type), publicKey]);
  return hash('sha256', named, 'buffer').subarray(0, KEY_ID_BYTES);
}

function checkpointBody(said: { origin: string; size: number; root: string }): string {
  return `${said.origin}\n${said.size}\n${Buffer.from(said.root, 'hex').toString('base64')}\n`;
}

/** One signature line of a note. `signature` is what follows the key id; its form is the key's affair. */
export interface NoteSignature {
  name: string;
  id: Buffer;
  signature: Buffer;
}

/** A checkpoint with the text that is signed and the signatures, none of them checked. */
export interface Note {
  checkpoint: Checkpoint;
  /** Up to and with the newline before the empty line. */
  body: string;
  signatures: NoteSignature[];
}

/** Takes a note apart. Throws `SF_NOT_PROVED` where it is not of the form. */
export function parseNote(text: string): Note {
  if (text.length > checkpointBytesMax) {
    throw notProved(
      'the checkpoint is too long',
      `at most ${checkpointBytesMax} characters`,
      `${text.length}`,
    );
  }
  const gap = text.lastIndexOf('\n\n');
  const body = text.slice(0, gap + 1);
  const [origin, size, root, ...extensions] = body.split('\n');
  const wellFormed =
    gap > 0 &&
    text.endsWith('\n') &&
    !!origin &&
    !/[\u0000-\u0009\u000b-\u001f\u007f]/.test(text) &&
    /^(0|[1-9][0-9]{0,15})$/.test(size ?? '') &&
    Number.isSafeInteger(Number(size)) &&
    isBase64Of(root ?? '', ROOT_BYTES) &&
    // What is left after the last newline is the empty string; extension lines before it are not empty.
    extensions.at(-1) === '' &&
    extensions.slice(0, -1).every((line) => line !== '');
  if (!wellFormed)
    throw notProved('the checkpoint is not of the form', 'origin, size, root, signatures', text);
  const signatures = text
    .slice(gap + 2, -1)
    .split('\n')
    .map(parseSignature);
  const rootHex = Buffer.from(root!, 'base64').toString('hex');
  return { checkpoint: { origin: origin!, size: Number(size), root: rootHex, text }, body, signatures };
}

function parseSignature(line: string): NoteSignature {
  const match = /^— ([^\s+]+) (\S+)$/u.exec(line);
  const bytes = Buffer.from(match?.[2] ?? '', 'base64');
  // Keys of other kinds have signatures of other lengths; only ours is used, and it is exactly this long.
  if (match === null || bytes.length <= KEY_ID_BYTES || bytes.toString('base64') !== match[2]) {
    throw notProved('a signature line is not of the form', '— NAME BASE64', line);
  }
  return { name: match[1]!, id: bytes.subarray(0, KEY_ID_BYTES), signature: bytes.subarray(KEY_ID_BYTES) };
}

function isBase64Of(text: string, length: number): boolean {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === length && bytes.toString('base64') === text;
}

function notProved(message: string, expected: string, got: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', message, { expected, got: got.slice(0, 512) });
}
