import { createHash } from 'node:crypto';
import { z } from 'zod';
import { parseJson } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { memberName, peerId } from './ids.ts';
import { publicKeyFromBase64 } from './keys.ts';
import { entryLineBytesMax } from './limits.ts';

/**
 * What a stranger needs of the genesis entry: its line hashes to the mesh id, and names the key that signs
 * certificates. Other fields are the ledger's.
 */
const genesisLine = z.object({
  index: z.literal(0),
  type: z.literal('mesh.created'),
  body: z.object({
    format: z.literal(1),
    name: memberName,
    founder: peerId,
    logKey: z.string(),
    recoveryKey: z.string(),
  }),
});

export interface Genesis {
  mesh: string;
  name: string;
  /** Peer id. */
  founder: string;
  /** Raw public key that signs checkpoints, certificates and rosters. */
  logKey: Uint8Array;
  /** Raw public key that may name another founder. */
  recoveryKey: Uint8Array;
}

/** Mesh id of a genesis line, without its newline: SHA-256(0x00 ‖ line), the RFC 6962 leaf hash, in hex. */
export const meshIdOfLine = (line: string): string =>
  createHash('sha256').update(Uint8Array.of(0)).update(line).digest('hex');

/** Reads the line of entry 0; `SF_NOT_PROVED` where it is none. */
export function parseGenesis(line: string): Genesis {
  if (line.includes('\n')) throw new SuperfleetError('SF_NOT_PROVED', 'the genesis entry is one line');
  const { body } = parseJson(line, genesisLine, entryLineBytesMax, 'the genesis entry');
  const logKey = publicKeyFromBase64(body.logKey);
  const recoveryKey = publicKeyFromBase64(body.recoveryKey);
  return { mesh: meshIdOfLine(line), name: body.name, founder: body.founder, logKey, recoveryKey };
}
