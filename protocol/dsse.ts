import { sign, verify } from 'node:crypto';
import { z } from 'zod';
import { SuperfleetError } from './errors.ts';
import type { Fits } from './fits.ts';
import { peerIdFromPublicKey, publicKeyObject, type SigningKey } from './keys.ts';
import { envelopeBytesMax } from './limits.ts';

/**
 * DSSE v1 (github.com/secure-systems-lab/dsse): a signature over type and bytes, so that what was signed needs no
 * canonical form. Exactly one Ed25519 signature. `keyid` is the signer's key as a peer id: a hint, never trusted.
 */
export const envelope = z.strictObject({
  payload: z.string(),
  payloadType: z.string().min(1).max(256),
  signatures: z.array(z.strictObject({ keyid: z.string().max(128), sig: z.string().length(88) })).length(1),
});
export type Envelope = z.infer<typeof envelope>;

const SIGNATURE_BYTES = 64;

/** DSSE's pre-authentication encoding: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in bytes. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = Buffer.from(payloadType);
  const head = Buffer.from(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `);
  return Buffer.concat([head, payload]);
}

/** Signs these very bytes. Deterministic: the same key, type and bytes give the same envelope. */
export function signEnvelope(payloadType: string, payload: Uint8Array, key: SigningKey): Envelope {
  const sig = sign(null, preAuthEncoding(payloadType, payload), key.privateKey);
  return {
    payload: Buffer.from(payload).toString('base64'),
    payloadType,
    signatures: [{ keyid: key.peer, sig: sig.toString('base64') }],
  };
}

/**
 * The bytes that the signature covers, and nothing else of the envelope, once it holds under this raw public key
 * and is of this type; else `SF_NOT_PROVED`. Use these bytes: parsing the envelope again could give others.
 */
export function openEnvelope(signed: Envelope, payloadType: string, publicKey: Uint8Array): Uint8Array {
  const [signature] = signed.signatures;
  if (signed.payloadType !== payloadType) {
    throw notProved('the envelope is of another type', payloadType, signed.payloadType);
  }
  const payload = canonicalBase64(signed.payload, 'the payload');
  const sig = canonicalBase64(signature?.sig ?? '', 'the signature');
  if (sig.length !== SIGNATURE_BYTES)
    throw notProved('the signature is cut off', '64 bytes', `${sig.length}`);
  if (!verify(null, preAuthEncoding(payloadType, payload), publicKeyObject(publicKey), sig)) {
    throw notProved('the signature does not hold', `a signature by ${peerIdFromPublicKey(publicKey)}`, null);
  }
  // No security rests on it: an envelope has one spelling, so that a changed byte never passes unseen.
  const keyid = peerIdFromPublicKey(publicKey);
  if (signature?.keyid !== keyid) throw notProved('the envelope names another key', keyid, signature?.keyid);
  return payload;
}

/** An envelope from JSON text of at most `bytesMax`; `SF_NOT_PROVED` says what is wrong with it. */
export function parseEnvelope(text: string | Uint8Array, bytesMax: number = envelopeBytesMax): Envelope {
  return parseJson(text, envelope, bytesMax, 'an envelope');
}

/** One line of JSON. */
export const encodeEnvelope = (signed: Envelope): string => JSON.stringify(signed);

/**
 * Foreign JSON by a schema, bounded first; UTF-8 must be valid. `SF_NOT_PROVED` names the first thing that is not
 * as it should be, since all that is parsed here is a proof or part of one. `fits`: of what needs no schema any more.
 */
export const parseJson = <T>(
  text: string | Uint8Array,
  schema: z.ZodType<T>,
  bytesMax: number,
  what: string,
  fits: Fits | null = null,
): T => parseBoth(text, schema, bytesMax, what, fits).parsed;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** By the schema, and as it stood there. */
function parseBoth<T>(
  text: string | Uint8Array,
  schema: z.ZodType<T>,
  bytesMax: number,
  what: string,
  fits: Fits | null = null,
): { parsed: T; value: unknown } {
  if (text.length > bytesMax) {
    throw notProved(`${what} is too large`, `at most ${bytesMax} bytes`, `${text.length}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(typeof text === 'string' ? text : utf8.decode(text));
  } catch (cause) {
    throw new SuperfleetError('SF_NOT_PROVED', `${what} is not JSON`, { expected: 'one JSON object', cause });
  }
  if (fits?.(value) === true) return { parsed: value as T, value };
  const parsed = schema.safeParse(value);
  if (parsed.success) return { parsed: parsed.data, value };
  const issue = parsed.error.issues[0];
  const where = issue?.path.map(String).join('.') ?? '';
  throw notProved(`${what} is not of the form agreed: ${where} ${issue?.message ?? ''}`.trim(), null, null);
}

/**
 * The same for a signed document, which must also be spelled as `JSON.stringify` spells it: no key twice, no second
 * way to write a number or a character, so no two readers can see different facts in the same bytes.
 */
export function parseDocument<T>(bytes: Uint8Array, schema: z.ZodType<T>, bytesMax: number, what: string): T {
  const { parsed, value } = parseBoth(bytes, schema, bytesMax, what);
  const again = Buffer.from(JSON.stringify(value));
  if (!again.equals(bytes))
    throw notProved(`${what} is not spelled canonically`, 'JSON.stringify form', null);
  return parsed;
}

function canonicalBase64(text: string, what: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw notProved(`${what} is not base64`, 'padded base64', null);
  return bytes;
}

function notProved(
  message: string,
  expected: string | null,
  got: string | null | undefined,
): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', message, { expected, got: got?.slice(0, 256) ?? null });
}
