import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import type { Connection } from '@libp2p/interface';
import type { Checkpoint } from '../../ledger/lines/checkpoint.ts';
import type { LogCopy } from '../../ledger/log/log-copy.ts';
import { isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import {
  LOG_PROTOCOL,
  type LogTip,
  type LogWord,
  logCreditBytes,
  logDataBytesMax,
  logFrameBytesMax,
  logWords,
  openLogFrame,
} from '../../protocol/log-sync.ts';
import { FrameChannel } from '../network/channel.ts';

/** A stream is opened, and its first answer comes, within this. */
const OPEN_MS = 10_000;
/** The rest of a piece that has begun comes within this. */
const PIECE_MS = 60_000;
const ADDRESSES_MAX = 16;
/** As many as a founder keeps. */
const SECRETS_MAX = 256;
/** Root of the tree of no entries. */
const EMPTY_ROOT = createHash('sha256').digest('hex');

/** Where a replica keeps what it follows: nothing yet, or a copy. */
export interface CopyHolder {
  readonly copy: Pick<LogCopy, 'size' | 'checkpoint' | 'take' | 'first'> | null;
  /** Begins the copy with the first batches of the log; `signatures` as for `LogCopy.take`. */
  begin(bytes: Buffer, signatures?: 'all' | 'last'): Promise<unknown>;
}

export interface FollowOptions {
  mesh: string;
  holder: CopyHolder;
  /** As for `LogCopy.take`. @default 'all' */
  signatures?: 'all' | 'last';
  signal: AbortSignal;
  /** Nothing behind this size is asked for, and this machine counts as no follower. @default the log as it grows */
  until?: number;
  /** Where this machine listens. @default not said */
  addresses?(): string[];
  /** Its answer, before anything of it is used; throws to follow no further. */
  onTip(tip: LogTip): Promise<void> | void;
  /** Entries that are verified and synced, after every piece; called before it is acknowledged. */
  onTaken?(size: number): void;
  /** The text of a checkpoint that was verified and synced, with the follower's cosignature. @default none is made */
  cosign?(text: string): string;
  /** How far the source is, whenever that is heard. */
  onSource?(size: number): void;
}

/** What a peer says of the log: its newest checkpoint and its handovers, none of it proved. */
export async function askTip(connection: Connection, mesh: string, signal: AbortSignal): Promise<LogTip> {
  const channel = await openChannel(connection, signal);
  try {
    await channel.write(logWords({ type: 'head', mesh }), signal);
    const tip = await tipOf(channel, signal);
    await channel.close();
    return tip;
  } catch (thrown) {
    channel.abort(new Error('not answered'));
    throw thrown;
  }
}

/** Shows a peer two checkpoints that no one history has; it checks them itself. */
export async function tellConflict(
  connection: Connection,
  mesh: string,
  [one, other]: readonly [string, string],
  signal: AbortSignal,
): Promise<void> {
  const channel = await openChannel(connection, signal);
  await channel.write(logWords({ type: 'conflict', mesh, checkpoints: [one, other] }), signal);
  await channel.close();
}

/**
 * Follows the log of whoever this connection leads to until it breaks or the signal aborts; always rejects, with why. Each
 * piece is verified and synced before it is acknowledged (promise 6), and only then are its bytes granted again: what is
 * held in memory never passes the credit. While pieces are written, the next is verified.
 */
export async function followLog(connection: Connection, options: FollowOptions): Promise<never> {
  const { mesh, holder, signal } = options;
  const channel = await openChannel(connection, signal);
  const failing = new AbortController();
  const until = AbortSignal.any([signal, failing.signal]);
  /** Bytes of pieces that came and were not granted anew: a source that does not keep to its credit is left. */
  let ungranted = 0;
  /** The acknowledgement of the newest piece. */
  let holding: Promise<void> = Promise.resolve();
  /** Every piece so far is on the disk or refused. */
  let settled: Promise<unknown> = Promise.resolve();
  const acknowledge = async (
    before: Promise<void>,
    taken: Promise<Checkpoint>,
    bytes: number,
  ): Promise<void> => {
    await before;
    const { size, root, text } = await taken;
    options.onTaken?.(size);
    // A witness speaks for a history that it has seen from the first entry on.
    const seen = options.cosign !== undefined && holder.copy!.first === 0;
    const cosigned = seen ? { cosigned: options.cosign!(text) } : {};
    await channel.write(logWords({ type: 'ack', size, root, ...from(holder), ...cosigned }), signal);
    ungranted -= bytes;
    await channel.write(logWords({ type: 'grant', bytes }), signal);
  };
  const take = async (bytes: Buffer): Promise<Checkpoint> => {
    if (holder.copy !== null) return holder.copy.take(bytes, options.signatures);
    await holder.begin(bytes, options.signatures);
    return holder.copy!.checkpoint;
  };
  try {
    const { size, root } = holder.copy?.checkpoint ?? { size: 0, root: EMPTY_ROOT };
    const addresses = options.addresses?.().slice(0, ADDRESSES_MAX);
    const asked = {
      type: 'follow',
      mesh,
      size,
      root,
      ...(addresses === undefined ? {} : { addresses }),
      ...from(holder),
      ...(options.until === undefined ? {} : { until: options.until }),
    } as const;
    await channel.write(logWords(asked), signal);
    await options.onTip(await tipOf(channel, signal));
    for (let next = size; ; ) {
      // What is there already does not let one wait.
      const late = options.until === undefined ? [] : [AbortSignal.timeout(PIECE_MS)];
      const word = openLogFrame(await channel.expect(AbortSignal.any([until, ...late])));
      const bytes = await pieceOf(channel, word, { next, credit: logCreditBytes - ungranted }, until);
      ungranted += bytes.length;
      next = (word as Extract<LogWord, { type: 'batches' }>).size;
      options.onSource?.(next);
      const begins = holder.copy === null;
      const taken = take(bytes);
      holding = acknowledge(holding, taken, bytes.length);
      settled = Promise.allSettled([settled, taken]);
      // Whichever fails first ends it all, also while no piece comes.
      for (const each of [taken, holding]) each.catch((thrown: unknown) => failing.abort(thrown));
      // What is not yet synced is bounded by the credit; whatever else this machine does has its turn between two pieces.
      await (begins ? holding : turn());
    }
  } catch (thrown) {
    channel.abort(new Error('no longer followed'));
    // Whoever follows next begins where the copy ends then.
    await Promise.allSettled([settled, holding]);
    signal.throwIfAborted();
    throw thrown;
  }
}

/**
 * The secrets that the founder before has left for this one; `keep` has synced them when it resolves, and only then does
 * the other forget them. Answers how many there were.
 */
export async function takeSecrets(
  connection: Connection,
  mesh: string,
  keep: (values: ReadonlyMap<string, Uint8Array>) => Promise<void>,
  signal: AbortSignal,
): Promise<number> {
  const channel = await openChannel(connection, signal);
  try {
    await channel.write(logWords({ type: 'secrets.ask', mesh }), signal);
    const values = new Map<string, Uint8Array>();
    for (;;) {
      const word = openLogFrame(
        await channel.expect(AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)])),
      );
      if (word.type === 'fault') throw faultOf(word);
      if (word.type === 'secrets') break;
      if (word.type !== 'secret' || values.size >= SECRETS_MAX) throw outOfTurn('secret or secrets');
      values.set(word.name, Buffer.from(word.value, 'base64'));
    }
    if (values.size > 0) {
      await keep(values);
      await channel.write(logWords({ type: 'secrets.kept', count: values.size }), signal);
    }
    await channel.close();
    return values.size;
  } catch (thrown) {
    channel.abort(new Error('not answered'));
    throw thrown;
  }
}

