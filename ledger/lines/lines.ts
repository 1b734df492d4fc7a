import { entryLineBytesMax } from '../../protocol/limits.ts';
import type { SegmentFile } from '../storage/storage.ts';

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/** Some lines of a segment in a row. */
export interface LineRun {
  /** Lines without their newlines, valid until the next run is asked for, and where each begins. */
  lines: { line: Buffer; offset: number }[];
  /** Set on the last run: bytes after the last newline, cut at the longest a line may be. */
  rest: { bytes: Buffer; offset: number } | null;
}

/**
 * A segment from `from` up to `to` (default: its end) as runs of lines, in memory of a few chunks. Where a newline is
 * missing for longer than a line may be, what is there is given as `rest` and the reading ends.
 */
export async function* lineRuns(
  file: SegmentFile,
  from: number,
  to = Number.MAX_SAFE_INTEGER,
): AsyncGenerator<LineRun> {
  // One space for all runs: what a run leaves over is moved to the front, and the next chunk is read behind it. It may be
  // as long as a line, or the chunk that showed that there is no line.
  const space = Buffer.allocUnsafeSlow(entryLineBytesMax + CHUNK_BYTES);
  let held: Buffer = space.subarray(0, 0);
  let heldAt = from;
  for (;;) {
    const kept = held.length;
    space.copyWithin(0, held.byteOffset, held.byteOffset + kept);
    const chunk = space.subarray(kept, kept + Math.min(CHUNK_BYTES, to - heldAt - kept));
    const read = chunk.length === 0 ? 0 : await file.read(chunk, heldAt + kept);
    const bytes = space.subarray(0, kept + read);
    const lines: LineRun['lines'] = [];
    let begin = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, begin)) {
      lines.push({ line: bytes.subarray(begin, end), offset: heldAt + begin });
      begin = end + 1;
    }
    held = bytes.subarray(begin);
    heldAt += begin;
    const ends = read === 0 || held.length > entryLineBytesMax;
    yield { lines, rest: ends && held.length > 0 ? { bytes: held, offset: heldAt } : null };
    if (ends) return;
  }
}
