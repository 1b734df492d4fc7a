import { z } from 'zod';
import { encodeFile, type FileForm, handoversMax, parseFile, receiptFile } from '../../protocol/bundle.ts';
import { parseJson } from '../../protocol/dsse.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { count } from '../../protocol/ids.ts';
import { entryLineBytesMax } from '../../protocol/limits.ts';
import { checkpointBytesMax, parseCheckpoint } from '../lines/checkpoint.ts';

/**
 * Proof files: everything a stranger needs besides the mesh id, and for consistency the checkpoint he kept. Each has one
 * spelling, as receipt files have.
 */
export const PROOF_FORMAT = 'superfleet-proof/1';
export const CONSISTENCY_FORMAT = 'superfleet-consistency/1';
/** A receipt file (512 KiB), three sorts of log lines, path and checkpoint: far below it in practice. */
export const proofFileBytesMax = 2 * 1024 * 1024;
/** A path has a hash a level, and one more: sizes are below 2^53. */
const pathHashesMax = 54;

const line = z.string().max(entryLineBytesMax);
/** 32 bytes in base64. */
const hash = z.base64().length(44);
/** What says that a checkpoint is the mesh's. */
const signed = {
  checkpoint: z.string().max(checkpointBytesMax),
  genesis: line,
  handovers: z.array(line).max(handoversMax),
};

/** That one entry is in the log. */
const proofFile = z.strictObject({
  format: z.literal(PROOF_FORMAT),
  /** The receipt that the entry names, as its own file has it; null where the proof is of the bare entry. */
  receipt: receiptFile.nullable(),
  index: count,
  /** The line as it stands in the log, without its newline. */
  entry: line,
  /** RFC 6962 inclusion path under the checkpoint, lowest first. */
  path: z.array(hash).max(pathHashesMax),
  ...signed,
});
export type ProofFile = z.infer<typeof proofFile>;

/** That the log at the checkpoint grew out of the log of `since` entries. */
const consistencyFile = z.strictObject({
  format: z.literal(CONSISTENCY_FORMAT),
  since: count.min(1),
  /** RFC 6962 consistency path, lowest first. */
  path: z.array(hash).max(pathHashesMax),
  ...signed,
});
export type ConsistencyFile = z.infer<typeof consistencyFile>;

const form: FileForm<ProofFile | ConsistencyFile> = {
  schema: z.discriminatedUnion('format', [proofFile, consistencyFile]),
  bytesMax: proofFileBytesMax,
  what: 'the proof file',
  marker: '"superfleet-',
  writtenBy: 'ledger prove',
};

export const encodeProofFile = (file: ProofFile | ConsistencyFile): Uint8Array => encodeFile(form, file);

/** The file's parts, nothing of them verified. `SF_NOT_PROVED` where a byte is not as `encodeProofFile` writes it. */
export const parseProofFile = (bytes: Uint8Array): ProofFile | ConsistencyFile => parseFile(form, bytes);

export const encodePath = (path: readonly Uint8Array[]): string[] =>
  path.map((step) => Buffer.from(step).toString('base64'));

/** Hashes of a path. `SF_NOT_PROVED` for a second spelling of one. */
export function decodePath(path: readonly string[]): Buffer[] {
  return path.map((text) => {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.toString('base64') === text) return bytes;
    throw new SuperfleetError('SF_NOT_PROVED', 'a hash of the path is not base64', { got: text });
  });
}

const carrier = z.looseObject({ checkpoint: z.string().max(checkpointBytesMax) });

/**
 * The text of a checkpoint that somebody kept: the note itself, or a file with it under `checkpoint`, as proof files and
 * the log's own lines have it. No signature is checked. `SF_NOT_PROVED` where there is none.
 */
export function keptCheckpoint(bytes: Uint8Array): string {
  const begins = bytes.find((byte) => byte > 0x20);
  if (begins === 0x7b) return parseJson(bytes, carrier, proofFileBytesMax, 'the kept file').checkpoint;
  return parseCheckpoint(Buffer.from(bytes).toString()).text;
}
