import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Equivocation } from '../../ledger/proofs/witness.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshId } from '../../protocol/ids.ts';
import { readTextOrNull, writeFileAtomic } from '../atomic-file.ts';

const note = z.string().max(4096);
const file = z.strictObject({
  format: z.literal('superfleet-equivocation/1'),
  mesh: meshId,
  checkpoints: z.tuple([note, note]),
});

/** Where a data folder keeps the proof that two histories of its mesh are signed; while it is there the log is frozen. */
export const proofFile = (root: string): string => join(root, 'equivocation.json');

/** Keeps the proof, synced; answers with its path. */
export async function keepProof(root: string, { mesh, checkpoints }: Equivocation): Promise<string> {
  const path = proofFile(root);
  const text = JSON.stringify({ format: 'superfleet-equivocation/1', mesh, checkpoints }, null, 2);
  await writeFileAtomic(path, `${text}\n`);
  return path;
}

/** The proof that is kept; null where the log is not frozen. `SF_FOLDER` where the file is something else. */
export async function keptProof(root: string): Promise<Equivocation | null> {
  const path = proofFile(root);
  const text = await readTextOrNull(path);
  if (text === null) return null;
  try {
    const { mesh, checkpoints } = file.parse(JSON.parse(text));
    return { mesh, checkpoints };
  } catch (cause) {
    throw new SuperfleetError('SF_FOLDER', `${path} cannot be read as the proof that it was written as`, {
      cause,
    });
  }
}

/** The operator has opened a new epoch: the proof stays beside, and the log goes on. */
export async function setProofAside(root: string, epoch: number): Promise<void> {
  await rename(proofFile(root), join(root, `equivocation-before-epoch-${epoch}.json`)).catch(
    (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause;
    },
  );
}
