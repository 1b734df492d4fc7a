/**
 * Where segments lie. Two implementations, one suite: files (`storage-file.ts`) and memory with the faults of real
 * disks (`storage-memory.ts`). Errors are the system's own (`code: 'ENOSPC'`, `'EIO'` …); the log turns them into
 * its own. Nothing here decides anything.
 */
export interface LogStorage {
  /** First indexes of the segments there are, ascending. */
  list(): Promise<number[]>;
  /** Makes an empty segment; rejects with `EEXIST` where there is one. Lasting only after `syncDirectory`. */
  create(first: number): Promise<SegmentFile>;
  open(first: number, mode: 'read' | 'write'): Promise<SegmentFile>;
  /** Makes lasting which segments and copies there are. */
  syncDirectory(): Promise<void>;
  /** Copies the bytes of a segment from `offset` to its end beside the log, synced; returns where they lie. */
  keepCut(first: number, offset: number): Promise<string>;
  /** Name of a segment for a person: its path. */
  describe(first: number): string;
}

/** How a segment may lie there: as its lines, or those compressed. Reading gives the same bytes. */
export type SegmentForm = 'plain' | 'compressed';

/**
 * Storage that holds segments in either form. Where both are there the plain one is the segment. Each change is lasting after
 * `syncDirectory`.
 */
export interface CompressingStorage extends LogStorage {
  forms(first: number): Promise<SegmentForm[]>;
  /** An empty file that is no segment yet, for the compressed form. */
  beginCompressed(first: number): Promise<SegmentFile>;
  /** Removes what was begun and never kept, by a process that died too. */
  dropUnfinished(): Promise<void>;
  /** It is the compressed form of the segment from here on, at once and whole. */
  keepCompressed(first: number): Promise<void>;
  remove(first: number, form: SegmentForm): Promise<void>;
}

/** One open segment. The caller closes it. */
export interface SegmentFile {
  size(): Promise<number>;
  /** Writes at `position` and returns how many bytes were taken, which may be fewer than given. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** When it resolves, the bytes and the length written before the call outlast a loss of power. */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  /** Fills `into` from `position`; returns the bytes read, 0 at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** Where a line of the log begins. */
export interface LinePlace {
  /** First index of its segment. */
  segment: number;
  offset: number;
}

/** Segments are named by their first index: `0000000000000000.jsonl`. */
export const segmentName = (first: number): string => `${String(first).padStart(16, '0')}.jsonl`;

/** Compressed: `0000000000000000.jsonl.zst`. */
export const compressedName = (first: number): string => `${segmentName(first)}.zst`;

/** First index from a plain segment's name; null for any other name. */
export function segmentFirst(name: string): number | null {
  const match = /^([0-9]{16})\.jsonl$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** First index from the name of a segment in either form; null for any other name. */
export const anySegmentFirst = (name: string): number | null => segmentFirst(name.replace(/\.zst$/, ''));

/** First indexes of the segments among these names, ascending, each once. */
export function segmentsAmong(names: readonly string[]): number[] {
  const firsts = names.map(anySegmentFirst).filter((first) => first !== null);
  return [...new Set(firsts)].sort((a, b) => a - b);
}

/** What of an open segment changes nothing; the rest of it is refused. */
export const readOnlyFile = (file: Pick<SegmentFile, 'size' | 'read' | 'close'>): SegmentFile => ({
  ...file,
  write: readOnly,
  sync: readOnly,
  truncate: readOnly,
});

export const readOnly = (): Promise<never> =>
  Promise.reject(Object.assign(new Error('these segments are only read'), { code: 'EROFS' }));

/** Name of the copy of cut bytes: segment, offset, and a number where there was one already. */
export const cutName = (first: number, offset: number, copy: number): string =>
  `cut-${String(first).padStart(16, '0')}-${offset}${copy === 0 ? '' : `-${copy}`}`;

/** Copies of one cut place that are kept; a log that tears there more often is not healthy. */
export const cutCopiesMax = 100;
