import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { privateKeyFromRaw } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { SuperfleetError } from '../../protocol/errors.ts';
import { KEY_BYTES, newSigningKey, type SigningKey, signingKeyFromSeed } from '../../protocol/keys.ts';
import { writeFileAtomic } from '../atomic-file.ts';

/** Reads a key file: a 32-byte seed in base64. Null where there is none; `SF_FOLDER` where it is something else. */
export async function readKey(path: string): Promise<SigningKey | null> {
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw new SuperfleetError('SF_FOLDER', `${path} cannot be read`, {
      got: code ?? null,
      hint: 'give the file to the user whose data folder it is in: chown',
      cause,
    });
  }
  const seed = Buffer.from(text, 'base64');
  if (seed.length === KEY_BYTES && seed.toString('base64') === text) return signingKeyFromSeed(seed);
  throw new SuperfleetError('SF_FOLDER', `${path} holds no key`, {
    expected: `${KEY_BYTES} bytes in base64, as this program wrote them`,
    got: `${seed.length} bytes`,
    hint: 'put the file back from a backup; without it this machine is another one',
  });
}

/** Writes a key file, 0600, synced. */
export async function writeKey(path: string, key: SigningKey): Promise<void> {
  await writeFileAtomic(path, `${Buffer.from(key.seed).toString('base64')}\n`);
}

/** The key of this path, made on first use. */
export async function readOrMakeKey(path: string): Promise<SigningKey> {
  const found = await readKey(path);
  if (found !== null) return found;
  const key = newSigningKey((length) => randomBytes(length));
  await writeKey(path, key);
  return key;
}

/** The same key as libp2p wants it. */
export const libp2pKey = (key: SigningKey): PrivateKey =>
  privateKeyFromRaw(Buffer.concat([key.seed, key.publicKey]));
