import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { readOnlyFile, type SegmentFile } from './storage.ts';

/**
 * A compressed segment: frames of zstd one behind the other, each of so many plain bytes (the last of fewer) and with their
 * checksum, then the table of the seekable format (facebook/zstd, contrib/seekable_format) in a frame that decoders skip. So
 * `zstd -dc` reads it, and a read at any place decompresses one frame.
 */
export const frameBytes = 1024 * 1024;

/** Of a log of whole lives of tasks levels 3 to 12 make more bytes than this one, and 19 makes 4 % fewer in 200 times the time. */
const LEVEL = 1;
const TABLE_MAGIC = 0x184d2a5e;
const TABLE_END_MAGIC = 0x8f92eab1;
const TABLE_HEAD_BYTES = 8;
const TABLE_ENTRY_BYTES = 8;
const TABLE_END_BYTES = 9;
/** A segment of 4 GiB. */
const framesMax = 4096;
/** Plain bytes of a segment of which nothing can be read: some damage must be seen there. */
const unreadableBytes = 4096;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag } = constants;

/** Bytes of a frame, in the file and decompressed. */
export interface FrameSizes {
  stored: number;
  plain: number;
}

/** One frame of at most `frameBytes` plain bytes. */
export const encodeFrame = (plain: Uint8Array): Promise<Buffer> =>
  compress(plain, { params: { [ZSTD_c_compressionLevel]: LEVEL, [ZSTD_c_checksumFlag]: 1 } });

/** The table that ends the file. */
export function encodeTable(frames: readonly FrameSizes[]): Buffer {
  const table = Buffer.alloc(TABLE_HEAD_BYTES + frames.length * TABLE_ENTRY_BYTES + TABLE_END_BYTES);
  table.writeUInt32LE(TABLE_MAGIC, 0);
  table.writeUInt32LE(table.length - TABLE_HEAD_BYTES, 4);
  for (const [n, { stored, plain }] of frames.entries()) {
    table.writeUInt32LE(stored, TABLE_HEAD_BYTES + n * TABLE_ENTRY_BYTES);
    table.writeUInt32LE(plain, TABLE_HEAD_BYTES + n * TABLE_ENTRY_BYTES + 4);
  }
  table.writeUInt32LE(frames.length, table.length - TABLE_END_BYTES);
  table.writeUInt32LE(TABLE_END_MAGIC, table.length - 4);
  return table;
}

/** A frame, and where it begins in the file and in the plain bytes. */
interface Frame extends FrameSizes {
  at: number;
  plainAt: number;
}

/**
 * The plain bytes of a compressed segment, to be read only, in the memory of one frame. What does not decompress is given as
 * bytes that are no line of a log, as many as were there: so whoever reads meets damage at its place, and what is behind it
 * where it was. Of a file whose table does not hold nothing is given but such bytes. `refuse`: reading it fails instead (`EIO`).
 */
export async function openCompressed(
  file: Pick<SegmentFile, 'size' | 'read' | 'close'>,
  damage: 'show' | 'refuse' = 'show',
): Promise<SegmentFile> {
  const frames = await readTable(file);
  let held: { frame: Frame; bytes: Buffer } | null = null;
  const bytesOf = async (frame: Frame): Promise<Buffer> => {
    if (held?.frame !== frame) {
      const decoded = await decode(file, frame);
      if (decoded === null && damage === 'refuse') {
        throw Object.assign(new Error('a compressed segment is damaged'), { code: 'EIO' });
      }
      held = { frame, bytes: decoded ?? noLines(frame.plain) };
    }
    return held.bytes;
  };
  const last = frames.at(-1)!;
  return readOnlyFile({
    size: async () => last.plainAt + last.plain,
    read: async (into, position) => {
      let done = 0;
      for (const frame of frames) {
        const from = position + done - frame.plainAt;
        if (from >= frame.plain) continue;
        done += (await bytesOf(frame)).copy(into, done, from);
        if (done === into.length) break;
      }
      return done;
    },
    close: () => file.close(),
  });
}

async function readTable(file: Pick<SegmentFile, 'size' | 'read'>): Promise<Frame[]> {
  const unreadable = [{ at: 0, stored: 0, plainAt: 0, plain: unreadableBytes }];
  const size = await file.size();
  const end = await readAt(file, size - TABLE_END_BYTES, TABLE_END_BYTES);
  if (end?.readUInt32LE(5) !== TABLE_END_MAGIC) return unreadable;
  const count = end.readUInt32LE(0);
  if (count === 0 || count > framesMax) return unreadable;
  const length = TABLE_HEAD_BYTES + count * TABLE_ENTRY_BYTES + TABLE_END_BYTES;
  const table = await readAt(file, size - length, length);
  if (table === null) return unreadable;
  const frames: Frame[] = [];
  let at = 0;
  let plainAt = 0;
  for (let n = 0; n < count; n += 1) {
    const stored = table.readUInt32LE(TABLE_HEAD_BYTES + n * TABLE_ENTRY_BYTES);
    const plain = table.readUInt32LE(TABLE_HEAD_BYTES + n * TABLE_ENTRY_BYTES + 4);
    if (plain === 0 || plain > frameBytes) return unreadable;
    frames.push({ at, stored, plainAt, plain });
    at += stored;
    plainAt += plain;
  }
  return at === size - length && encodeTable(frames).equals(table) ? frames : unreadable;
}

/** Null where the file has not so many. */
async function readAt(
  file: Pick<SegmentFile, 'read'>,
  position: number,
  length: number,
): Promise<Buffer | null> {
  if (position < 0) return null;
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const read = await file.read(bytes.subarray(done), position + done);
    if (read === 0) return null;
    done += read;
  }
  return bytes;
}

/** Null where the frame does not give the bytes that it should. */
async function decode(file: Pick<SegmentFile, 'read'>, { at, stored, plain }: Frame): Promise<Buffer | null> {
  const frame = await readAt(file, at, stored);
  if (frame === null) return null;
  try {
    const bytes = await decompress(frame, { maxOutputLength: frameBytes });
    return bytes.length === plain ? bytes : null;
  } catch {
    return null;
  }
}

/** Short lines of bytes that no UTF-8 has: a reader stops at the first, and whoever looks behind them finds the next sound one. */
function noLines(length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xff);
  for (let end = 1023; end < length; end += 1024) bytes[end] = 0x0a;
  bytes[length - 1] = 0x0a;
  return bytes;
}
