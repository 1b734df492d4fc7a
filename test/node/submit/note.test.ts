import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeReceiptNote } from '../../../node/submit/note.ts';
import { openRepository } from '../../../node/submit/repository.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { buildReceipt } from '../../../protocol/receipt.ts';
import { receiptFilesIn, receiptNoteBytesMax } from '../../../protocol/receipt-note.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { fileBytes, keys, receipt } from '../../protocol/samples.ts';
import { Sandbox } from './repositories.ts';

const REF = 'refs/notes/superfleet';
/** A receipt file of this task about this commit, signed by its executor alone. */
const about = (commit: string, task = 'abcdefghijkl'): Buffer =>
  Buffer.from(
    fileBytes({
      receipt: signStatement(buildReceipt({ ...receipt, task, commit }), keys.executor),
      verification: null,
    }),
  );

/** The note's bytes as git shows them. */
const shown = (box: Sandbox, folder: string, commit: string): string =>
  `${box.git(folder, 'notes', '--ref', 'superfleet', 'show', commit)}\n`;
const write = async (box: Sandbox, folder: string, commit: string, file: Uint8Array): Promise<boolean> =>
  writeReceiptNote(await box.open(folder), commit, file, { env: box.env });

test('the note is the receipt file, byte for byte; work tree, index and every other ref stay', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.write('r', 'a.txt', 'work in progress\n');
  box.write('r', 'staged.txt', 'staged\n');
  box.git('r', 'add', 'staged.txt');
  const [refs, status] = [box.git('r', 'for-each-ref'), box.git('r', 'status', '--porcelain')];
  const index = readFileSync(join(box.path, 'r/.git/index'));
  assert.is(await write(box, 'r', commit, about(commit)), true);
  assert.is(shown(box, 'r', commit), about(commit).toString());
  assert.is(
    box.git('r', 'cat-file', '-s', box.git('r', 'notes', '--ref', 'superfleet', 'list', commit)),
    `${about(commit).length}`,
  );
  assert.is(
    box
      .git('r', 'for-each-ref')
      .replace(/^.*refs\/notes.*$\n?/m, '')
      .trim(),
    refs,
  );
  assert.is(box.git('r', 'status', '--porcelain'), status);
  assert.ok(readFileSync(join(box.path, 'r/.git/index')).equals(index));
  const notes = box.git('r', 'rev-parse', REF);
  assert.is(await write(box, 'r', commit, about(commit)), false, 'the same file again changes nothing');
  assert.is(box.git('r', 'rev-parse', REF), notes);
  box.git('r', 'fsck', '--strict');
});

test('a receipt is replaced by the same one with a verification, and never the other way round', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  const alone = fileBytes({ verification: null });
  assert.is(await write(box, 'r', commit, alone), true);
  assert.is(await write(box, 'r', commit, fileBytes()), true);
  assert.is(shown(box, 'r', commit), Buffer.from(fileBytes()).toString());
  assert.is(await write(box, 'r', commit, alone), false);
});

test('several tasks on one commit stand in one note, beside what a person wrote there', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.git('r', 'notes', '--ref', 'superfleet', 'add', '-m', 'seen by Änne', commit);
  const tasks = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'];
  for (const task of tasks) await write(box, 'r', commit, about(commit, task));
  const note = shown(box, 'r', commit);
  assert.ok(note.startsWith('seen by Änne\n\n{\n'));
  const files = receiptFilesIn(Buffer.from(note)).map((file) => Buffer.from(file).toString());
  assert.equal(
    files,
    tasks.map((task) => about(commit, task).toString()),
  );
});

test('a note is found in every layout git gives its notes', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  await write(box, 'r', commit, about(commit, 'aaaaaaaaaaaa'));
  // Some hundred notes, and git spreads them over folders.
  const lines = ['commit refs/notes/superfleet', 'committer t <t@example.invalid> 0 +0000', 'data 0'];
  lines.push(`from ${box.git('r', 'rev-parse', REF)}`);
  const blob = box.git('r', 'hash-object', '-w', 'a.txt');
  for (let at = 0; at < 600; at += 1) {
    const name = ((at * 7_919) % 65_536).toString(16).padStart(4, '0').repeat(10);
    lines.push(`M 100644 ${blob} ${name.slice(0, 2)}/${name.slice(2)}`);
  }
  const repository = await box.open('r');
  const { gitWith } = await import('../../../node/submit/git.ts');
  await gitWith(
    { stdin: `${lines.join('\n')}\n`, stdout: null },
    repository.folder,
    ['fast-import', '--quiet'],
    box.env,
  );
  await write(box, 'r', commit, about(commit, 'bbbbbbbbbbbb'));
  const path = `${commit.slice(0, 2)}/${commit.slice(2)}`;
  assert.match(box.git('r', 'ls-tree', '-r', '--name-only', REF), new RegExp(`^${path}$`, 'm'));
  assert.is(receiptFilesIn(Buffer.from(shown(box, 'r', commit))).length, 2);
  assert.is(box.git('r', 'notes', '--ref', 'superfleet', 'list').split('\n').length, 601);
});