/** Of a copy that began at a snapshot: where. */
const from = ({ copy }: CopyHolder): { from?: number } =>
  copy === null || copy.first === 0 ? {} : { from: copy.first };

/** What a snapshot's file comes into, in order. */
export interface SnapshotSink {
  /** So many bytes will come; throws where they may not. */
  expect(bytes: number): void;
  append(bytes: Uint8Array): Promise<void>;
}

/** The file of the snapshot of `size` entries, written as it comes; nothing in it is checked. */
export async function fetchSnapshot(
  connection: Connection,
  mesh: string,
  size: number,
  sink: SnapshotSink,
  signal: AbortSignal,
): Promise<void> {
  const channel = await openChannel(connection, signal);
  const inTime = (): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(PIECE_MS)]);
  try {
    await channel.write(logWords({ type: 'snapshot', mesh, size }), signal);
    const word = openLogFrame(await channel.expect(inTime()));
    if (word.type === 'fault') throw faultOf(word);
    if (word.type !== 'snapshot.file' || word.size !== size)
      throw outOfTurn(`the snapshot of ${size} entries`);
    sink.expect(word.bytes);
    for (let left = word.bytes; left > 0; ) {
      const part = openLogFrame(await channel.expect(inTime()));
      if (part.type !== 'data' || part.bytes.byteLength !== Math.min(left, logDataBytesMax))
        throw outOfTurn(`${left} bytes of a snapshot in full frames`);
      await sink.append(part.bytes);
      left -= part.bytes.byteLength;
      await channel.write(logWords({ type: 'grant', bytes: part.bytes.byteLength }), signal);
    }
    await channel.close();
  } catch (thrown) {
    channel.abort(new Error('no longer wanted'));
    signal.throwIfAborted();
    throw thrown;
  }
}

