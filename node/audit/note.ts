import { SuperfleetError } from '../../protocol/errors.ts';
import {
  notePaths,
  RECEIPT_NOTES_REF,
  receiptFilesIn,
  receiptNoteBytesMax,
} from '../../protocol/receipt-note.ts';
import type { Mirror } from './mirror.ts';

/**
 * The receipt files in the note of a commit; where none can be told apart in it, the note as it is. `SF_NOT_FOUND` where
 * there is no note or no such commit.
 */
export async function noteFiles(mirror: Mirror, revision: string, path: string): Promise<Uint8Array[]> {
  const commit = await mirror.commit(revision);
  if (commit === null) {
    throw new SuperfleetError('SF_NOT_FOUND', `${path} has no commit named ${revision}`, {
      expected: 'a commit, branch or tag that exists there',
      got: revision,
      hint: 'git branch --all, git tag',
    });
  }
  const notes = await mirror.commit(RECEIPT_NOTES_REF);
  const hint = `git fetch origin ${RECEIPT_NOTES_REF}:${RECEIPT_NOTES_REF}   brings the notes, where they were pushed`;
  const none = (got: string): SuperfleetError =>
    new SuperfleetError('SF_NOT_FOUND', `no receipt stands in a note on commit ${commit}`, {
      expected: `a note under ${RECEIPT_NOTES_REF}`,
      got,
      hint,
    });
  if (notes === null) throw none(`no ${RECEIPT_NOTES_REF}`);
  const listed = await mirror.text(['ls-tree', '-l', '--full-tree', notes, '--', ...notePaths(commit)]);
  const blobs = [...listed.matchAll(/^\d+ blob ([0-9a-f]+) +(\d+)\t/gm)];
  if (blobs.length === 0) throw none('notes on other commits');
  const files: Uint8Array[] = [];
  for (const [, blob = '', bytes = ''] of blobs) {
    if (Number(bytes) > receiptNoteBytesMax) throw none(`a note of ${bytes} bytes`);
    const note = await mirror.bytes(['cat-file', 'blob', blob]);
    const found = receiptFilesIn(note);
    files.push(...(found.length === 0 ? [note] : found));
  }
  return files;
}
