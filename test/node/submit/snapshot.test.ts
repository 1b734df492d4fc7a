import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openRepository } from '../../../node/submit/repository.ts';
import { makeSnapshot, snapshotOf } from '../../../node/submit/snapshot.ts';
import { refused } from '../../refused.ts';
import { Sandbox } from './repositories.ts';

/** Every byte under a folder, the repository's own among them. */
function bytesOf(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) found[path] = readFileSync(path).toString('base64');
    else found[path] = entry.isSymbolicLink() ? readlinkSync(path) : 'folder';
  }
  return found;
}

/** Makes a snapshot, shows that the repository is what it was, and answers with its files and what git says of it. */
async function snap(box: Sandbox, folder = 'r', env: Record<string, string | undefined> = box.env) {
  const repository = await openRepository(null, { cwd: join(box.path, folder), env });
  const before = bytesOf(repository.folder);
  using made = await makeSnapshot(repository, 'HEAD', true, env);
  assert.equal(
    bytesOf(repository.folder),
    before,
    'work tree, index, refs, logs, stash and objects are untouched',
  );
  if (made === null) return null;
  const { git } = made.repository;
  const listed = await git(['ls-tree', '-r', '-z', made.commit]);
  const files: Record<string, string> = {};
  for (const line of listed.split('\0').filter((one) => one !== '')) {
    const [facts = '', path = ''] = line.split('\t');
    const [mode, kind, object = ''] = facts.split(' ');
    files[path] = `${mode} ${kind === 'blob' ? await git(['cat-file', 'blob', object]) : object}`;
  }
  const parents = (await git(['rev-list', '--parents', '--max-count=1', made.commit]))
    .trim()
    .split(' ')
    .slice(1);
  return {
    files,
    parents,
    commit: made.commit,
    nested: made.nested,
    of: await snapshotOf(made.repository, made.commit),
  };
}

test('--include-dirty: edits, staged and untracked files, deletions, renames, mode bits and links; ignored files stay', async () => {
  using box = new Sandbox();
  const base = box.repository('r', {
    'edited.txt': 'one\n',
    'staged.txt': 'one\n',
    'both.txt': 'one\n',
    'deleted.txt': 'x\n',
    'unstaged.txt': 'y\n',
    'old name.txt': 'renamed\n',
    'run.sh': 'echo\n',
    'becomes-link': 'file\n',
    '.gitignore': '*.log\n',
  });
  box.git('r', 'stash', 'list');
  box.write('r', 'edited.txt', 'two\n');
  box.write('r', 'staged.txt', 'two\n');
  box.write('r', 'both.txt', 'staged\n');
  box.git('r', 'add', 'staged.txt', 'both.txt');
  box.write('r', 'both.txt', 'and edited\n');
  box.git('r', 'rm', '-q', 'deleted.txt');
  rmSync(join(box.path, 'r/unstaged.txt'));
  renameSync(join(box.path, 'r/old name.txt'), join(box.path, 'r/new name.txt'));
  chmodSync(join(box.path, 'r/run.sh'), 0o755);
  rmSync(join(box.path, 'r/becomes-link'));
  symlinkSync('edited.txt', join(box.path, 'r/becomes-link'));
  const odd = [
    'new\nline.txt',
    'quo"te\'.txt',
    'tab\t.txt',
    'grüße/日本.txt',
    ':(top)x',
    'a\\b',
    '-dash',
    ' lead',
  ];
  for (const path of odd) box.write('r', path, 'odd\n');
  box.write('r', 'made.log', 'ignored\n');
  box.write('r', 'mesh-abcdefghijkl/report.txt', 'an earlier task brought it\n');
  const made = await snap(box);
  // A tab in a name is what splits the line above.
  delete made?.files.tab;
  assert.equal(made?.files, {
    '.gitignore': '100644 *.log\n',
    'edited.txt': '100644 two\n',
    'staged.txt': '100644 two\n',
    'both.txt': '100644 and edited\n',
    'new name.txt': '100644 renamed\n',
    'run.sh': '100755 echo\n',
    'becomes-link': '120000 edited.txt',
    ...Object.fromEntries(odd.filter((path) => !path.includes('\t')).map((path) => [path, '100644 odd\n'])),
  });
  assert.equal(made?.parents, [base], 'its parent is HEAD');
  assert.equal(made?.of, { of: base }, 'it says of itself what it was made of');
  assert.is((await snap(box))?.commit, made?.commit, 'the same files are the same commit');
});

test('--include-dirty on a clean tree is HEAD itself', async () => {
  using box = new Sandbox();
  box.repository('r');
  assert.is(await snap(box), null);
});

test('--include-dirty: a change within the second of the last git add is seen', async () => {
  using box = new Sandbox();
  box.repository('r', { 'a.txt': 'one\n' });
  for (let at = 0; at < 5; at++) {
    box.write('r', 'a.txt', `a${at}\n`);
    box.git('r', 'add', 'a.txt');
    box.write('r', 'a.txt', `b${at}\n`);
    assert.is((await snap(box))?.files['a.txt'], `100644 b${at}\n`);
  }
});

test('--include-dirty before the first commit: all files, and nothing before them', async () => {
  using box = new Sandbox();
  box.git('.', 'init', '-q', 'r');
  box.write('r', 'a.txt', 'first\n');
  const made = await snap(box);
  assert.equal(made?.files, { 'a.txt': '100644 first\n' });
  assert.equal(made?.parents, []);
  assert.equal(made?.of, { of: null });
});

