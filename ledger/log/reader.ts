import type { Checkpoint } from '../lines/checkpoint.ts';
import type { Entry } from '../lines/entry.ts';
import { type Line, LineFault, parseLine } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import { leafHash } from '../proofs/merkle.ts';
import type { LogStorage } from '../storage/storage.ts';
import { LogDamagedError } from './damage.ts';
import type { Offsets } from './offsets.ts';

const COPY_BYTES = 256 * 1024;

/** Bytes of batches that follow each other, as they stand in the segments. */
export interface RawBatches {
  /** Index of the first entry in them. */
  first: number;
  /** Size that the last checkpoint in them names. */
  size: number;
  bytes: Buffer;
}

/** A line of the log and what it takes there. The bytes are valid until the next one is asked for. */
interface ReadLine {
  parsed: Line;
  line: Buffer;
  length: number;
}

/**
 * Entries from `from` to before `to`, which must be durable, in memory of a few chunks. Throws `LogDamagedError`
 * where they do not follow each other.
 */
export async function* readEntries(
  storage: LogStorage,
  offsets: Offsets,
  from: number,
  to: number,
): AsyncGenerator<{ entry: Entry; length: number }> {
  if (from >= to) return;
  for await (const { parsed, length } of readLines(storage, offsets, from)) {
    if (parsed.kind === 'checkpoint') continue;
    if (parsed.entry.index >= from) yield { entry: parsed.entry, length };
    if (parsed.entry.index + 1 >= to) return;
  }
}

/**
 * Batches from the one that begins at `from` to the one that ends at `to`, each as it was committed. Both must be
 * sizes at which a checkpoint was made (or 0).
 */
export async function* readBatches(
  storage: LogStorage,
  offsets: Offsets,
  from: number,
  to: number,
): AsyncGenerator<{ entries: Entry[]; checkpoint: Checkpoint }> {
  if (from >= to) return;
  let entries: Entry[] = [];
  for await (const { parsed } of readLines(storage, offsets, from)) {
    if (parsed.kind === 'entry') {
      if (parsed.entry.index >= from) entries.push(parsed.entry);
    } else if (entries.length > 0) {
      yield { entries, checkpoint: parsed.checkpoint };
      if (parsed.checkpoint.size >= to) return;
      entries = [];
    }
  }
}

/** Leaf hashes of the entries from `from` to before `to`, which must be durable. */
export async function* readLeaves(
  storage: LogStorage,
  offsets: Offsets,
  from: number,
  to: number,
): AsyncGenerator<Uint8Array> {
  if (from >= to) return;
  for await (const { parsed, line } of readLines(storage, offsets, from)) {
    if (parsed.kind === 'checkpoint' || parsed.entry.index < from) continue;
    yield leafHash(line);
    if (parsed.entry.index + 1 >= to) return;
  }
}

/** The line of a durable entry as it stands in its segment, without its newline; null where it is not there. */
export async function readLine(storage: LogStorage, offsets: Offsets, index: number): Promise<string | null> {
  for await (const { parsed, line } of readLines(storage, offsets, index)) {
    if (parsed.kind === 'entry' && parsed.entry.index === index) return line.toString('utf8');
  }
  return null;
}

const CHECKPOINT_BEGINS = Buffer.from('{"checkpoint"');

/**
 * Whole batches from the one that begins at `from` to the one that ends at `to`, in pieces that end with the batch that
 * reaches `pieceBytes`. Lines are counted, not parsed: whoever takes them checks them.
 */
