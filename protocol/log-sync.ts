import { z } from 'zod';

import { SuperfleetError } from './errors.ts';
import { messageBytes } from './frame.ts';
import { count, meshId, secretName, sha256Hex } from './ids.ts';
import { entryLineBytesMax, secretBytesMax } from './limits.ts';

/**
 * `/superfleet/log/1.0.0`: a member asks another what it has seen of the log (`head`), or a replica follows the log from
 * where its own copy ends (`follow`). Whole batches come as they stand in the segments, within the bytes granted; the
 * follower checks each, syncs it, and says so (`ack`). One that is far behind may ask for a snapshot's file first
 * (`snapshot`), and for the entries before it later (`follow` with `until`). Nothing in an answer is believed: checkpoints and handovers prove
 * themselves.
 */
export const LOG_PROTOCOL = '/superfleet/log/1.0.0';

/** Bytes of batches that may be on the way or not yet synced by the follower. */
export const logCreditBytes = 8 * 1024 * 1024;
/** Batches are sent in pieces of about this many bytes; one batch may be longer. */
export const logPieceBytes = 256 * 1024;
/** Bytes of a piece in one frame. */
export const logDataBytesMax = 256 * 1024;
/** A frame: its first byte, and data or a word. */
export const logFrameBytesMax = 1 + logDataBytesMax;
const handoversMax = 64;

const checkpoint = z.string().max(4096);
const text = (max: number) => z.string().max(max);
const addresses = z.array(text(256)).max(16);
const publicKey = z.base64().length(44);
const position = { size: count, root: sha256Hex };

const logWord = z.discriminatedUnion('type', [
  // ── asked ───────────────────────────────────────────────────────────────────────────────────────────────────
  z.object({ type: z.literal('head'), mesh: meshId }),
  /**
   * `size` and `root` are what the follower holds; 0 and the hash of nothing: it holds nothing. `addresses`: where it
   * listens, so that members find it if it is made the founder.
   */
  z.object({
    type: z.literal('follow'),
    mesh: meshId,
    ...position,
    addresses: addresses.optional(),
    /** Lowest entry that it holds: it began at a snapshot. @default 0 */
    from: count.optional(),
    /** Fills in what it lacks: nothing is sent behind this size, and it counts as no follower. @default as it grows */
    until: count.min(1).optional(),
  }),
  /** The file of the snapshot of this size, which the source's tip named; answered by `snapshot.file`. */
  z.object({ type: z.literal('snapshot'), mesh: meshId, size: count.min(1) }),
  /** Two checkpoints that prove an equivocation; nothing is answered. */
  z.object({ type: z.literal('conflict'), mesh: meshId, checkpoints: z.tuple([checkpoint, checkpoint]) }),
  /** The new founder asks the one before for the mesh's secrets; answered by each, and then `secrets`. */
  z.object({ type: z.literal('secrets.ask'), mesh: meshId }),
  /** They are synced where the new founder keeps them: the old one forgets them. */
  z.object({ type: z.literal('secrets.kept'), count }),
  /** What came until here is synced on the follower's disk. */
  z.object({
    type: z.literal('ack'),
    ...position,
    /** As in `follow`. */
    from: count.optional(),
    /** The checkpoint of that size with the follower's cosignature (C2SP tlog-cosignature). @default none */
    cosigned: checkpoint.optional(),
  }),
  z.object({ type: z.literal('grant'), bytes: count.min(1).max(logCreditBytes) }),
  // ── answered ────────────────────────────────────────────────────────────────────────────────────────────────
  z.object({
    type: z.literal('tip'),
    /** The newest this machine holds or has seen; null: none yet. */
    checkpoint: checkpoint.nullable(),
    /** Its own at exactly the size that a follower named; null where it made none there. */
    at: checkpoint.nullable(),
    /** Lines of all handovers it knows of. */
    handovers: z.array(text(entryLineBytesMax)).max(handoversMax),
    /** It holds the log itself, and can be followed. */
    holds: z.boolean(),
    /** Two checkpoints that prove an equivocation, where it has frozen the log. @default none */
    conflict: z.tuple([checkpoint, checkpoint]).optional(),
    /** A replica that may be made the founder: the public key that would sign the log, where it would be found. */
    next: z.object({ logKey: publicKey, addresses }).optional(),
    /** Blobs named in the log that it does not have yet, of those it can still get. */
    missing: count.optional(),
    /** The newest snapshot that it holds, for those who may follow it. @default none */
    snapshot: z.object({ size: count.min(1), bytes: count.min(1) }).optional(),
  }),
  /** So many bytes come as data, within the bytes granted. */
  z.object({ type: z.literal('snapshot.file'), size: count.min(1), bytes: count.min(1) }),
  /** `value` in base64. */
  z.object({ type: z.literal('secret'), name: secretName, value: z.base64().max(2 * secretBytesMax) }),
  z.object({ type: z.literal('secrets'), count }),
  /** A piece: so many bytes come as data, batches from entry `first` to size `size`. */
  z.object({ type: z.literal('batches'), first: count, size: count.min(1), bytes: count.min(1) }),
  z.object({ type: z.literal('fault'), code: text(64), message: text(2048), hint: text(2048).nullable() }),
]);
export type LogWord = z.infer<typeof logWord>;
export type LogTip = Extract<LogWord, { type: 'tip' }>;

const DATA = 0;
const WORD = 1;
/** What stands before the bytes of a data frame. */
export const logDataHead = Uint8Array.of(DATA);

export const logWords = (word: LogWord): Uint8Array =>
  Buffer.concat([Uint8Array.of(WORD), messageBytes(word)]);

/** A frame either way: bytes of a piece, or a word. `SF_FRAME` for anything else. */
export function openLogFrame(frame: Uint8Array): { type: 'data'; bytes: Uint8Array } | LogWord {
  if (frame[0] === DATA && frame.byteLength > 1) return { type: 'data', bytes: frame.subarray(1) };
  if (frame[0] === WORD) {
    try {
      const parsed = logWord.safeParse(JSON.parse(new TextDecoder().decode(frame.subarray(1))));
      if (parsed.success) return parsed.data;
    } catch {
      // Said below.
    }
  }
  throw new SuperfleetError('SF_FRAME', 'the peer sent a frame of the log that is not of the form agreed', {
    expected: 'bytes or a word of the protocol',
    got: `${frame.byteLength} bytes that begin with ${frame[0] ?? 'nothing'}`,
  });
}
