import { SuperfleetError } from '../../protocol/errors.ts';
import { batchBytesMax, entryLineBytesMax } from '../../protocol/limits.ts';
import { LineFault } from '../lines/line.ts';
import type { LogStorage } from '../storage/storage.ts';
import { Chain } from './chain.ts';
import { LogDamagedError } from './damage.ts';
import { readBytes } from './reader.ts';
import { scanLog } from './scan.ts';

/** The point of a log from which more is wanted. */
export interface LogPoint {
  mesh: string;
  /** Entries, and the root over them in hex. */
  size: number;
  root: string;
}

/** A log of the same mesh somewhere else: an export, another data folder, a replica. */
export interface CopySource {
  /** For a person. */
  readonly name: string;
  /**
   * The bytes of whole batches that follow `from` (null: from the genesis on), verified, in pieces that `LogCopy.take`
   * takes; none where the source ends before. Rejects with `SF_NOT_PROVED` for a log of another mesh, `SF_EQUIVOCATION`
   * where the source holds another history up to `from`, `SF_LOG_DAMAGED` where the source itself does not hold.
   */
  batches(from: LogPoint | null): AsyncIterable<Buffer>;
}

const SOURCE_HINT =
  'Nothing was changed. It is the source that does not hold: take it anew (mesh-hub ledger export), or name another copy of the log.';

const NEWLINE = 0x0a;
/** A piece is handed on once it is as long; with one more batch it fits what a copy takes at once. */
const PIECE_BYTES = 1024 * 1024;

/** The bytes of an export: entry and checkpoint lines, the last one a checkpoint. `read` is called once for each use. */
export function exportSource(name: string, read: () => AsyncIterable<Uint8Array>): CopySource {
  return { name, batches: (from) => verifiedBatches(name, read(), from) };
}

/** The segments of another log, which may be in use; a torn tail of it is passed over. */
export function storageSource(storage: LogStorage): CopySource {
  const name = storage.describe(0);
  return {
    name,
    async *batches(from) {
      const { last, end } = await scanLog(storage, { signatures: 'recent' });
      if (last === null) throw new SuperfleetError('SF_NOT_FOUND', `there is no log at ${name}`);
      yield* verifiedBatches(name, readBytes(storage, { segment: last, end }), from);
    },
  };
}

async function* verifiedBatches(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  from: LogPoint | null,
): AsyncGenerator<Buffer> {
  const chain = new Chain('all');
  /** Lines of whole batches, then of one that is not yet whole. */
  let whole: Buffer[] = [];
  let wholeBytes = 0;
  let batch: Buffer[] = [];
  let batchBytes = 0;
  let offset = 0;
  let met = false;
  let held: Buffer = Buffer.alloc(0);
  const damaged = (why: string, cause?: unknown): LogDamagedError =>
    new LogDamagedError({ segment: name, offset, index: chain.next }, why, cause, SOURCE_HINT);
  for await (const chunk of chunks) {
    held = held.length === 0 ? Buffer.from(chunk) : Buffer.concat([held, chunk]);
    let begin = 0;
    for (let end = held.indexOf(NEWLINE); end !== -1; end = held.indexOf(NEWLINE, begin)) {
      try {
        chain.push(held.subarray(begin, end));
      } catch (error) {
        throw error instanceof LineFault ? damaged(error.message, error) : error;
      }
      const line = Buffer.from(held.subarray(begin, end + 1));
      offset += line.length;
      begin = end + 1;
      batch.push(line);
      batchBytes += line.length;
      if (batchBytes > batchBytesMax + entryLineBytesMax)
        throw damaged('no checkpoint for longer than a batch');
      if (chain.pending > 0) continue;
      if (from !== null && !met) met = meets(name, chain, from);
      if (chain.next > (from?.size ?? 0)) {
        whole.push(...batch);
        wholeBytes += batchBytes;
      }
      batch = [];
      batchBytes = 0;
      if (wholeBytes < PIECE_BYTES) continue;
      yield Buffer.concat(whole);
      whole = [];
      wholeBytes = 0;
    }
    held = Buffer.from(held.subarray(begin));
    if (held.length >= entryLineBytesMax) throw damaged(`a line of more than ${entryLineBytesMax} bytes`);
  }
  if (held.length > 0) throw damaged('an unterminated line');
  if (chain.pending > 0) throw damaged('entries without a checkpoint');
  if (chain.next === 0) throw damaged('not one checkpoint');
  if (whole.length > 0) yield Buffer.concat(whole);
}

/**
 * At a checkpoint of the source: it must be of this mesh and the same log up to the point. Of one log every copy has its
 * checkpoints at the same sizes. Answers whether the point was met.
 */
function meets(name: string, { settled }: Chain, from: LogPoint): boolean {
  const { meshId, checkpoint } = settled;
  if (meshId !== from.mesh) {
    throw new SuperfleetError('SF_NOT_PROVED', `${name} is the log of another mesh`, {
      expected: from.mesh,
      got: meshId,
    });
  }
  const { size } = checkpoint!;
  if (size < from.size) return false;
  if (size === from.size && checkpoint!.root === from.root) return true;
  throw forked(name, from, size === from.size ? checkpoint : null);
}

/** Two signed histories of one mesh, and where each of them lies. */
export function forked(
  other: string,
  here: { size: number; root: string; place?: string },
  there: { size: number; root: string } | null,
): SuperfleetError {
  const at = here.place ?? 'this log';
  return new SuperfleetError('SF_EQUIVOCATION', `${other} holds another history of this mesh than ${at}`, {
    expected: `root ${here.root} at size ${here.size}, as in ${at}`,
    got: there === null ? `no checkpoint of size ${here.size} in ${other}` : `root ${there.root} in ${other}`,
    hint: 'keep both: together they are proof that two histories were signed. Nothing was changed',
  });
}