test('--include-dirty in a linked work tree, from below the top, with a detached HEAD', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'a.txt': 'one\n', 'sub/b.txt': 'b\n' });
  box.git('r', 'worktree', 'add', '-q', '--detach', '../linked');
  box.write('linked', 'a.txt', 'at the top\n');
  box.write('linked', 'sub/new.txt', 'below\n');
  const made = await snap(box, 'linked/sub');
  assert.equal(made?.parents, [base]);
  assert.equal(made?.files, {
    'a.txt': '100644 at the top\n',
    'sub/b.txt': '100644 b\n',
    'sub/new.txt': '100644 below\n',
  });
});

test('--include-dirty in a sparse checkout keeps what is not checked out', async () => {
  using box = new Sandbox();
  box.repository('r', { 'in/a.txt': 'a\n', 'out/b.txt': 'b\n', 'top.txt': 't\n' });
  box.git('r', 'sparse-checkout', 'set', 'in');
  box.write('r', 'in/a.txt', 'edited\n');
  const made = await snap(box);
  assert.equal(made?.files, {
    'in/a.txt': '100644 edited\n',
    'out/b.txt': '100644 b\n',
    'top.txt': '100644 t\n',
  });
});

test('--include-dirty: no git variable of a hook, and none of the settings of a person, gets in the way or runs', async () => {
  using box = new Sandbox();
  box.repository('r', { 'a.txt': 'one\n' });
  box.repository('other');
  const ran = join(box.path, 'ran');
  for (const [name, value] of Object.entries({
    'commit.gpgSign': 'true',
    'gpg.program': `touch ${ran}; false`,
    'core.hooksPath': join(box.path, 'hooks'),
    'core.autocrlf': 'true',
    'core.safecrlf': 'true',
    'core.splitIndex': 'true',
    'core.fsmonitor': `touch ${ran}; false`,
    'core.pager': `touch ${ran}`,
    'diff.external': `touch ${ran}`,
    'color.ui': 'always',
    'status.showUntrackedFiles': 'no',
  })) {
    box.git('r', 'config', name, value);
  }
  box.write('r', 'a.txt', 'mixed\r\nends\n');
  box.write('r', 'new.txt', 'new\n');
  const env = {
    ...box.env,
    GIT_DIR: join(box.path, 'other/.git'),
    GIT_WORK_TREE: join(box.path, 'other'),
    GIT_INDEX_FILE: join(box.path, 'other/.git/index'),
    GIT_PREFIX: 'x/',
    GIT_EXTERNAL_DIFF: `touch ${ran}`,
    GIT_PAGER: `touch ${ran}`,
  };
  const made = await snap(box, 'r', env);
  assert.equal(made?.files, { 'a.txt': '100644 mixed\nends\n', 'new.txt': '100644 new\n' });
  assert.not.ok(readdirSync(box.path).includes('ran'));
});

test('--include-dirty: a repository inside is named and left out, a submodule stays at its commit', async () => {
  using box = new Sandbox();
  box.repository('library', { 'lib.txt': 'l\n' });
  box.repository('r', { 'a.txt': 'one\n' });
  box.git(
    'r',
    '-c',
    'protocol.file.allow=always',
    'submodule',
    'add',
    '-q',
    join(box.path, 'library'),
    'vendor/lib',
  );
  box.git('r', 'commit', '-qm', 'submodule');
  const at = box.git('r/vendor/lib', 'rev-parse', 'HEAD');
  box.repository('r/inside/nested');
  mkdirSync(join(box.path, 'r/empty-nested'));
  box.git('r/empty-nested', 'init', '-q');
  box.write('r', 'inside/mine.txt', 'mine\n');
  box.write('r', 'vendor/lib/lib.txt', 'edited\n');
  const made = await snap(box);
  assert.is(made?.files['vendor/lib'], `160000 ${at}`);
  assert.is(made?.files['inside/mine.txt'], '100644 mine\n');
  assert.equal(made?.nested.sort(), ['empty-nested/', 'inside/nested/']);
});

test('--include-dirty: files in conflict, a bare repository and what cannot be read are refused by name', async () => {
  using box = new Sandbox();
  box.repository('r', { 'a.txt': 'one\n' });
  box.git('r', 'checkout', '-q', '-b', 'side');
  box.commit('r', { 'a.txt': 'side\n' });
  box.git('r', 'checkout', '-q', 'main');
  box.commit('r', { 'a.txt': 'main\n' });
  assert.throws(() => box.git('r', 'merge', 'side'));
  const conflict = await refused(snap(box));
  assert.is(conflict.code, 'SF_REPOSITORY');
  assert.is(conflict.got, 'a.txt');
  box.git('.', 'clone', '-q', '--bare', 'r', 'bare.git');
  const bare = await refused(makeSnapshot(await box.open('bare.git'), 'HEAD', true, box.env));
  assert.match(bare.message, /bare repository/);
  box.repository('filtered', { '.gitattributes': '*.bin filter=gone\n' });
  box.git('filtered', 'config', 'filter.gone.clean', 'no-such-program');
  box.git('filtered', 'config', 'filter.gone.required', 'true');
  box.write('filtered', 'x.bin', 'x');
  assert.match((await refused(snap(box, 'filtered'))).got ?? '', /x\.bin/);
});

test('a repository whose path has spaces, quotes, newlines, colons and letters of elsewhere is opened and sent', async () => {
  using box = new Sandbox();
  for (const name of ['a b', 'line\nbreak', 'quo"te\'s', 'co:lon', '#hash', 'größe 日本']) {
    const base = box.repository(name);
    box.write(name, 'a.txt', 'two\n');
    const made = await snap(box, name);
    assert.equal(made?.parents, [base], JSON.stringify(name));
    assert.equal(made?.files, { 'a.txt': '100644 two\n' });
  }
});

test.run();
