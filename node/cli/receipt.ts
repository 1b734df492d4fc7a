import { resolve } from 'node:path';
import { receiptFileBytesMax } from '../../protocol/bundle.ts';
import type { ReceiptVerdict } from '../../protocol/receipt-verdict.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import type { RepositoryMatch } from '../audit/match.ts';
import { readBounded } from './bounded-file.ts';
import type { Session } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';

type Verify = Extract<TaskCommand, { verb: 'receipt verify' }>;

/** One receipt as it was checked, and what the repository says to it. */
interface Checked {
  verdict: ReceiptVerdict;
  match: RepositoryMatch | null;
}

/**
 * `receipt verify`: offline, the sentences on stdout, exit 0 or 5. Of several receipts in one note the best is told last
 * and decides.
 */
export async function verifyReceipt(command: Verify, session: Session): Promise<number> {
  const { voice, terminal } = session;
  const { file, mesh, repo, commit } = command;
  const checked: Checked[] = [];
  if (repo === null) {
    const bytes = await read(resolve(terminal.cwd, file ?? ''));
    checked.push({ verdict: verifyReceiptFile(bytes, { mesh }), match: null });
  } else {
    const { checkAgainst, receiptsOf } = await import('../audit/audit.ts');
    const place = { path: resolve(terminal.cwd, repo), env: terminal.env, signal: terminal.signal };
    const files = file === null ? null : [await read(resolve(terminal.cwd, file))];
    // Of a note the receipt is on that very commit; of a file a person may ask about any.
    const asked = file === null ? (commit ?? 'HEAD') : commit;
    for (const bytes of files ?? (await receiptsOf(place, asked ?? 'HEAD'))) {
      checked.push(await checkAgainst(place, bytes, { mesh, revision: asked }));
    }
  }
  checked.sort((one, other) => rank(one) - rank(other));
  const last = checked.at(-1) as Checked;
  if (!voice.json) {
    const texts = checked.map(({ verdict }) => verdict.sentences.join('\n'));
    voice.out(texts.join('\n\n'));
  } else {
    const others = checked.slice(0, -1).map(documentOf);
    voice.document({ ...documentOf(last), ...(repo === null ? {} : { others }) });
  }
  return last.verdict.exitCode;
}

const rank = ({ verdict: { standing, facts } }: Checked): number =>
  ['not-proved', 'signer-unknown', 'proved'].indexOf(standing) * 2 + (facts?.verification?.passed ? 1 : 0);

function documentOf({ verdict, match }: Checked) {
  const { proved, standing, why, sameOwner, sentences, facts } = verdict;
  return {
    proved,
    standing,
    why,
    mesh: facts?.mesh ?? null,
    task: facts?.receipt.task ?? null,
    receipt: facts?.digest ?? null,
    executor: facts?.executor ?? null,
    verifier: facts?.verifier ?? null,
    sameOwner,
    repository: match === null ? null : withoutSentences(match),
    sentences,
  };
}

function withoutSentences({ sentences: _sentences, why: _why, ...facts }: RepositoryMatch) {
  return facts;
}

const read = (path: string): Promise<Uint8Array> =>
  readBounded(path, {
    what: 'the receipt file',
    bytesMax: receiptFileBytesMax,
    expected: 'a file written by "receipt show"',
    hint: 'mesh-hub receipt show ID --output FILE writes one',
  });
