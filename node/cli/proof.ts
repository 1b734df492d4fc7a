import { resolve } from 'node:path';
import { parseCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { keptCheckpoint, proofFileBytesMax } from '../../ledger/proofs/proof-file.ts';
import type { ProofVerdict } from '../../ledger/proofs/proof-verdict.ts';
import { verifyProofFile } from '../../ledger/proofs/verify-proof.ts';
import { EXIT } from '../../protocol/errors.ts';
import { readBounded } from './bounded-file.ts';
import { writeOutput } from './output.ts';
import type { ProofCommand } from './proof-grammar.ts';
import type { Session } from './session.ts';

type Prove = Extract<ProofCommand, { verb: 'ledger prove' }>;
type Verify = Extract<ProofCommand, { verb: 'proof verify' }>;

/** `ledger prove`: the founder's proof, to stdout or into a file. */
export async function prove(command: Prove, session: Session): Promise<number> {
  const { of } = command;
  const path =
    'task' in of
      ? `/v1/tasks/${of.task}/proof`
      : 'index' in of
        ? `/v1/ledger/proof?index=${of.index}`
        : `/v1/ledger/proof?since=${await sizeOf(of.since, session)}`;
  const bytes: Uint8Array[] = [];
  for await (const chunk of session.client().bytes(path, session.terminal.signal)) bytes.push(chunk);
  await writeOutput(session, bytes, command.output);
  return EXIT.ok;
}

/** `proof verify`: offline, the sentences on stdout, exit 0 or 5. */
export async function verifyProof(command: Verify, session: Session): Promise<number> {
  const { voice, terminal } = session;
  const bytes = await readBounded(resolve(terminal.cwd, command.file), {
    what: 'the proof file',
    bytesMax: proofFileBytesMax,
    expected: 'a file written by "ledger prove"',
    hint: 'mesh-hub ledger prove ID --output FILE writes one',
  });
  const since = command.since === null ? null : await kept(command.since, session);
  const verdict = verifyProofFile(bytes, { mesh: command.mesh, since });
  if (voice.json) voice.document(documentOf(verdict));
  else voice.out(verdict.sentences.join('\n'));
  return verdict.exitCode;
}

/** The size that `--since` means: a number, or that of the checkpoint in a file. */
async function sizeOf(since: string, session: Session): Promise<number> {
  if (/^[1-9]\d{0,15}$/.test(since)) return Number(since);
  return parseCheckpoint(await kept(since, session)).size;
}

async function kept(since: string, { terminal }: Session): Promise<string> {
  const bytes = await readBounded(resolve(terminal.cwd, since), {
    what: 'the kept checkpoint',
    bytesMax: proofFileBytesMax,
    expected: 'a checkpoint, or a file written by "ledger prove"',
    hint: 'an older proof file holds one, and so does the file `checkpoint` in the data folder of a member',
  });
  return keptCheckpoint(bytes);
}

function documentOf({ proved, standing, why, facts, sentences }: ProofVerdict) {
  const receipt = facts?.receipt ?? null;
  return {
    proved,
    standing,
    why,
    mesh: facts?.mesh ?? null,
    epoch: facts?.epoch ?? null,
    size: facts?.size ?? null,
    root: facts?.root ?? null,
    since: facts?.since ?? null,
    witnesses: facts?.witnesses ?? [],
    entry: facts?.entry ?? null,
    task: receipt?.receipt.task ?? null,
    receipt: receipt?.digest ?? null,
    executor: receipt?.executor ?? null,
    verifier: receipt?.verifier ?? null,
    sameOwner: receipt?.sameOwner ?? null,
    sentences,
  };
}
