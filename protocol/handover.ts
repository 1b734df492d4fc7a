import { sign, verify } from 'node:crypto';
import { z } from 'zod';
import { parseJson } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { type Genesis, parseGenesis } from './genesis.ts';
import { count, peerId, sha256Hex } from './ids.ts';
import { publicKeyFromBase64, publicKeyObject, type SigningKey } from './keys.ts';
import { entryLineBytesMax } from './limits.ts';

/**
 * Who writes a mesh's log, and how that changes: an `epoch.handover` entry names the next founder and the key of its
 * log, signed by the log key before it or by the recovery key. The lines of these entries, from the genesis on, prove to
 * anyone who knows the mesh id which key speaks for the mesh.
 */
export const HANDOVER_TYPE = 'epoch.handover';

const publicKey = z.base64().length(44);

/** Body of the entry. Its index is `size`, its epoch one above that of the entry before it. */
export const handoverBody = z.strictObject({
  /** Peer id of the founder from here on. */
  founder: peerId,
  /** Raw public key, in base64, that signs the log from here on; never one that signed it before. */
  logKey: publicKey,
  /** Whose signature this rests on: that of the log key until here, or of the recovery key (the founder is lost). */
  authority: z.enum(['founder', 'recovery']),
  /** Entries before this one and the root over them, in hex. */
  size: count.min(1),
  root: sha256Hex,
  /** Ed25519, in base64, over `handoverText`. */
  signature: z.base64().length(88),
});
export type HandoverBody = z.infer<typeof handoverBody>;

const handoverLine = z.strictObject({
  index: count,
  epoch: count.min(2),
  time: count,
  type: z.literal(HANDOVER_TYPE),
  body: handoverBody,
});

/** What is signed: one field a line, so that no two handovers share a text. */
export const handoverText = (mesh: string, epoch: number, body: Omit<HandoverBody, 'signature'>): string =>
  `superfleet-handover/1\n${mesh}\n${epoch}\n${body.size}\n${body.root}\n${body.authority}\n${body.founder}\n${body.logKey}\n`;

/** The signed body. `key` is the log key of the epoch before, or the recovery key. */
export function signHandover(
  mesh: string,
  epoch: number,
  said: Omit<HandoverBody, 'signature'>,
  key: SigningKey,
): HandoverBody {
  const signature = sign(null, Buffer.from(handoverText(mesh, epoch, said)), key.privateKey);
  return handoverBody.parse({ ...said, signature: signature.toString('base64') });
}

/** A handover as it stands in the log. */
export type Handover = z.infer<typeof handoverLine> & { line: string };

/** Which founder and which keys speak for a mesh, as far as the handovers at hand tell. */
export interface Leadership {
  genesis: Genesis;
  /** Peer id of the founder now. */
  founder: string;
  epoch: number;
  /** Raw public key that signs log, certificates and rosters now. */
  logKey: Uint8Array;
  /** Oldest first. */
  handovers: readonly Handover[];
}

/** The leadership that a genesis line and the lines of the handovers after it prove; else `SF_NOT_PROVED`. */
export function leadershipOf(genesisLine: string, lines: readonly string[] = []): Leadership {
  const genesis = parseGenesis(genesisLine);
  const { founder, logKey } = genesis;
  return lines.reduce(followHandover, { genesis, founder, epoch: 1, logKey, handovers: [] });
}

/** The leadership after one more handover; `SF_NOT_PROVED` where it cannot follow. */
export function followHandover(before: Leadership, line: string): Leadership {
  const handover = parseHandover(line);
  const { index, epoch, body } = handover;
  const { signature, ...said } = body;
  if (epoch !== before.epoch + 1) throw bad(`it opens epoch ${epoch} after epoch ${before.epoch}`);
  if (body.size !== index || index <= (before.handovers.at(-1)?.index ?? 0)) {
    throw bad(`it names size ${body.size} at index ${index}`);
  }
  const logKey = publicKeyFromBase64(body.logKey);
  // Refuses the points of small order, under which anyone could sign.
  publicKeyObject(logKey);
  if (logKeys(before).some((key) => Buffer.from(key).equals(logKey)))
    throw bad('its log key signed this log before');
  const key = body.authority === 'founder' ? before.logKey : before.genesis.recoveryKey;
  const text = Buffer.from(handoverText(before.genesis.mesh, epoch, said));
  if (!verify(null, text, publicKeyObject(key), Buffer.from(signature, 'base64'))) {
    throw bad(`it is not signed by the ${body.authority === 'founder' ? 'log key' : 'recovery key'}`);
  }
  const handovers = [...before.handovers, { ...handover, line }];
  return { genesis: before.genesis, founder: body.founder, epoch, logKey, handovers };
}

/** Raw log keys of all epochs, oldest first. */
export const logKeys = ({ genesis, handovers }: Leadership): Uint8Array[] => [
  genesis.logKey,
  ...handovers.map(({ body }) => publicKeyFromBase64(body.logKey)),
];

/** Raw key that signs the checkpoint of this size; whoever signs a handover signs the checkpoint over it, too. */
export function signerAt(leadership: Leadership, size: number): Uint8Array {
  const { genesis, handovers } = leadership;
  const newest = handovers.at(-1);
  if (newest === undefined || newest.index + 1 < size) return leadership.logKey;
  const keys = logKeys(leadership);
  const epochs = handovers.filter(({ index }) => index < size).length;
  const last = handovers[epochs - 1];
  if (last === undefined || last.index + 1 < size) return keys[epochs]!;
  return last.body.authority === 'recovery' ? genesis.recoveryKey : keys[epochs - 1]!;
}

/**
 * The better of two: the one that goes on where the other ends. `SF_EQUIVOCATION` where one epoch was opened in two
 * ways, which only a stolen key or a second recovery can have done.
 */
export function newerLeadership(held: Leadership, other: Leadership): Leadership {
  const common = Math.min(held.handovers.length, other.handovers.length);
  for (let at = 0; at < common; at += 1) {
    const [ours, theirs] = [held.handovers[at]!.line, other.handovers[at]!.line];
    if (ours === theirs) continue;
    throw new SuperfleetError('SF_EQUIVOCATION', `epoch ${at + 2} of this mesh was opened twice`, {
      expected: ours.slice(0, 512),
      got: theirs.slice(0, 512),
      hint: 'ask the operator which founder is the right one; both entries are proof',
    });
  }
  return other.handovers.length > held.handovers.length ? other : held;
}

function parseHandover(line: string): z.infer<typeof handoverLine> {
  const parsed = parseJson(line, handoverLine, entryLineBytesMax, 'the handover');
  if (JSON.stringify(parsed) !== line) throw bad('it is not written in the one form of its value');
  return parsed;
}

const bad = (why: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `a handover of the mesh does not hold: ${why}`);
