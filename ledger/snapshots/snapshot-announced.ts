import { LineFault, parseLine } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import type { LogStorage } from '../storage/storage.ts';

const ANNOUNCES = Buffer.from('"type":"log.snapshot"');
/** The type stands behind three numbers. */
const headBytesMax = 128;
/** Segments that are searched: a founder makes a snapshot at least once in each, unless it cannot. */
const segmentsMax = 2;

/**
 * Size that the newest `log.snapshot` entry at the end of a log names; null where none is found. A hint for whoever is about
 * to read the log: nothing is checked.
 */
export async function announcedSize(storage: LogStorage): Promise<number | null> {
  const segments = await storage.list();
  for (const segment of segments.slice(-segmentsMax).reverse()) {
    let size: number | null = null;
    const file = await storage.open(segment, 'read');
    try {
      for await (const { lines } of lineRuns(file, 0)) {
        for (const { line } of lines) {
          if (line.subarray(0, headBytesMax).includes(ANNOUNCES)) size = sizeIn(line) ?? size;
        }
      }
    } finally {
      await file.close();
    }
    if (size !== null) return size;
  }
  return null;
}

function sizeIn(line: Buffer): number | null {
  try {
    const parsed = parseLine(line);
    if (parsed.kind !== 'entry' || parsed.entry.type !== 'log.snapshot') return null;
    return (parsed.entry.body as { size: number }).size;
  } catch (error) {
    if (error instanceof LineFault) return null;
    throw error;
  }
}
