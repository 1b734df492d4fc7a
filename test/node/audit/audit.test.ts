import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkAgainst, receiptsOf } from '../../../node/audit/audit.ts';
import { writeReceiptNote } from '../../../node/submit/note.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { buildReceipt } from '../../../protocol/receipt.ts';
import { signStatement, statementDigest } from '../../../protocol/statement.ts';
import { buildVerification } from '../../../protocol/verification.ts';
import { fileBytes, keys, mesh, receipt, verification } from '../../protocol/samples.ts';
import { Sandbox } from '../submit/repositories.ts';

/** A repository with a base and, on branch mesh/abcdefghijkl, a result; and the receipt file of it. */
function delivered(box: Sandbox, folder = 'r', ...init: string[]) {
  const base = box.repository(folder, { 'a.txt': 'one\n', 'b.txt': 'b\n' }, ...init);
  box.git(folder, 'checkout', '-q', '-b', 'mesh/abcdefghijkl');
  const commit = box.commit(folder, { 'a.txt': 'two\n' }, 'mend it\n\nSuperfleet-Task: abcdefghijkl');
  box.git(folder, 'checkout', '-q', 'main');
  return { base, commit, file: fileOf(base, commit) };
}

function fileOf(base: string, commit: string, root = base): Buffer {
  const repository = { id: root, name: 'demo', ref: 'main', base };
  const bytes = buildReceipt({ ...receipt, spec: { ...receipt.spec, repository }, commit });
  const about = buildVerification({ ...verification, receipt: statementDigest(bytes), commit });
  return Buffer.from(
    fileBytes({
      receipt: signStatement(bytes, keys.executor),
      verification: signStatement(about, keys.verifier),
    }),
  );
}

async function check(box: Sandbox, folder: string, file: Uint8Array, revision: string | null = null) {
  const place = { path: join(box.path, folder), env: { PATH: process.env.PATH } };
  const { verdict, match } = await checkAgainst(place, file, { mesh, revision });
  return { ...verdict, match, said: verdict.sentences.join('\n'), last: verdict.sentences.at(-1) ?? '' };
}

test('a receipt is proved by a repository that has its commit, on its base; HEAD has it or not', async () => {
  using box = new Sandbox();
  const { base, commit, file } = delivered(box);
  const before = await check(box, 'r', file);
  assert.match(before.last, /^proved: /);
  assert.equal([before.match?.inHead, before.match?.parents], [false, [base]]);
  assert.equal(before.match?.refs, ['mesh/abcdefghijkl']);
  assert.match(before.said, /The history of HEAD does not hold it\./);
  box.git('r', 'merge', '-q', '--no-ff', '-m', 'merge', 'mesh/abcdefghijkl');
  const after = await check(box, 'r', file);
  assert.is(after.match?.inHead, true);
  assert.is(after.match?.tree, box.git('r', 'rev-parse', `${commit}^{tree}`));
  assert.match(after.said, /SHA-1/);
  const unknown = await checkAgainst({ path: join(box.path, 'r'), env: {} }, file, {
    mesh: null,
    revision: null,
  });
  assert.is(unknown.verdict.sentences.at(-1), 'signature good, signer unknown');
});

test('a cherry-picked or squashed change is the same patch in another commit: not what was verified', async () => {
  using box = new Sandbox();
  const { commit, file } = delivered(box);
  box.commit('r', { 'c.txt': 'meanwhile\n' });
  box.git('r', 'cherry-pick', 'mesh/abcdefghijkl');
  const picked = box.git('r', 'rev-parse', 'HEAD');
  const head = await check(box, 'r', file);
  assert.match(head.last, /^proved: /);
  assert.equal(head.match?.samePatch, [picked]);
  const asked = await check(box, 'r', file, 'HEAD');
  assert.match(
    asked.last,
    /^not proved: HEAD .* has the same patch, but it is another commit: not what was verified/,
  );
  assert.ok(asked.last.includes(commit));

  box.git('r', 'reset', '-q', '--hard', 'HEAD~1');
  box.git('r', 'merge', '-q', '--squash', 'mesh/abcdefghijkl');
  box.git('r', 'commit', '-qm', 'squashed');
  assert.match((await check(box, 'r', file, 'main')).last, /has the same patch, but it is another commit/);
  // The same words with other white space are another patch.
  box.git('r', 'reset', '-q', '--hard', 'HEAD~1');
  box.commit('r', { 'a.txt': 'two \n' });
  assert.match((await check(box, 'r', file, 'main')).last, /^not proved: the receipt is about commit/);
});

test('the commit that merged it is more than what was verified', async () => {
  using box = new Sandbox();
  const { file } = delivered(box);
  box.git('r', 'merge', '-q', '--no-ff', '-m', 'merge', 'mesh/abcdefghijkl');
  assert.match(
    (await check(box, 'r', file, 'main')).last,
    /^not proved: main .* contains commit .* and more/,
  );
  assert.match((await check(box, 'r', file, 'main^2')).last, /^proved: /);
  assert.match((await check(box, 'r', file, 'no-such')).last, /^not proved: .* has no commit named no-such/);
});

