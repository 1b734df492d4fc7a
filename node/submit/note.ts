import { readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { parseReceiptFile, receiptFileBytesMax } from '../../protocol/bundle.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { parseReceipt } from '../../protocol/receipt.ts';
import {
  notePaths,
  RECEIPT_NOTES_REF,
  receiptNoteBytesMax,
  withReceiptFile,
} from '../../protocol/receipt-note.ts';
import { claimedStatement } from '../../protocol/statement.ts';
import { GitFailed, gitWith } from './git.ts';
import type { Work } from './place.ts';
import type { Given } from './quarantine.ts';
import type { Repository } from './repository.ts';
import { TemporaryFolder } from './temporary.ts';

/** Whoever loses a race writes again; each loss is somebody else's note that is in. */
const triesMax = 64;
const AUTHOR = 'superfleet <receipts@superfleet.invalid> now';

/**
 * Fetches the receipt file of a placed result and writes it as a note on its commit. Answers whether the notes changed.
 * Work tree, index and every other ref stay as they are, and the user's notes settings take no part.
 */
export async function attachReceipt(repository: Repository, given: Given, work: Work): Promise<boolean> {
  const tooLarge = (): SuperfleetError =>
    new SuperfleetError('SF_NOT_PROVED', 'a receipt of this size is none');
  const source = work.client.bytes(`/v1/tasks/${given.task}/receipt`, work.signal);
  const file = await collectBytes(source, receiptFileBytesMax, tooLarge);
  const { commit } = parseReceipt(claimedStatement(parseReceiptFile(file).receipt));
  if (commit !== given.commit) {
    throw new SuperfleetError('SF_NOT_PROVED', 'the receipt is of another commit', {
      expected: given.commit,
      got: commit,
    });
  }
  return writeReceiptNote(repository, given.commit, file, work);
}

/**
 * Puts a receipt file into the commit's note under `refs/notes/superfleet`, beside what is there. The ref moves only from
 * the notes that were read: where somebody wrote meanwhile theirs are read and this begins again.
 */
export async function writeReceiptNote(
  repository: Repository,
  commit: string,
  file: Uint8Array,
  work: Pick<Work, 'env' | 'signal'>,
): Promise<boolean> {
  using folder = new TemporaryFolder();
  for (let attempt = 1; ; attempt += 1) {
    const before = await notesCommit(repository);
    const old = before === null ? NONE : await noteAt(repository, before, commit, folder, work);
    const note = withReceiptFile(old.bytes, file);
    if (note === null) return false;
    try {
      await write(repository, { before, commit, note, paths: old.paths }, folder, work);
      return true;
    } catch (thrown) {
      if (!(thrown instanceof GitFailed)) throw thrown;
      const moved =
        (await notesCommit(repository)) !== before || /Unable to create .*\.lock/.test(thrown.stderr);
      if (attempt < (moved ? triesMax : 3)) continue;
      throw new SuperfleetError('SF_REPOSITORY', `git could not write to ${RECEIPT_NOTES_REF}`, {
        expected: 'a repository whose notes can be written to',
        got: thrown.message,
        hint: 'receipt show writes the receipt into a file',
        cause: thrown,
      });
    }
  }
}

async function notesCommit({ git }: Repository): Promise<string | null> {
  try {
    return (await git(['rev-parse', '--verify', '--quiet', `${RECEIPT_NOTES_REF}^{commit}`])).trim();
  } catch (thrown) {
    if (thrown instanceof GitFailed) return null;
    throw thrown;
  }
}

interface Note {
  bytes: Uint8Array;
  /** Where it lies in the tree. */
  paths: string[];
}
const NONE: Note = { bytes: Buffer.alloc(0), paths: [] };

/** The note on a commit; where it lies in several places they are put one behind the other, as git shows them. */
async function noteAt(
  repository: Repository,
  notes: string,
  commit: string,
  folder: TemporaryFolder,
  { env, signal }: Pick<Work, 'env' | 'signal'>,
): Promise<Note> {
  const listed = await repository.git([
    'ls-tree',
    '-z',
    '-l',
    '--full-tree',
    notes,
    '--',
    ...notePaths(commit),
  ]);
  const parts: Buffer[] = [];
  const paths: string[] = [];
  for (const line of listed.split('\0')) {
    const [, blob = '', bytes = '', path = ''] = /^\d+ blob ([0-9a-f]+) +(\d+)\t(.*)$/.exec(line) ?? [];
    if (blob === '') continue;
    if (Number(bytes) > receiptNoteBytesMax) {
      throw new SuperfleetError('SF_FULL', 'the commit’s note is larger than receipts are', {
        expected: `at most ${receiptNoteBytesMax} bytes`,
        got: bytes,
        hint: 'receipt show writes the receipt into a file',
      });
    }
    paths.push(path);
    const copy = join(folder.path, 'note');
    const target = await open(copy, 'w', 0o600);
    try {
      await gitWith(
        { stdin: '', stdout: target.fd },
        repository.folder,
        ['cat-file', 'blob', blob],
        env,
        signal,
      );
    } finally {
      await target.close();
    }
    if (parts.length > 0) parts.push(Buffer.from('\n'));
    parts.push(readFileSync(copy));
  }
  return { bytes: Buffer.concat(parts), paths };
}

/** One fast-import: blob, tree in git's own layout, commit, and the ref only if it is still a child of `before`. */
async function write(
  repository: Repository,
  {
    before,
    commit,
    note,
    paths,
  }: { before: string | null; commit: string; note: Uint8Array; paths: string[] },
  folder: TemporaryFolder,
  { env, signal }: Pick<Work, 'env' | 'signal'>,
): Promise<void> {
  const words = `Receipt of ${commit}\n`;
  const head = [
    `commit ${RECEIPT_NOTES_REF}`,
    `committer ${AUTHOR}`,
    `data ${Buffer.byteLength(words)}`,
    words + (before === null ? '' : `from ${before}`),
    ...paths.map((path) => `D ${path}`),
    `N inline ${commit}`,
    `data ${note.length}`,
  ].filter((line) => line !== '');
  const path = join(folder.path, 'import');
  writeFileSync(path, Buffer.concat([Buffer.from(`${head.join('\n')}\n`), note, Buffer.from('\n')]), {
    mode: 0o600,
  });
  const file = await open(path, 'r');
  try {
    const args = ['fast-import', '--quiet', '--date-format=now'];
    await gitWith({ stdin: file.fd, stdout: null }, repository.folder, args, env, signal);
  } finally {
    await file.close();
  }
}
