import { createHash } from 'node:crypto';
import { SuperfleetError } from '../../protocol/errors.ts';
import {
  notePaths,
  RECEIPT_NOTES_REF,
  receiptFilesIn,
  receiptNoteBytesMax,
} from '../../protocol/receipt-note.ts';
import type { Mirror } from './mirror.ts';

/** Each receipt has every file of its commit hashed again. A commit has one for each task that made it. */
export const noteReceiptsMax = 32;

/**
 * The receipt files in the note of a commit, each once; where none can be told apart in it, the note as it is. `SF_NOT_FOUND` where
 * there is no note or no such commit, `SF_NOT_PROVED` past `noteReceiptsMax`.
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
  const files = new Map<string, Uint8Array>();
  for (const [, blob = '', bytes = ''] of blobs) {
    if (Number(bytes) > receiptNoteBytesMax) throw none(`a note of ${bytes} bytes`);
    const note = await mirror.bytes(['cat-file', 'blob', blob]);
    const found = receiptFilesIn(note);
    for (const file of found.length === 0 ? [note] : found) {
      files.set(createHash('sha256').update(file).digest('hex'), file);
      if (files.size > noteReceiptsMax) throw crowded(commit);
    }
  }
  return [...files.values()];
}

const crowded = (commit: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `the note on commit ${commit} holds more receipts than are checked`, {
    expected: `at most ${noteReceiptsMax}`,
    got: 'more',
    hint: 'receipt verify FILE --repo PATH checks the one in a file',
  });