async function openChannel(connection: Connection, signal: AbortSignal): Promise<FrameChannel> {
  const stream = await connection
    .newStream(LOG_PROTOCOL, { signal: AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]) })
    .catch((cause: unknown) => {
      signal.throwIfAborted();
      throw new SuperfleetError('SF_UNREACHABLE', 'the peer opened no stream for its log', { cause });
    });
  return new FrameChannel(stream, {
    frameBytesMax: logFrameBytesMax,
    unreadBytesMax: logCreditBytes + logFrameBytesMax,
  });
}

async function tipOf(channel: FrameChannel, signal: AbortSignal): Promise<LogTip> {
  const frame = await channel.expect(AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]));
  const word = openLogFrame(frame);
  if (word.type === 'fault') throw faultOf(word);
  if (word.type !== 'tip') throw outOfTurn('tip');
  return word;
}

/** The bytes of one piece, which must begin where the copy ends. */
async function pieceOf(
  channel: FrameChannel,
  word: ReturnType<typeof openLogFrame>,
  { next, credit }: { next: number; credit: number },
  signal: AbortSignal,
): Promise<Buffer> {
  if (word.type === 'fault') throw faultOf(word);
  if (word.type !== 'batches') throw outOfTurn('batches');
  if (word.bytes > credit || word.first !== next) {
    throw outOfTurn(`batches from entry ${next} within the bytes granted`);
  }
  const late = AbortSignal.any([signal, AbortSignal.timeout(PIECE_MS)]);
  const piece = Buffer.allocUnsafeSlow(word.bytes);
  for (let at = 0; at < piece.length; ) {
    const part = openLogFrame(await channel.expect(late));
    // Each but the last is full: a piece in crumbs would cost many times its bytes.
    const due = Math.min(piece.length - at, logDataBytesMax);
    if (part.type !== 'data' || part.bytes.byteLength !== due) {
      throw outOfTurn(`${due} more bytes of a piece in one frame`);
    }
    piece.set(part.bytes, at);
    at += due;
  }
  return piece;
}

const faultOf = ({ code, message, hint }: Extract<LogWord, { type: 'fault' }>): SuperfleetError =>
  new SuperfleetError(isErrorCode(code) ? code : 'SF_INTERNAL', message, { hint });

const outOfTurn = (expected: string): SuperfleetError =>
  new SuperfleetError('SF_FRAME', 'the peer sent a frame of the log out of turn', { expected });