test('writers at the same time lose no receipt', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  const tasks = [...'abcdefgh'].map((letter) => letter.repeat(12));
  await Promise.all(tasks.map((task) => write(box, 'r', commit, about(commit, task))));
  const files = receiptFilesIn(Buffer.from(shown(box, 'r', commit))).map((file) =>
    Buffer.from(file).toString(),
  );
  assert.equal(files.sort(), tasks.map((task) => about(commit, task).toString()).sort());
});

test('notes settings and hooks of the user do not get in its way', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  for (const [key, value] of [
    ['core.notesRef', 'refs/notes/mine'],
    ['notes.superfleet.mergeStrategy', 'theirs'],
    ['notes.displayRef', 'refs/notes/*'],
    ['notes.rewriteRef', 'refs/notes/superfleet'],
    ['user.useConfigOnly', 'true'],
    ['commit.gpgSign', 'true'],
    ['gpg.program', '/nonexistent'],
    ['core.logAllRefUpdates', 'always'],
  ] as const) {
    box.git('r', 'config', key, value);
  }
  const hook = join(box.path, 'r/.git/hooks/reference-transaction');
  writeFileSync(hook, `#!/bin/sh\necho ran >> ${box.path}/ran\nexit 1\n`);
  chmodSync(hook, 0o755);
  const env = { PATH: box.env.PATH, HOME: '/nonexistent', GIT_NOTES_REF: 'refs/notes/other' };
  const repository = await openRepository(null, { cwd: join(box.path, 'r'), env });
  await writeReceiptNote(repository, commit, about(commit), { env });
  assert.is(existsSync(join(box.path, 'ran')), false);
  assert.match(box.git('r', 'for-each-ref'), /refs\/notes\/superfleet$/m);
  assert.not.match(box.git('r', 'for-each-ref'), /refs\/notes\/(mine|other)/);
  assert.is(shown(box, 'r', commit), about(commit).toString());
});

test('notes travel by plain git, and those of two clones merge', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.git('.', 'clone', '-q', '--bare', 'r', 'remote.git');
  box.git('.', 'clone', '-q', 'remote.git', 'ann');
  box.git('.', 'clone', '-q', 'remote.git', 'bob');
  await write(box, 'ann', commit, about(commit, 'aaaaaaaaaaaa'));
  await write(box, 'bob', commit, about(commit, 'bbbbbbbbbbbb'));
  box.git('ann', 'push', '-q', 'origin', REF);
  assert.throws(() => box.git('bob', 'push', '-q', 'origin', REF), /fetch first|rejected/);
  box.git('bob', 'fetch', '-q', 'origin', `${REF}:refs/notes/superfleet-theirs`);
  box.git('bob', 'notes', '--ref', 'superfleet', 'merge', '-q', '-s', 'union', 'superfleet-theirs');
  box.git('bob', 'push', '-q', 'origin', REF);
  box.git('r', 'fetch', '-q', '../remote.git', `${REF}:${REF}`);
  const files = receiptFilesIn(Buffer.from(shown(box, 'r', commit))).map((file) =>
    Buffer.from(file).toString(),
  );
  assert.equal(
    files.sort(),
    [about(commit, 'aaaaaaaaaaaa').toString(), about(commit, 'bbbbbbbbbbbb').toString()].sort(),
  );
});

test('a bare repository, a linked work tree, SHA-256 objects and odd paths take a note too', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.git('.', 'clone', '-q', '--bare', 'r', 'bare ünï.git');
  box.git('r', 'worktree', 'add', '-q', '../linked tree', 'HEAD');
  const long = box.repository('long', { 'a.txt': 'x' }, '--object-format=sha256');
  for (const [folder, at] of [
    ['bare ünï.git', commit],
    ['linked tree', commit],
    ['long', long],
  ] as const) {
    await write(box, folder, at, about(at));
    assert.is(shown(box, folder, at), about(at).toString(), folder);
  }
});

test('a note has a bound, and one past it stays as it was', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.write('r', 'long', 'x'.repeat(receiptNoteBytesMax - 100));
  const blob = box.git('r', 'hash-object', '-w', 'long');
  box.git('r', 'notes', '--ref', 'superfleet', 'add', '-C', blob, commit);
  const notes = box.git('r', 'rev-parse', REF);
  try {
    await write(box, 'r', commit, about(commit));
    assert.unreachable();
  } catch (thrown) {
    assert.is((thrown as SuperfleetError).code, 'SF_FULL', String(thrown));
  }
  assert.is(box.git('r', 'rev-parse', REF), notes);
});

test('notes that cannot be written are said so', async () => {
  using box = new Sandbox();
  const commit = box.repository('r');
  box.git('r', 'update-ref', 'refs/notes/superfleet/in-the-way', commit);
  try {
    await write(box, 'r', commit, about(commit));
    assert.unreachable();
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError);
    assert.is((thrown as SuperfleetError).code, 'SF_REPOSITORY');
  }
});

test.run();