test('another repository, and one without the commit, are said to be that', async () => {
  using box = new Sandbox();
  const { base, commit, file } = delivered(box);
  box.repository('other', { 'z.txt': 'z' });
  assert.match(
    (await check(box, 'other', file)).last,
    /^not proved: it is of another repository: .* first commit is/,
  );
  const url = `file://${join(box.path, 'r')}`;
  box.git('.', 'clone', '-q', '--single-branch', '--branch', 'main', url, 'late');
  assert.match((await check(box, 'late', file)).last, new RegExp(`does not have commit ${commit}`));
  box.commit('late', { 'a.txt': 'two, by hand\n' }, 'mend it\n\nSuperfleet-Task: abcdefghijkl');
  assert.match(
    (await check(box, 'late', file)).last,
    /names the task in its message, but it is another commit/,
  );
  // An executor that signed another base than its commit lies on.
  const false_ = fileOf('d'.repeat(40), commit, base);
  assert.match(
    (await check(box, 'r', false_)).last,
    /^not proved: commit .* lies on .* not on d+ as the receipt says/,
  );
  try {
    await check(box, 'nowhere', file);
    assert.unreachable();
  } catch (thrown) {
    assert.is((thrown as SuperfleetError).code, 'SF_REPOSITORY');
  }
});

test('a repository cannot have anything run: hooks, configuration, filters, monitors, remotes', async () => {
  using box = new Sandbox();
  const { file } = delivered(box);
  const ran = join(box.path, 'ran');
  const run = join(box.path, 'run.sh');
  writeFileSync(run, `#!/bin/sh\necho "$0 $*" >> '${ran}'\ncat\n`);
  chmodSync(run, 0o755);
  for (const [key, value] of [
    ['core.fsmonitor', run],
    ['core.pager', run],
    ['core.sshCommand', run],
    ['core.editor', run],
    ['core.alternateRefsCommand', run],
    ['core.gitProxy', run],
    ['diff.external', run],
    ['diff.spy.textconv', run],
    ['diff.spy.command', run],
    ['filter.spy.smudge', run],
    ['filter.spy.clean', run],
    ['filter.spy.process', run],
    ['gpg.program', run],
    ['log.showSignature', 'true'],
    ['uploadpack.packObjectsHook', run],
    ['credential.helper', run],
    ['extensions.partialClone', 'origin'],
    ['remote.origin.promisor', 'true'],
    ['remote.origin.url', `ext::${run}`],
    ['remote.origin.uploadpack', run],
    ['protocol.ext.allow', 'always'],
    ['core.hooksPath', box.path],
  ] as const) {
    box.git('r', 'config', key, value);
  }
  box.git('r', 'config', 'core.repositoryFormatVersion', '1');
  for (const hook of ['post-checkout', 'reference-transaction', 'post-index-change', 'pre-auto-gc']) {
    writeFileSync(join(box.path, hook), `#!/bin/sh\necho ${hook} >> '${ran}'\n`);
    chmodSync(join(box.path, hook), 0o755);
  }
  mkdirSync(join(box.path, 'r/.git/info'), { recursive: true });
  writeFileSync(join(box.path, 'r/.git/info/attributes'), '* diff=spy filter=spy\n');
  writeFileSync(join(box.path, 'r/.gitattributes'), '* diff=spy filter=spy\n');
  const done = await check(box, 'r', file);
  assert.match(done.last, /^proved: /);
  assert.is(existsSync(ran), false, 'nothing of it ran');
  // The spy does run where git is asked in the repository itself.
  execFileSync('git', ['status'], { cwd: join(box.path, 'r'), env: box.env, stdio: 'ignore' });
  assert.is(existsSync(ran), true);
});

test('replaced objects, grafts and a forged commit graph do not deceive it', async () => {
  using box = new Sandbox();
  const { base, commit, file } = delivered(box);
  const evil = box.git('r', 'commit-tree', `${base}^{tree}`, '-m', 'not the one');
  box.git('r', 'replace', commit, evil);
  writeFileSync(join(box.path, 'r/.git/info/grafts'), `${commit}\n`);
  assert.is(
    box.git('r', 'rev-parse', `${commit}^{tree}`),
    box.git('r', 'rev-parse', `${base}^{tree}`),
    'git is deceived',
  );
  const done = await check(box, 'r', file);
  assert.match(done.last, /^proved: /);
  assert.equal(done.match?.parents, [base]);
  assert.is.not(done.match?.tree, box.git('r', 'rev-parse', `${base}^{tree}`));
});

test('an object whose bytes do not give its id is seen, though git shows it', async () => {
  using box = new Sandbox();
  const { commit, file } = delivered(box);
  const blob = box.git('r', 'rev-parse', `${commit}:a.txt`);
  const other = box.git('r', 'hash-object', '-w', 'b.txt');
  const place = (id: string): string => join(box.path, 'r/.git/objects', id.slice(0, 2), id.slice(2));
  chmodSync(place(blob), 0o644);
  renameSync(place(other), place(blob));
  assert.is(box.git('r', 'cat-file', 'blob', blob), 'b', 'git believes the file');
  assert.match(
    (await check(box, 'r', file)).last,
    /^not proved: objects of the repository are damaged or forged/,
  );
});

