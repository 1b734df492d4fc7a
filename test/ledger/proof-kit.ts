import { Log } from '../../ledger/log/log.ts';
import {
  CONSISTENCY_FORMAT,
  encodePath,
  encodeProofFile,
  PROOF_FORMAT,
} from '../../ledger/proofs/proof-file.ts';
import { LogProofs } from '../../ledger/proofs/proofs.ts';
import { MemoryTileStore } from '../../ledger/proofs/tile-store.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import type { ReceiptFile } from '../../protocol/bundle.ts';
import { statementDigest } from '../../protocol/statement.ts';
import { buildVerification } from '../../protocol/verification.ts';
import { genesis, keys, receipt, verification } from '../protocol/samples.ts';
import { started } from './kit.ts';

export const TIME = 1_760_000_000_000;

/** A log of the sample mesh, so that the sample receipt is one of its own, and its proofs. */
export async function sampleLog(): Promise<{ log: Log; proofs: LogProofs; close(): Promise<void> }> {
  const body = JSON.parse(genesis).body;
  const log = await Log.create({ storage: new MemoryStorage(), genesis: body, key: keys.log, time: TIME });
  const onWarning = (message: string, error: unknown): void => {
    throw new Error(message, { cause: error });
  };
  const proofs = new LogProofs(log, { store: new MemoryTileStore(), onWarning });
  return {
    log,
    proofs,
    close: async () => {
      await proofs.close();
      await log.close();
    },
  };
}

/** Appends so many small entries, in batches of a few. */
export async function fill(log: Log, entries: number): Promise<void> {
  for (let n = 0; n < entries; n += 3) {
    const events = Array.from({ length: Math.min(3, entries - n) }, (_, at) => started(log.next + at));
    await log.append(events, TIME + log.next, log.epoch).durable;
  }
}

const digest = verification.receipt;
const { task, attempt, commit } = receipt;
const blob = 'e'.repeat(64);

/** The entries of the sample task's end: executed, verified, converged. Answers their indexes. */
export async function finish(log: Log): Promise<{ executed: number; verified: number; converged: number }> {
  const verificationDigest = statementDigest(buildVerification(verification));
  const appended = log.append(
    [
      {
        type: 'task.executed',
        body: {
          task,
          attempt,
          correlation: 'c1',
          exitCode: 0,
          commit,
          receipt: digest,
          envelope: blob,
          bundle: null,
          log: null,
          artifacts: [],
          checksChanged: [],
        },
      },
      {
        type: 'task.verified',
        body: {
          task,
          attempt: verification.verifierAttempt,
          correlation: 'c1',
          receipt: digest,
          verification: verificationDigest,
          envelope: blob,
          passed: true,
          sameOwner: false,
          detail: null,
        },
      },
      {
        type: 'task.converged',
        body: {
          task,
          correlation: 'c1',
          state: 'delivered',
          reason: null,
          detail: null,
          verified: true,
          confidence: 0.9,
          executor: keys.executor.peer,
          verifier: keys.verifier.peer,
          sameOwner: false,
          attempts: 1,
          commit,
          exitCode: 0,
          receipt: digest,
          verification: verificationDigest,
          learned: { queuedMs: null, runMs: null, faults: [] },
        },
      },
    ],
    TIME + log.next,
    log.epoch,
  );
  await appended.durable;
  return { executed: appended.first, verified: appended.first + 1, converged: appended.last };
}

/** The proof file of one entry, as the founder makes it. */
export async function entryProof(
  { log, proofs }: { log: Log; proofs: LogProofs },
  index: number,
  file: ReceiptFile | null = null,
): Promise<Uint8Array> {
  const { line, path, checkpoint } = await proofs.inclusion(index);
  return encodeProofFile({
    format: PROOF_FORMAT,
    receipt: file,
    index,
    entry: line,
    path: encodePath(path),
    checkpoint: checkpoint.text,
    genesis,
    handovers: log.leadership.handovers.map((handover) => handover.line),
  });
}

/** The proof file that the log grew out of `since` entries. */
export async function growthProof(
  { log, proofs }: { log: Log; proofs: LogProofs },
  since: number,
): Promise<Uint8Array> {
  const { path, checkpoint } = await proofs.consistency(since);
  return encodeProofFile({
    format: CONSISTENCY_FORMAT,
    since,
    path: encodePath(path),
    checkpoint: checkpoint.text,
    genesis,
    handovers: log.leadership.handovers.map((handover) => handover.line),
  });
}
