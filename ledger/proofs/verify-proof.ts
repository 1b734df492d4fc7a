import { encodeReceiptFile, type ReceiptFile } from '../../protocol/bundle.ts';
import { asSuperfleetError, EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { type Leadership, leadershipOf, signerAt } from '../../protocol/handover.ts';
import { peerId } from '../../protocol/ids.ts';
import { publicKeyFromPeerId, publicKeyToBase64 } from '../../protocol/keys.ts';
import type { ReceiptFacts } from '../../protocol/receipt-verdict.ts';
import { claimedStatement, statementDigest } from '../../protocol/statement.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import { type Checkpoint, parseCheckpoint, parseNote, verifyCheckpoint } from '../lines/checkpoint.ts';
import { verifyCosignature } from '../lines/cosignature.ts';
import type { Entry } from '../lines/entry.ts';
import { LineFault, parseLine } from '../lines/line.ts';
import { leafHash } from './merkle.ts';
import { type TreeHead, verifyConsistency, verifyInclusion } from './merkle-proof.ts';
import {
  type ConsistencyFile,
  decodePath,
  PROOF_FORMAT,
  type ProofFile,
  parseProofFile,
} from './proof-file.ts';
import { proofSentences } from './proof-sentences.ts';
import type { ProofFacts, ProofVerdict } from './proof-verdict.ts';

/** Entries that name the digest of a receipt, and what they say of it. */
export const RECEIPT_ENTRIES: readonly string[] = [
  'task.converged',
  'task.verified',
  'task.executed',
  'attempt.ended',
];

export interface VerifyProofOptions {
  /** Mesh id that the person trusts; null: none was given. */
  mesh: string | null;
  /** Text of the checkpoint that the person kept, which a consistency file is held against; null: none was given. */
  since: string | null;
}

/**
 * Checks a proof file of either format offline and without trusting anything in it: mesh id from the genesis line, log key
 * from the handovers, checkpoint by that key, path under its root, and a receipt that is proved by itself and is the one the entry
 * names. Pure, and never throws for what the file or the kept checkpoint holds.
 */
export function verifyProofFile(bytes: Uint8Array, options: VerifyProofOptions): ProofVerdict {
  let facts: ProofFacts;
  try {
    const file = parseProofFile(bytes);
    facts = file.format === PROOF_FORMAT ? entryFacts(file, options) : growthFacts(file, options);
  } catch (thrown) {
    const why = asSuperfleetError(thrown).message;
    const sentences = proofSentences(null, { standing: 'not-proved', why });
    return { proved: false, standing: 'not-proved', exitCode: EXIT.notProved, why, facts: null, sentences };
  }
  const proved = options.mesh !== null;
  const standing = proved ? 'proved' : 'signer-unknown';
  const why = proved ? null : 'no mesh id was given to check it against';
  const exitCode = proved ? EXIT.ok : EXIT.notProved;
  return { proved, standing, exitCode, why, facts, sentences: proofSentences(facts, { standing, why }) };
}

function entryFacts(file: ProofFile, { mesh, since }: VerifyProofOptions): ProofFacts {
  if (since !== null) {
    throw notProved('it proves an entry: a kept checkpoint is held against a file of `ledger prove --since`');
  }
  const { leadership, checkpoint, ...signed } = signedBy(file, mesh);
  verifyInclusion(leafHash(file.entry), file.index, headOf(checkpoint), decodePath(file.path));
  const entry = entryOf(file);
  const receipt = file.receipt === null ? null : receiptNamed(file.receipt, entry, file, leadership);
  return { ...signed, entry, receipt, since: null };
}

function growthFacts(file: ConsistencyFile, { mesh, since }: VerifyProofOptions): ProofFacts {
  const { leadership, checkpoint, ...signed } = signedBy(file, mesh);
  if (since === null) {
    throw notProved(
      `it shows how the log grew from ${file.since} entries: give the checkpoint you kept of it with --since`,
    );
  }
  const { size } = parseCheckpoint(since);
  if (size !== file.since) {
    throw notProved(
      `it begins at ${file.since} entries and the kept checkpoint is of ${size}: ask for \`ledger prove --since ${size}\``,
    );
  }
  const kept = signedCheckpoint(since, leadership);
  try {
    verifyConsistency(headOf(kept), headOf(checkpoint), decodePath(file.path));
  } catch (cause) {
    throw new SuperfleetError(
      'SF_NOT_PROVED',
      `this log did not grow out of the kept checkpoint: ${asSuperfleetError(cause).message}`,
      { cause },
    );
  }
  return { ...signed, entry: null, receipt: null, since: { size: kept.size, root: kept.root } };
}

/** What both files share: whose log it is, and which checkpoint of it they rest on. */
function signedBy(file: ProofFile | ConsistencyFile, mesh: string | null) {
  const leadership = leadershipOf(file.genesis, file.handovers);
  const { genesis } = leadership;
  if (mesh !== null && genesis.mesh !== mesh)
    throw notProved(`it is of mesh ${genesis.mesh}, not of ${mesh}`);
  const checkpoint = signedCheckpoint(file.checkpoint, leadership);
  const { size, root } = checkpoint;
  const epoch = 1 + leadership.handovers.filter(({ index }) => index < size).length;
  const witnesses = witnessesOf(file.checkpoint, genesis.mesh);
  return { leadership, checkpoint, mesh: genesis.mesh, meshName: genesis.name, epoch, size, root, witnesses };
}

function signedCheckpoint(text: string, leadership: Leadership): Checkpoint {
  const publicKey = publicKeyToBase64(signerAt(leadership, parseCheckpoint(text).size));
  return verifyCheckpoint(text, { origin: leadership.genesis.mesh, publicKey });
}

/**
 * Who cosigned. A witness is named by its peer id, which is its key; one line that does not hold, that nobody could check or that
 * stands there twice spoils the file, so that no byte of it can be changed.
 */
function witnessesOf(text: string, mesh: string): ProofFacts['witnesses'] {
  const names = parseNote(text).signatures.map(({ name }) => name);
  if (new Set(names).size !== names.length) throw notProved('the checkpoint is signed twice under one name');
  return names
    .filter((name) => name !== mesh)
    .map((name) => {
      if (!peerId.safeParse(name).success) throw notProved(`the witness ${name.slice(0, 64)} is no peer id`);
      const publicKey = publicKeyToBase64(publicKeyFromPeerId(name));
      return { id: name, time: verifyCosignature(text, { name, publicKey }).time };
    });
}

function entryOf(file: ProofFile): Entry {
  try {
    const line = parseLine(Buffer.from(file.entry));
    if (line.kind !== 'entry') throw notProved('the line is a checkpoint and no entry');
    if (line.entry.index === file.index) return line.entry;
    throw notProved(`it names entry ${file.index} and carries entry ${line.entry.index}`);
  } catch (error) {
    throw error instanceof LineFault ? notProved(`the entry is not of its form: ${error.message}`) : error;
  }
}

/** The receipt of the file, proved by itself, and the one that the entry names. */
function receiptNamed(
  receipt: ReceiptFile,
  entry: Entry,
  file: ProofFile,
  { genesis }: Leadership,
): ReceiptFacts {
  if (!RECEIPT_ENTRIES.includes(entry.type))
    throw notProved(`an entry of type ${entry.type} names no receipt`);
  const same =
    receipt.genesis === file.genesis && JSON.stringify(receipt.handovers) === JSON.stringify(file.handovers);
  if (!same) throw notProved('the receipt is proved by other lines of the log than the entry');
  const { facts, why } = verifyReceiptFile(encodeReceiptFile(receipt), { mesh: genesis.mesh });
  if (facts === null) throw notProved(`the receipt in it does not hold: ${why}`);
  const body = entry.body as { task: string; receipt: string | null; verification?: string | null };
  if (body.task !== facts.receipt.task) throw notProved('the entry is about another task than the receipt');
  if (body.receipt !== facts.digest) throw notProved('the entry names another receipt');
  const named = body.verification ?? null;
  const verification =
    receipt.verification === null ? null : statementDigest(claimedStatement(receipt.verification));
  if (named !== null && named !== verification) throw notProved('the entry names another verification');
  return facts;
}

const headOf = ({ size, root }: Checkpoint): TreeHead => ({ size, root: Buffer.from(root, 'hex') });
const notProved = (message: string): SuperfleetError => new SuperfleetError('SF_NOT_PROVED', message);