test('a commit is not said to have the same patch where its files, or those before, are forged', async () => {
  for (const forged of ['after', 'before'] as const) {
    using box = new Sandbox();
    const { file } = delivered(box);
    if (forged === 'before') box.commit('r', { 'a.txt': 'uno\n' });
    box.commit('r', { 'a.txt': forged === 'after' ? 'zwei\n' : 'two\n' });
    const id = (of: string): string => box.git('r', 'rev-parse', of);
    const place = (of: string): string =>
      join(box.path, 'r/.git/objects', id(of).slice(0, 2), id(of).slice(2));
    const [target, source] =
      forged === 'after' ? ['main:a.txt', 'mesh/abcdefghijkl:a.txt'] : ['main~1:a.txt', 'main~2:a.txt'];
    const bytes = readFileSync(place(source));
    chmodSync(place(target), 0o644);
    writeFileSync(place(target), bytes);
    const done = await check(box, 'r', file);
    assert.match(done.last, /^proved: /, 'the receipt’s own commit is whole');
    assert.equal(done.match?.samePatch, [], forged);
    assert.not.match((await check(box, 'r', file, 'main')).last, /same patch/, forged);
  }
});

test('objects borrowed from another repository count; a shallow, bare, linked, SHA-256 or oddly named one is read', async () => {
  using box = new Sandbox();
  const { commit, file } = delivered(box);
  box.git('.', 'clone', '-q', '--shared', 'r', 'shared');
  box.git('.', 'clone', '-q', '--bare', 'r', 'bare.git');
  box.git('r', 'worktree', 'add', '-q', '../linked', 'HEAD');
  const url = `file://${join(box.path, 'r')}`;
  box.git('.', 'clone', '-q', '--depth', '1', '--branch', 'mesh/abcdefghijkl', url, 'shallow');
  const odd = 'ä "quoted"\\ and\na new line';
  box.git('.', 'clone', '-q', 'r', odd);
  box.git(odd, 'fetch', '-q', 'origin', 'mesh/abcdefghijkl:mesh/abcdefghijkl');
  for (const folder of ['shared', 'bare.git', 'linked', 'shallow', odd, 'r/.git']) {
    const done = await check(box, folder, file);
    assert.match(done.last, /^proved: /, folder);
  }
  box.git('r', 'pack-refs', '--all');
  box.git('r', 'gc', '-q');
  assert.match((await check(box, 'r', file, 'mesh/abcdefghijkl')).last, /^proved: /);
  const long = delivered(box, 'long', '--object-format=sha256');
  assert.is(long.commit.length, 64);
  assert.match((await check(box, 'long', long.file)).last, /^proved: /);
  assert.is(commit.length, 40);
});

test('the receipts in a note are read; a commit without one, and notes that were not fetched, are said so', async () => {
  using box = new Sandbox();
  const { commit, file } = delivered(box);
  const place = { path: join(box.path, 'r'), env: { PATH: process.env.PATH } };
  const missing = async (revision: string): Promise<SuperfleetError> =>
    receiptsOf(place, revision).then<SuperfleetError, SuperfleetError>(
      () => {
        throw new Error('expected a refusal');
      },
      (thrown: SuperfleetError) => thrown,
    );
  assert.match((await missing('main')).got ?? '', /no refs\/notes\/superfleet/);
  await writeReceiptNote(await box.open('r'), commit, file, { env: box.env });
  assert.match((await missing('main')).got ?? '', /notes on other commits/);
  assert.match(
    (await missing('main')).hint ?? '',
    /git fetch origin refs\/notes\/superfleet:refs\/notes\/superfleet/,
  );
  assert.match((await missing('nothing')).message, /no commit named nothing/);
  const found = await receiptsOf(place, 'mesh/abcdefghijkl');
  assert.is(found.length, 1);
  assert.ok(file.equals(found[0]!));
});

test('a note of a hostile repository has few receipts checked, each once', async () => {
  using box = new Sandbox();
  const { commit, file } = delivered(box);
  const place = { path: join(box.path, 'r'), env: { PATH: process.env.PATH } };
  const noteOf = (text: string): void => {
    box.write('.', 'note', text);
    box.git('r', 'notes', '--ref=superfleet', 'add', '-f', '-F', join(box.path, 'note'), commit);
  };
  noteOf(`${file}\n`.repeat(500));
  const [one, ...others] = await receiptsOf(place, commit);
  assert.ok(file.equals(one!));
  assert.is(others.length, 0);
  const head = file.toString().slice(0, file.indexOf('\n', 2) + 1);
  noteOf(Array.from({ length: 40 }, (_, n) => `${head}${n}\n`).join(''));
  await receiptsOf(place, commit).then(
    () => assert.unreachable('forty are too many'),
    (error: SuperfleetError) => assert.is(error.code, 'SF_NOT_PROVED'),
  );
});

test.run();
