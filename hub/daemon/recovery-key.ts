import { readFileSync } from 'node:fs';
import { SuperfleetError } from '../../protocol/errors.ts';
import { KEY_BYTES, publicKeyToBase64, type SigningKey, signingKeyFromSeed } from '../../protocol/keys.ts';

/** The recovery key of a file that `mesh-hub init` wrote. `SF_NOT_FOUND` where it cannot be read, `SF_USAGE` where it holds none. */
export function readRecoveryKey(path: string): SigningKey {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new SuperfleetError('SF_NOT_FOUND', `the recovery key cannot be read: ${path}`, {
      expected: 'the file that `mesh-hub init` wrote',
      got: (cause as NodeJS.ErrnoException).code ?? String(cause),
      cause,
    });
  }
  const seed = Buffer.from(text, 'base64');
  if (seed.length === KEY_BYTES && seed.toString('base64') === text) return signingKeyFromSeed(seed);
  throw new SuperfleetError('SF_USAGE', `${path} holds no recovery key`, {
    expected: `${KEY_BYTES} bytes in base64, as \`mesh-hub init\` wrote them`,
    got: `${text.length} characters`,
  });
}

/** Throws `SF_NOT_PROVED` where this is not the recovery key that the genesis of the mesh names (raw). */
export function requireRecoveryKey(key: SigningKey, named: Uint8Array, mesh: string): void {
  if (publicKeyToBase64(key.publicKey) === publicKeyToBase64(named)) return;
  throw new SuperfleetError('SF_NOT_PROVED', 'this is not the recovery key of this mesh', {
    expected: `the key that \`mesh-hub init\` wrote for mesh ${mesh}`,
    got: 'another key',
  });
}
