import { sign, verify } from 'node:crypto';
import { SuperfleetError } from '../../protocol/errors.ts';
import { publicKeyFromBase64, publicKeyObject, type SigningKey } from '../../protocol/keys.ts';
import { type Checkpoint, checkpointBytesMax, keyId, parseNote } from './checkpoint.ts';

/**
 * Cosignatures of witnesses in the form of C2SP tlog-cosignature, Ed25519: one more signature line of the checkpoint's
 * note, which says that at that time this was the newest tree the witness knew, and that it extends all it knew before.
 */
const COSIGNATURE_ED25519 = 0x04;
const TIME_BYTES = 8;
const SIGNATURE_BYTES = 64;

/** A witness as a verifier knows it. The signed text does not hold the name, so no key may have two. */
export interface Witness {
  /** Without white space and `+`. */
  name: string;
  /** Raw, base64. */
  publicKey: string;
}

/** A checkpoint and when the witness signed it. */
export interface Cosigned {
  checkpoint: Checkpoint;
  /** Unix seconds, by the clock of the witness. */
  time: number;
}

/**
 * The note with one more line: the cosignature of `by` at `time` (Unix seconds). The caller has checked the log's signature
 * and that this tree extends the last one it signed. Throws `SF_USAGE` for an impossible name or time, or where the note
 * would be longer than a checkpoint may be; `SF_NOT_PROVED` where it is none.
 */
export function cosign(text: string, by: { name: string; key: SigningKey; time: number }): string {
  const { body } = parseNote(text);
  if (!/^[^\s+\p{Cc}]+$/u.test(by.name) || !Number.isSafeInteger(by.time) || by.time < 0) {
    throw new SuperfleetError('SF_USAGE', 'this witness cannot sign', {
      expected: 'a name without white space and +, and a time in whole seconds since 1970',
      got: JSON.stringify({ name: by.name.slice(0, 64), time: by.time }),
    });
  }
  const time = Buffer.alloc(TIME_BYTES);
  time.writeBigUInt64BE(BigInt(by.time));
  const signature = sign(null, cosignedMessage(body, by.time), by.key.privateKey);
  const id = keyId(by.name, by.key.publicKey, COSIGNATURE_ED25519);
  const cosigned = `${text}— ${by.name} ${Buffer.concat([id, time, signature]).toString('base64')}\n`;
  if (cosigned.length > checkpointBytesMax) {
    throw new SuperfleetError('SF_USAGE', 'the checkpoint has no room for another signature', {
      expected: `at most ${checkpointBytesMax} characters`,
      got: `${cosigned.length}`,
      hint: 'keep the signatures of fewer witnesses',
    });
  }
  return cosigned;
}

/**
 * The checkpoint, where `by` cosigned it. Every line under its name and key must hold; of several the newest time counts.
 * Lines of others are passed over, the log's own among them: see `verifyCheckpoint`. Throws `SF_NOT_PROVED` otherwise.
 */
export function verifyCosignature(text: string, by: Witness): Cosigned {
  const { checkpoint, body, signatures } = parseNote(text);
  const raw = publicKeyFromBase64(by.publicKey);
  const id = keyId(by.name, raw, COSIGNATURE_ED25519);
  const times = signatures
    .filter((line) => line.name === by.name && line.id.equals(id))
    .map(({ signature }) => verifiedTime(body, signature, raw));
  if (times.length === 0) {
    const there = signatures.map((line) => `${line.name} ${line.id.toString('hex')}`).join(', ');
    throw notProved(
      'the checkpoint is not signed by this witness',
      `${by.name} ${id.toString('hex')}`,
      there,
    );
  }
  return { checkpoint, time: Math.max(...times) };
}

function verifiedTime(body: string, signature: Buffer, publicKey: Uint8Array): number {
  if (signature.length !== TIME_BYTES + SIGNATURE_BYTES) {
    throw notProved(
      'a cosignature is of another length',
      `${TIME_BYTES + SIGNATURE_BYTES} bytes behind the key id`,
      `${signature.length}`,
    );
  }
  const time = signature.readBigUInt64BE(0);
  if (time > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw notProved('a cosignature is of an impossible time', 'seconds below 2^53', `${time}`);
  }
  const message = cosignedMessage(body, Number(time));
  if (!verify(null, message, publicKeyObject(publicKey), signature.subarray(TIME_BYTES))) {
    throw notProved('the cosignature does not hold', 'a good Ed25519 signature', 'a bad one');
  }
  return Number(time);
}

const cosignedMessage = (body: string, time: number): Buffer =>
  Buffer.from(`cosignature/v1\ntime ${time}\n${body}`);

function notProved(message: string, expected: string, got: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', message, { expected, got: got.slice(0, 512) });
}