export async function* readRaw(
  storage: LogStorage,
  offsets: Offsets,
  { from, to, pieceBytes }: { from: number; to: number; pieceBytes: number },
): AsyncGenerator<RawBatches> {
  const begin = offsets.before(from);
  if (from >= to || begin === undefined) return;
  let next = begin.index;
  let offset = begin.offset;
  let first = from;
  let held: Buffer[] = [];
  let bytes = 0;
  for (let segment = begin.segment; ; segment = next, offset = 0) {
    const file = await storage.open(segment, 'read');
    try {
      for await (const { lines } of lineRuns(file, offset)) {
        if (lines.length === 0) continue;
        const { line: head, offset: base } = lines[0]!;
        const { line: tail, offset: last } = lines.at(-1)!;
        // Lines of a run lie behind each other in one buffer, their newlines between them.
        const run = Buffer.from(head.buffer, head.byteOffset, last + tail.length + 1 - base);
        let taken = 0;
        for (const { line, offset: at } of lines) {
          const end = at + line.length + 1 - base;
          const ends = line.subarray(0, CHECKPOINT_BEGINS.length).equals(CHECKPOINT_BEGINS);
          if (!ends) {
            if (next < from) taken = end;
            next += 1;
            continue;
          }
          if (next <= from) {
            taken = end;
            continue;
          }
          if (bytes + end - taken < pieceBytes && next < to) continue;
          held.push(Buffer.from(run.subarray(taken, end)));
          yield { first, size: next, bytes: held.length === 1 ? held[0]! : Buffer.concat(held) };
          if (next >= to) return;
          taken = end;
          first = next;
          held = [];
          bytes = 0;
        }
        if (next > from && taken < run.length) {
          held.push(Buffer.from(run.subarray(taken)));
          bytes += run.length - taken;
        }
      }
    } finally {
      await file.close();
    }
    if (next === segment) return;
  }
}

/** Bytes of the segments as they stand, up to a place in the last of them. */
export async function* readBytes(
  storage: LogStorage,
  until: { segment: number; end: number },
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const segment of await storage.list()) {
    if (segment > until.segment) return;
    const file = await storage.open(segment, 'read');
    try {
      const end = segment === until.segment ? until.end : await file.size();
      for (let at = 0; at < end; ) {
        signal?.throwIfAborted();
        const chunk = Buffer.allocUnsafe(Math.min(COPY_BYTES, end - at));
        const read = await file.read(chunk, at);
        if (read === 0) return;
        yield chunk.subarray(0, read);
        at += read;
      }
    } finally {
      await file.close();
    }
  }
}

/** The checkpoint behind entry `size - 1`; null where another entry follows it. */
export async function readCheckpoint(
  storage: LogStorage,
  offsets: Offsets,
  size: number,
): Promise<Checkpoint | null> {
  for await (const { parsed } of readLines(storage, offsets, size - 1)) {
    if (parsed.kind === 'checkpoint' && parsed.checkpoint.size >= size) {
      return parsed.checkpoint.size === size ? parsed.checkpoint : null;
    }
    if (parsed.kind === 'entry' && parsed.entry.index >= size) return null;
  }
  return null;
}

/** Lines from a place at or before the index on, over the ends of segments. */
async function* readLines(storage: LogStorage, offsets: Offsets, index: number): AsyncGenerator<ReadLine> {
  const begin = offsets.before(index);
  if (begin === undefined) return;
  let next = begin.index;
  let from = begin.offset;
  for (let segment = begin.segment; ; segment = next, from = 0) {
    const file = await storage.open(segment, 'read');
    try {
      for await (const { lines } of lineRuns(file, from)) {
        for (const { line, offset } of lines) {
          const parsed = parseAt(line, { segment: storage.describe(segment), offset, index: next }, next);
          if (parsed.kind === 'entry') next += 1;
          yield { parsed, line, length: line.length + 1 };
        }
      }
    } finally {
      await file.close();
    }
    if (next === segment) return;
  }
}

function parseAt(
  line: Buffer,
  place: { segment: string; offset: number; index: number },
  next: number,
): Line {
  try {
    const parsed = parseLine(line);
    if (parsed.kind === 'entry' && parsed.entry.index !== next) {
      throw new LineFault(`index ${parsed.entry.index} where ${next} must come`);
    }
    return parsed;
  } catch (error) {
    if (!(error instanceof LineFault)) throw error;
    throw new LogDamagedError(place, error.message, error);
  }
}
