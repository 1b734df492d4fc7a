import type { IndexStore } from '../../ledger/index/index-store.ts';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { Log } from '../../ledger/log/log.ts';
import {
  CONSISTENCY_FORMAT,
  encodePath,
  encodeProofFile,
  PROOF_FORMAT,
} from '../../ledger/proofs/proof-file.ts';
import type { LogProofs } from '../../ledger/proofs/proofs.ts';
import { RECEIPT_ENTRIES } from '../../ledger/proofs/verify-proof.ts';
import { parseReceiptFile, type ReceiptFile } from '../../protocol/bundle.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { Leadership } from '../../protocol/handover.ts';
import { claimedStatement, statementDigest } from '../../protocol/statement.ts';
import type { HubPort } from '../api/port.ts';

export interface ProveParts {
  proofs: LogProofs;
  /** A checkpoint with the cosignatures of the replicas that have this one. */
  cosigned(text: string): string;
  log: Pick<Log, 'read'>;
  index: Pick<IndexStore, 'history'>;
  /** Entry 0 as it stands in the log. */
  genesisLine: string;
  /** The receipt file of a task; `SF_CONFLICT` where it has none. */
  receiptFile(task: string): Promise<Uint8Array>;
}

/** The bytes of a proof file, as `HubPort.ledger.prove` promises them. */
export async function proofFile(
  parts: ProveParts,
  of: Parameters<HubPort['ledger']['prove']>[0],
): Promise<Uint8Array> {
  const { proofs, genesisLine } = parts;
  if ('since' in of) {
    const { path, checkpoint, leadership } = await proofs.consistency(of.since);
    return encodeProofFile({
      format: CONSISTENCY_FORMAT,
      since: of.since,
      path: encodePath(path),
      checkpoint: parts.cosigned(checkpoint.text),
      genesis: genesisLine,
      handovers: handoversOf(leadership),
    });
  }
  const { index, receipt } =
    'index' in of ? { index: of.index, receipt: null } : await ofTask(parts, of.task);
  const { line, path, checkpoint, leadership } = await proofs.inclusion(index);
  return encodeProofFile({
    format: PROOF_FORMAT,
    receipt,
    index,
    entry: line,
    path: encodePath(path),
    checkpoint: parts.cosigned(checkpoint.text),
    genesis: genesisLine,
    // The receipt's are those its certificates are proved by: one set of lines speaks for the whole file.
    handovers: receipt?.handovers ?? handoversOf(leadership),
  });
}

/**
 * The newest entry that names the receipt of the task: the convergence record once it has ended, which names the
 * verification too. Of a task without a receipt its convergence record.
 */
async function ofTask(
  { log, index, receiptFile }: ProveParts,
  task: string,
): Promise<{ index: number; receipt: ReceiptFile | null }> {
  const receipt = await receiptFile(task).then(parseReceiptFile, (error: unknown) => {
    if (asSuperfleetError(error).code === 'SF_CONFLICT') return null;
    throw error;
  });
  const digest = receipt === null ? null : statementDigest(claimedStatement(receipt.receipt));
  for (const at of (await index.history(task)).reverse()) {
    const [entry] = await log.read(at, 1);
    if (entry !== undefined && proves(entry, digest)) return { index: at, receipt };
  }
  throw new SuperfleetError('SF_CONFLICT', `the log has nothing to prove of task ${task} yet`, {
    expected: 'a task that was executed or has ended',
    got: 'a task without a receipt that has not ended',
    hint: `mesh-hub task describe ${task}`,
  });
}

const proves = ({ type, body }: Entry, digest: string | null): boolean =>
  digest === null
    ? type === 'task.converged'
    : RECEIPT_ENTRIES.includes(type) && (body as { receipt?: unknown }).receipt === digest;

const handoversOf = ({ handovers }: Leadership): string[] => handovers.map(({ line }) => line);
