import { z } from 'zod';
import { envelope, parseJson } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { entryLineBytesMax } from './limits.ts';
import { signedStatement } from './statement.ts';

/**
 * The receipt file: everything a stranger needs besides the mesh id, in one JSON file. `genesis` is the line of entry
 * 0 as it stands in the log; `handovers` the lines by which the log key changed since; `certificates` those of the
 * executor and the verifier.
 */
export const RECEIPT_FILE_FORMAT = 'superfleet-receipt/1';
/** Two statements, a genesis line, certificates, and some handovers: far below it in practice. */
export const receiptFileBytesMax = 512 * 1024;
const certificatesMax = 8;
/** Handovers that one file carries. */
export const handoversMax = 64;

export const receiptFile = z.strictObject({
  format: z.literal(RECEIPT_FILE_FORMAT),
  receipt: signedStatement,
  /** Null where nobody verified it (yet). */
  verification: signedStatement.nullable(),
  genesis: z.string().max(entryLineBytesMax),
  handovers: z.array(z.string().max(entryLineBytesMax)).max(handoversMax),
  certificates: z.array(envelope).max(certificatesMax),
});
export type ReceiptFile = z.infer<typeof receiptFile>;

/** A file of proof with one spelling: what is in it, how long it may be, and what it is called. */
export interface FileForm<T> {
  schema: z.ZodType<T>;
  bytesMax: number;
  /** For a person: "the receipt file". */
  what: string;
  /** Stands in every such file, unless a transfer took it apart. */
  marker: string;
  /** The command that writes it. */
  writtenBy: string;
}

const receiptForm: FileForm<ReceiptFile> = {
  schema: receiptFile,
  bytesMax: receiptFileBytesMax,
  what: 'the receipt file',
  marker: 'superfleet-receipt',
  writtenBy: 'receipt show',
};

/** The file's one spelling: indented by two, every field on a line of its own, so that line tools can take it apart. */
export const encodeFile = <T>(form: FileForm<T>, file: T): Uint8Array =>
  Buffer.from(`${JSON.stringify(form.schema.parse(file), null, 2)}\n`);

/** The file's parts, nothing of them verified. `SF_NOT_PROVED` where a byte is not as `encodeFile` writes it. */
export function parseFile<T>(form: FileForm<T>, bytes: Uint8Array): T {
  let cause: unknown = null;
  try {
    const file = parseJson(bytes, form.schema, form.bytesMax, form.what);
    if (Buffer.from(encodeFile(form, file)).equals(bytes)) return file;
  } catch (thrown) {
    cause = thrown;
  }
  const how = bytes.length > form.bytesMax ? null : damageOf(Buffer.from(bytes), form.marker);
  if (how === null && cause !== null) throw cause;
  const message =
    how === null
      ? `${form.what} is not spelled as this program writes it`
      : `${form.what} was changed on its way: ${how}`;
  throw new SuperfleetError('SF_NOT_PROVED', message, {
    expected: `the bytes as they came from \`${form.writtenBy}\``,
    hint: 'get the file again, as an attachment; an editor or a transfer may have changed it',
    cause,
  });
}

export const encodeReceiptFile = (file: ReceiptFile): Uint8Array => encodeFile(receiptForm, file);
export const parseReceiptFile = (bytes: Uint8Array): ReceiptFile => parseFile(receiptForm, bytes);

/** What mail and editors do to files, in words; null where it looks like none of it. */
function damageOf(bytes: Buffer, marker: string): string | null {
  if (bytes.length === 0) return 'it is empty';
  if (bytes.indexOf(marker) === -1) {
    return bytes.includes(0) ? 'it is not UTF-8 text (UTF-16, perhaps)' : null;
  }
  if (/=3D|=\r?\n/.test(bytes.toString('latin1'))) {
    return 'it is still encoded as quoted-printable, as a mail carries it';
  }
  if (bytes.includes('\r\n')) return 'its lines end in CRLF and not in LF';
  if (bytes.subarray(0, 3).equals(Buffer.of(0xef, 0xbb, 0xbf))) return 'a byte order mark stands before it';
  if (!bytes.subarray(0, 2).equals(Buffer.from('{\n'))) return 'something stands before its first line';
  const end = bytes.indexOf('\n}\n');
  if (end === -1) return 'it is cut off, its end is missing';
  return end + 3 < bytes.length ? 'something stands after its last line' : null;
}
