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
const handoversMax = 64;

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

/** The file's one spelling: indented by two, every field on a line of its own, so that line tools can take it apart. */
export const encodeReceiptFile = (file: ReceiptFile): Uint8Array =>
  Buffer.from(`${JSON.stringify(receiptFile.parse(file), null, 2)}\n`);

/** The file's parts, nothing of them verified. `SF_NOT_PROVED` where a byte is not as `encodeReceiptFile` writes it. */
export function parseReceiptFile(bytes: Uint8Array): ReceiptFile {
  const file = parseJson(bytes, receiptFile, receiptFileBytesMax, 'the receipt file');
  if (Buffer.from(encodeReceiptFile(file)).equals(bytes)) return file;
  throw new SuperfleetError('SF_NOT_PROVED', 'the receipt file is not spelled as this program writes it', {
    expected: 'the bytes as they came from `receipt show`',
    hint: 'get the file again; an editor or a transfer may have changed it',
  });
}
