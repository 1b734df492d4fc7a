import { createHash } from 'node:crypto';
import {
  encodeFrame,
  encodeTable,
  type FrameSizes,
  frameBytes,
  openCompressed,
} from '../storage/seekable-zstd.ts';
import type { CompressingStorage, SegmentFile } from '../storage/storage.ts';

/** What was compressed, and its bytes before and after. */
export interface Compressed {
  segments: number;
  plainBytes: number;
  bytes: number;
}

/**
 * Compresses every plain segment whose entries all lie before this index, oldest first; others may read them meanwhile. At
 * every moment each segment is there in one form at least, whole and lasting. Where a crash left one in both, the compressed
 * form is made anew. Rejects with the disk's error; what was done until then stays.
 */
export async function compressBefore(storage: CompressingStorage, index: number): Promise<Compressed> {
  const done: Compressed = { segments: 0, plainBytes: 0, bytes: 0 };
  const segments = await storage.list();
  await storage.dropUnfinished();
  for (const [at, first] of segments.entries()) {
    const next = segments[at + 1];
    if (next === undefined || next > index) break;
    const forms = await storage.forms(first);
    if (!forms.includes('plain')) continue;
    if (forms.includes('compressed')) {
      await storage.remove(first, 'compressed');
      await storage.syncDirectory();
    }
    const { plain, stored } = await compressSegment(storage, first);
    done.segments += 1;
    done.plainBytes += plain;
    done.bytes += stored;
  }
  return done;
}

async function compressSegment(storage: CompressingStorage, first: number): Promise<FrameSizes> {
  const plain = await storage.open(first, 'read');
  try {
    const sizes = await writeVerified(plain, await storage.beginCompressed(first)).catch(async (error) => {
      // Where the disk is full it would stay until there is room.
      await storage.dropUnfinished();
      throw error;
    });
    await storage.keepCompressed(first);
    // Before the plain one goes the other must outlast a loss of power.
    await storage.syncDirectory();
    await storage.remove(first, 'plain');
    await storage.syncDirectory();
    return sizes;
  } finally {
    await plain.close();
  }
}

/** Writes the compressed form, synced, and closes it; what it gives when it is read is held against what it is made of. */
async function writeVerified(plain: SegmentFile, into: SegmentFile): Promise<FrameSizes> {
  try {
    const frames: FrameSizes[] = [];
    const written = createHash('sha256');
    let stored = 0;
    let length = 0;
    for await (const bytes of pieces(plain)) {
      written.update(bytes);
      const frame = await encodeFrame(bytes);
      await writeAll(into, frame, stored);
      frames.push({ stored: frame.length, plain: bytes.length });
      stored += frame.length;
      length += bytes.length;
    }
    const table = encodeTable(frames);
    await writeAll(into, table, stored);
    await into.sync();
    const read = createHash('sha256');
    for await (const bytes of pieces(await openCompressed(into))) read.update(bytes);
    if (!read.digest().equals(written.digest())) {
      throw Object.assign(new Error('a compressed segment is not read as it was written'), { code: 'EIO' });
    }
    return { stored: stored + table.length, plain: length };
  } finally {
    await into.close();
  }
}

/** A file from its beginning in pieces of `frameBytes`, the last one shorter; each valid until the next. */
async function* pieces(file: SegmentFile): AsyncGenerator<Buffer> {
  const piece = Buffer.allocUnsafe(frameBytes);
  for (let at = 0; ; at += frameBytes) {
    let held = 0;
    while (held < frameBytes) {
      const read = await file.read(piece.subarray(held), at + held);
      if (read === 0) break;
      held += read;
    }
    if (held > 0) yield piece.subarray(0, held);
    if (held < frameBytes) return;
  }
}

async function writeAll(file: SegmentFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += await file.write(bytes.subarray(done), position + done);
  }
}
