import { parseReceiptFile, RECEIPT_FILE_FORMAT, type ReceiptFile } from './bundle.ts';
import { SuperfleetError } from './errors.ts';

/**
 * Receipt files as a git note on the commit they are about. One file is the note, byte for byte; several stand one behind
 * the other with an empty line between, as `git notes merge -s union` puts them.
 */
export const RECEIPT_NOTES_REF = 'refs/notes/superfleet';
/** Eight receipts of the largest size; of the usual size some hundreds. */
export const receiptNoteBytesMax = 4 * 1024 * 1024;

const HEAD = `{\n  "format": "${RECEIPT_FILE_FORMAT}",\n`;
const END = '\n}\n';

/** Where a note may lie in the tree of a notes commit: git spreads notes over folders as they become many. */
export function notePaths(commit: string): string[] {
  const paths: string[] = [];
  for (let depth = 0; depth * 2 < commit.length; depth += 1) {
    const folders = commit.slice(0, depth * 2).match(/../g) ?? [];
    paths.push([...folders, commit.slice(depth * 2)].join('/'));
  }
  return paths;
}

/** The receipt files in a note, nothing of them checked. What else stands there is passed over. */
export function receiptFilesIn(note: Uint8Array): Uint8Array[] {
  return placesIn(asBuffer(note)).map(({ from, to }) => note.subarray(from, to));
}

/**
 * The note with this receipt file in it; null where it says as much already. All else in it stays: a file about the same
 * receipt is replaced, unless only the old one has a verification. `SF_FULL` past `receiptNoteBytesMax`.
 */
export function withReceiptFile(note: Uint8Array, file: Uint8Array): Uint8Array | null {
  const added = parseReceiptFile(file);
  const old = asBuffer(note);
  for (const { from, to } of placesIn(old)) {
    const there = old.subarray(from, to);
    if (there.equals(file)) return null;
    const known = readable(there);
    if (known === null || !sameReceipt(known, added)) continue;
    if (known.verification !== null && added.verification === null) return null;
    return bounded([old.subarray(0, from), file, old.subarray(to)]);
  }
  if (old.length === 0) return file;
  const ended = old.at(-1) === 0x0a;
  return bounded([old, Buffer.from(ended ? '\n' : '\n\n'), file]);
}

function placesIn(note: Buffer): { from: number; to: number }[] {
  const places: { from: number; to: number }[] = [];
  for (let from = note.indexOf(HEAD); from !== -1; ) {
    const end = note.indexOf(END, from);
    const next = note.indexOf(HEAD, from + 1);
    // One that is cut off ends where the next begins.
    const whole = end !== -1 && (next === -1 || end < next);
    places.push({ from, to: whole ? end + END.length : next === -1 ? note.length : next });
    from = next;
  }
  return places;
}

function bounded(parts: Uint8Array[]): Uint8Array {
  const whole = Buffer.concat(parts);
  if (whole.length <= receiptNoteBytesMax) return whole;
  throw new SuperfleetError('SF_FULL', 'the commit’s note has no room for another receipt', {
    expected: `at most ${receiptNoteBytesMax} bytes`,
    got: `${whole.length}`,
    hint: 'receipt show writes it into a file',
  });
}

function readable(file: Uint8Array): ReceiptFile | null {
  try {
    return parseReceiptFile(file);
  } catch {
    return null;
  }
}

const sameReceipt = (one: ReceiptFile, other: ReceiptFile): boolean =>
  JSON.stringify(one.receipt) === JSON.stringify(other.receipt);
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
