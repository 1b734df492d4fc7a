import { EXIT } from '../../protocol/errors.ts';
import { escapeLine } from '../../protocol/escape.ts';
import type { ReceiptVerdict } from '../../protocol/receipt-verdict.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import { readForeignRepository } from './foreign-repository.ts';
import { matchRepository, type RepositoryMatch } from './match.ts';
import { GitRefused, Mirror } from './mirror.ts';
import { noteFiles } from './note.ts';

/** A repository an auditor was given. Nothing of it is executed, and it is only read. */
export interface Place {
  path: string;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
}

/** The receipt files in the note on a commit. `SF_NOT_FOUND` where there is none. */
export async function receiptsOf({ path, env, signal }: Place, revision: string): Promise<Uint8Array[]> {
  using mirror = new Mirror(readForeignRepository(path), env.PATH, signal);
  return await noteFiles(mirror, revision, path);
}

/**
 * `verifyReceiptFile`, and then whether the repository has the commit the receipt is about; `revision`: a commit that must
 * be that one. What does not hold in either makes it not proved.
 */
export async function checkAgainst(
  { path, env, signal }: Place,
  bytes: Uint8Array,
  { mesh, revision }: { mesh: string | null; revision: string | null },
): Promise<{ verdict: ReceiptVerdict; match: RepositoryMatch | null }> {
  const repository = readForeignRepository(path);
  const verdict = verifyReceiptFile(bytes, { mesh });
  if (verdict.facts === null) return { verdict, match: null };
  const { commit } = verdict.facts.receipt;
  // An empty set of refs does not tell which ids the objects have; the receipt does.
  const objectFormat = repository.refs.size > 0 || commit?.length !== 64 ? repository.objectFormat : 'sha256';
  using mirror = new Mirror({ ...repository, objectFormat }, env.PATH, signal);
  try {
    const match = await matchRepository(verdict.facts.receipt, repository, mirror, revision);
    return { verdict: joined(verdict, match.sentences, match.why), match };
  } catch (thrown) {
    if (!(thrown instanceof GitRefused)) throw thrown;
    return { verdict: joined(verdict, [], `git cannot read ${path}: ${thrown.message}`), match: null };
  }
}

function joined(verdict: ReceiptVerdict, said: readonly string[], why: string | null): ReceiptVerdict {
  const facts = verdict.sentences.slice(0, -1);
  const last = verdict.sentences.slice(-1);
  if (why === null) return { ...verdict, sentences: [...facts, ...said.map(escapeLine), ...last] };
  return {
    ...verdict,
    proved: false,
    standing: 'not-proved',
    exitCode: EXIT.notProved,
    why,
    sentences: [...facts, ...[...said, `not proved: ${why}`].map(escapeLine)],
  };
}
