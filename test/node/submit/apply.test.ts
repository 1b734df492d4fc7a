// limit: 180 s
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Applied, applyResult, type Way } from '../../../node/submit/apply.ts';
import { patchOf, placeBranch } from '../../../node/submit/place.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { refused } from '../../refused.ts';
import { clientOf, type Made, resultOnSnapshot, Sandbox } from './repositories.ts';

const TASK = 'abcdefghijkl';
const WAYS = ['merge', 'cherry-pick', 'checkout'] as const;

const work = (box: Sandbox, made: Made) => ({
  client: clientOf(...[made.path, made.basePath].filter((path) => path !== undefined)),
  env: box.env,
});

async function apply(box: Sandbox, made: Made, how: Way | null = null, folder = 'r'): Promise<Applied> {
  const repository = await box.open(folder);
  await placeBranch(repository, made, work(box, made), false);
  return applyResult(repository, made, how, false, box.env);
}

/** All that a person has here: files, index, refs, HEAD, logs. Not objects nobody refers to, nor git's own ORIG_HEAD. */
function stateOf(box: Sandbox, folder = 'r'): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(join(box.path, folder), { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (/\/\.git\/(objects|hooks|ORIG_HEAD)/.test(path)) continue;
    if (entry.isFile()) found[path] = readFileSync(path).toString('base64');
    else found[path] = entry.isSymbolicLink() ? readlinkSync(path) : 'folder';
  }
  return found;
}

/** Refused, and everything is what it was. */
async function untouched(box: Sandbox, made: Made, how: Way | null): Promise<SuperfleetError> {
  await placeBranch(await box.open('r'), made, work(box, made), false);
  box.git('r', 'status');
  const before = stateOf(box);
  const error = await refused(apply(box, made, how));
  assert.equal(stateOf(box), before, `${how}: everything is exactly as it was`);
  return error;
}

test('a git that does not know who merges says so, and the two lines that tell it; nothing is changed', async () => {
  for (const how of ['merge', 'cherry-pick'] as const) {
    using box = new Sandbox();
    const base = box.repository('r');
    const made = box.result('r', base, { 'a.txt': 'two\n' });
    box.commit('r', { 'moved.txt': 'm\n' });
    box.git('r', 'config', 'user.useConfigOnly', 'true');
    const head = box.git('r', 'rev-parse', 'HEAD');
    const { GIT_AUTHOR_NAME: _a, GIT_AUTHOR_EMAIL: _b, GIT_COMMITTER_NAME: _c, ...rest } = box.env;
    const env: Record<string, string | undefined> = { ...rest, GIT_COMMITTER_EMAIL: undefined };
    const repository = await box.open('r');
    await placeBranch(repository, made, work(box, made), false);
    const error = await refused(applyResult(repository, made, how, false, env));
    assert.is(error.code, 'SF_REPOSITORY', error.message);
    assert.match(error.message, 'who merges');
    assert.match(error.hint ?? '', /git config --global user\.name .* git config --global user\.email/);
    assert.is(box.git('r', 'rev-parse', 'HEAD'), head);
  }
});

async function patch(box: Sandbox, made: Made, folder = 'r'): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of patchOf(await box.open(folder), made, work(box, made))) parts.push(part);
  return Buffer.concat(parts).toString();
}

test('apply onto a moved branch: merged where it fits, with staged and unstaged work elsewhere left as it is', async () => {
  for (const how of ['merge', 'cherry-pick'] as const) {
    using box = new Sandbox();
    const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n', 'c.txt': 'c\n' });
    const made = box.result('r', base, { 'a.txt': 'two\n', 'new file.txt': 'n\n' });
    const head = box.commit('r', { 'moved.txt': 'm\n' });
    box.write('r', 'b.txt', 'mine, staged\n');
    box.git('r', 'add', 'b.txt');
    box.write('r', 'c.txt', 'mine\n');
    box.write('r', 'scratch.txt', 'mine\n');
    const done = await apply(box, made, how);
    assert.equal(done, { head: box.git('r', 'rev-parse', 'main'), how, already: false });
    assert.is(box.read('r', 'a.txt'), 'two\n');
    assert.is(box.git('r', 'status', '--porcelain'), 'M  b.txt\n M c.txt\n?? scratch.txt');
    const parents = { merge: `${head} ${made.commit}`, 'cherry-pick': head }[how];
    assert.is(box.git('r', 'show', '-s', '--format=%P', 'HEAD'), parents);
    box.git('r', 'fsck', '--strict');
    const again = await apply(box, made, how);
    assert.equal(again, { ...done, already: true }, 'typed again it changes nothing');
  }
});

test('apply onto a moved branch in conflict: named, and everything is exactly as it was', async () => {
  for (const how of ['merge', 'cherry-pick'] as const) {
    using box = new Sandbox();
    const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
    const made = box.result('r', base, { 'a.txt': 'theirs\n', 'b.txt': 'fits\n' });
    box.commit('r', { 'a.txt': 'ours\n' });
    box.write('r', 'scratch.txt', 'mine\n');
    const error = await untouched(box, made, how);
    assert.is(error.code, 'SF_CONFLICT');
    assert.is(error.exitCode, 2);
    assert.is(error.got, 'conflicts in a.txt');
    assert.match(error.hint ?? '', new RegExp(`^git ${how} mesh/`));
  }
});

test('apply onto a dirty branch: files it would write are named, and everything is exactly as it was', async () => {
  for (const how of WAYS) {
    using box = new Sandbox();
    const base = box.repository('r', { 'a.txt': 'one\n', 'gone.txt': 'x\n', '.gitignore': '*.log\n' });
    const made = box.result('r', base, { 'a.txt': 'two\n', 'line\nbreak.txt': 'n\n' });
    box.write('r', 'a.txt', 'mine\n');
    box.write('r', 'line\nbreak.txt', 'mine\n');
    const error = await untouched(box, made, how);
    assert.is(error.code, 'SF_CONFLICT');
    assert.is(error.got, 'a.txt, line\nbreak.txt');
    assert.match(error.hint ?? '', /commit, stash or move/);
  }
});

test('apply while another git command has the index: what that one has written so far is left alone', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
  const made = box.result('r', base, { 'a.txt': 'two\n', 'new.txt': 'n\n' });
  await placeBranch(await box.open('r'), made, work(box, made), false);
  // The last that runs before files are moved is the signing program: meanwhile another apply of the same result begins.
  const other = join(box.path, 'sign');
  const lines = ['touch .git/index.lock', 'echo two > a.txt', 'echo n > new.txt'];
  const signature = "printf '-----BEGIN PGP SIGNATURE-----\\n\\nx\\n-----END PGP SIGNATURE-----\\n'";
  const status = "echo '[GNUPG:] SIG_CREATED ' >&2";
  const script = ['#!/bin/sh', `cd '${join(box.path, 'r')}'`, ...lines, signature, status];
  writeFileSync(other, `${script.join('\n')}\n`, { mode: 0o755 });
  box.git('r', 'config', 'commit.gpgSign', 'true');
  box.git('r', 'config', 'gpg.program', other);
  const error = await refused(apply(box, made));
  assert.is(error.code, 'SF_CONFLICT');
  assert.match(error.message, /another git command is at work/);
  assert.match(error.got ?? '', /index\.lock/);
  assert.is(box.read('r', 'a.txt'), 'two\n');
  assert.is(box.read('r', 'new.txt'), 'n\n');
  assert.is(box.git('r', 'rev-parse', 'HEAD'), base);
});

test('one result placed by two at the same time is placed for both', async () => {
  for (let round = 0; round < 5; round += 1) {
    using box = new Sandbox();
    const base = box.repository('r');
    const made = box.result('r', base, { 'a.txt': 'two\n' });
    const place = async () => placeBranch(await box.open('r'), made, work(box, made), false);
    assert.equal(await Promise.all([place(), place(), place()]), Array(3).fill(`mesh/${TASK}`));
  }
});

test('apply while a merge or a rebase is not finished is refused, and everything is exactly as it was', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'a.txt': 'one\n' });
  const made = box.result('r', base, { 'b.txt': 'b\n' });
  box.git('r', 'checkout', '-q', '-b', 'side');
  box.commit('r', { 'a.txt': 'side\n' });
  box.git('r', 'checkout', '-q', 'main');
  box.commit('r', { 'a.txt': 'main\n' });
  assert.throws(() => box.git('r', 'merge', 'side'));
  assert.match((await untouched(box, made, 'merge')).message, /a merge is not finished/);
  box.git('r', 'merge', '--abort');
  assert.throws(() => box.git('r', 'rebase', 'side'));
  assert.match((await untouched(box, made, 'cherry-pick')).message, /a rebase is not finished/);
});

test('apply that git gives up half-way is put back, and everything is exactly as it was', async () => {
  for (const how of WAYS) {
    using box = new Sandbox();
    const base = box.repository('r', {
      'a.txt': 'one\n',
      'z.bin': 'z\n',
      '.gitattributes': '*.bin filter=x\n',
    });
    box.git('r', 'config', 'filter.x.clean', 'cat');
    // As a filter does that has to fetch what it puts in and can't.
    box.git('r', 'config', 'filter.x.smudge', `sh -c 'read -r text; [ "$text" != new ] && echo "$text"'`);
    box.git('r', 'config', 'filter.x.required', 'true');
    const made = box.result('r', base, { 'a.txt': 'two\n', 'new.txt': 'n\n', 'z.bin': 'new\n' });
    box.write('r', 'mine.txt', 'mine\n');
    const error = await untouched(box, made, how);
    assert.is(error.code, 'SF_CONFLICT');
    box.git('r', 'config', 'filter.x.smudge', 'cat');
    await apply(box, made, how);
    assert.is(box.read('r', 'a.txt'), 'two\n', 'the same command continues');
  }
});

test('Ctrl-C in the middle of apply leaves it done or not begun, and the same command finishes it', async () => {
  using box = new Sandbox();
  const base = box.repository('r', {
    'a.txt': 'one\n',
    'z.bin': 'z\n',
    '.gitattributes': '*.bin filter=slow\n',
  });
  const mark = join(box.path, 'half-way');
  // Git is in the middle of writing files when it says so.
  box.git(
    'r',
    'config',
    'filter.slow.smudge',
    `sh -c 'touch ${mark}; while [ -e ${mark} ]; do sleep 0.02; done; cat'`,
  );
  const made = box.result('r', base, { 'a.txt': 'two\n', 'z.bin': 'new\n' });
  await placeBranch(await box.open('r'), made, work(box, made), false);
  const program = join(box.path, 'apply.ts');
  const root = join(import.meta.dirname, '../../../node');
  writeFileSync(
    program,
    `import { applyResult } from ${JSON.stringify(`${root}/submit/apply.ts`)};
import { openRepository } from ${JSON.stringify(`${root}/submit/repository.ts`)};
import { processTerminal } from ${JSON.stringify(`${root}/cli/terminal.ts`)};
import { rmSync } from 'node:fs';
const { signal, env } = processTerminal();
signal.addEventListener('abort', () => rmSync(${JSON.stringify(mark)}));
const repository = await openRepository('.', { cwd: process.cwd(), env, signal });
await applyResult(repository, ${JSON.stringify(made)}, null, false, env, signal);
`,
  );
  // A terminal sends Ctrl-C to the whole process group.
  const child = spawn(process.execPath, [program], {
    cwd: join(box.path, 'r'),
    env: box.env,
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(child, 'exit');
  for (const deadline = Date.now() + 30_000; !existsSync(mark); ) {
    assert.ok(Date.now() < deadline && child.exitCode === null, 'git began to write files');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  process.kill(-child.pid!, 'SIGINT');
  assert.equal(await ended, [0, null]);
  assert.is(box.git('r', 'status', '--porcelain'), '');
  assert.is(box.read('r', 'a.txt') + box.read('r', 'z.bin'), 'two\nnew\n');
  assert.ok((await apply(box, made)).already);
  // And before it: nothing has begun.
  using other = new Sandbox();
  const given = other.result('r', other.repository('r'), { 'a.txt': 'two\n' });
  await placeBranch(await other.open('r'), given, work(other, given), false);
  const before = stateOf(other);
  const stopped = AbortSignal.abort(new Error('interrupted'));
  const ending = applyResult(await other.open('r'), given, null, false, other.env, stopped);
  assert.is(
    await ending.then(
      () => 'it was applied',
      ({ message }: Error) => message,
    ),
    'interrupted',
  );
  assert.equal(stateOf(other), before);
});

test('a result of --include-dirty: diff, get and apply find the snapshot, which is in no repository until then', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
  box.write('r', 'a.txt', 'mine\n');
  box.write('r', 'new.txt', 'untracked\n');
  const made = await resultOnSnapshot(box, 'r', { 'b.txt': 'mended\n', 'out.txt': 'o\n' });
  assert.throws(() => box.git('r', 'cat-file', '-e', made.base ?? ''));
  const text = await patch(box, made);
  assert.match(text, /-b\n\+mended\n/);
  assert.not.match(text, /mine|untracked/, 'what the task did, not what the person had done');
  assert.throws(() => box.git('r', 'cat-file', '-e', made.base ?? ''));
  const done = await apply(box, made);
  assert.is(done.how, 'cherry-pick', 'no snapshot comes into the history of the person');
  assert.is(box.git('r', 'rev-list', '--parents', '-1', 'HEAD'), `${done.head} ${base}`);
  assert.is(box.git('r', 'rev-list', `mesh/${TASK}`), `${made.commit}\n${made.base}\n${base}`);
  assert.is(box.git('r', 'status', '--porcelain'), 'M a.txt\n?? new.txt');
  assert.is(box.read('r', 'b.txt'), 'mended\n');
  box.git('r', 'gc', '-q', '--prune=now');
  assert.is(await patch(box, made), text, 'the branch keeps it');
});

test('a result of --include-dirty on a file that is still dirty is refused by name; once committed it is applied', async () => {
  using box = new Sandbox();
  box.repository('r', { 'a.txt': 'one\n' });
  box.write('r', 'a.txt', 'mine\n');
  const made = await resultOnSnapshot(box, 'r', { 'a.txt': 'mine\nmended\n' });
  for (const how of [null, 'merge'] as const) {
    const error = await untouched(box, made, how);
    assert.is(error.got, 'a.txt', String(how));
    assert.match(error.hint ?? '', /commit, stash/);
  }
  box.git('r', 'commit', '-qam', 'mine');
  await apply(box, made);
  assert.is(box.read('r', 'a.txt'), 'mine\nmended\n');
});

test('a result of --include-dirty is found in another clone, and in no other repository', async () => {
  using box = new Sandbox();
  box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
  box.git('.', 'clone', '-q', 'r', 'laptop');
  box.repository('other');
  box.write('r', 'a.txt', 'mine\n');
  const made = await resultOnSnapshot(box, 'r', { 'b.txt': 'mended\n' });
  assert.is((await apply(box, made, null, 'laptop')).how, 'cherry-pick');
  const error = await refused(apply(box, made, null, 'other'));
  assert.is(error.code, 'SF_REPOSITORY');
  assert.match(error.message, /did not run on this repository/);
  assert.throws(() => box.git('other', 'cat-file', '-e', made.base ?? ''));
  // Another commit under the snapshot's name is none.
  const forged = { ...made, source: { blob: made.bundle.blob, name: 'r' } };
  assert.is((await refused(apply(box, forged))).code, 'SF_NOT_PROVED');
});

test('a result of files before the first commit: looked at, and applied once they are committed', async () => {
  using box = new Sandbox();
  box.git('.', 'init', '-q', 'r');
  box.write('r', 'a.txt', 'first\n');
  const made = await resultOnSnapshot(box, 'r', { 'a.txt': 'first\nsecond\n' });
  assert.match(await patch(box, made), /\+second/);
  assert.match((await refused(apply(box, made))).hint ?? '', /commit your files/);
  box.git('r', 'add', '.');
  box.git('r', 'commit', '-qm', 'first');
  await apply(box, made);
  assert.is(box.read('r', 'a.txt'), 'first\nsecond\n');
});

test('a shallow clone sends its files without history, and takes the result', async () => {
  using box = new Sandbox();
  box.repository('r');
  box.commit('r', { 'a.txt': 'two\n', 'b.txt': 'b\n' });
  box.git('.', 'clone', '-q', '--depth', '1', `file://${box.path}/r`, 'shallow');
  const made = await resultOnSnapshot(box, 'shallow', { 'a.txt': 'three\n' }, false);
  assert.is(box.git('shallow.member', 'rev-list', '--count', 'HEAD'), '2');
  assert.match(await patch(box, made, 'shallow'), /-two\n\+three/);
  box.write('shallow', 'b.txt', 'mine\n');
  assert.is((await apply(box, made, null, 'shallow')).how, 'cherry-pick');
  assert.is(box.read('shallow', 'a.txt'), 'three\n');
  assert.is(box.git('shallow', 'status', '--porcelain'), 'M b.txt');
  box.git('shallow', 'fetch', '-q', '--unshallow');
  box.git('shallow', 'fsck', '--strict');
});

test('apply in a linked work tree, in a sparse checkout, with SHA-256 objects', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'in/a.txt': 'a\n', 'out/b.txt': 'b\n' }, '--object-format=sha256');
  const made = box.result('r', base, { 'in/a.txt': 'mended\n', 'out/b.txt': 'mended\n' });
  box.git('r', 'worktree', 'add', '-q', '-b', 'linked', '../linked');
  box.git('linked', 'sparse-checkout', 'set', 'in');
  await apply(box, made, null, 'linked');
  assert.is(box.read('linked', 'in/a.txt'), 'mended\n');
  assert.not.ok(existsSync(join(box.path, 'linked/out/b.txt')));
  assert.is(box.git('linked', 'status', '--porcelain'), '');
  assert.is(box.git('r', 'rev-parse', 'main'), base, 'the branch of the other work tree stays');
});

test('apply: commits are signed where the person signs, no hook or pager runs, and a key that is gone changes nothing', async () => {
  using box = new Sandbox();
  const base = box.repository('r', { 'a.txt': 'one\n' });
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  const ran = join(box.path, 'ran');
  for (const hook of ['post-merge', 'post-checkout', 'commit-msg', 'pre-merge-commit', 'post-rewrite']) {
    writeFileSync(join(box.path, 'r/.git/hooks', hook), `#!/bin/sh\ntouch ${ran}\n`);
    chmodSync(join(box.path, 'r/.git/hooks', hook), 0o755);
  }
  const settings = {
    'merge.autoStash': 'true',
    'core.pager': `touch ${ran}`,
    'diff.external': `touch ${ran}`,
  };
  for (const [name, value] of Object.entries({ ...settings, 'merge.ff': 'only', 'commit.gpgSign': 'true' }))
    box.git('r', 'config', name, value);
  box.git('r', 'config', 'gpg.program', 'false');
  assert.match((await untouched(box, made, null)).got ?? '', /sign/);
  // A signer as git knows it: reads the text, writes a signature and a line of status.
  const signer = join(box.path, 'signer');
  writeFileSync(
    signer,
    '#!/bin/sh\ncat >/dev/null\necho "[GNUPG:] SIG_CREATED " >&2\nprintf -- "-----BEGIN PGP SIGNATURE-----\\nx\\n-----END PGP SIGNATURE-----\\n"\n',
  );
  chmodSync(signer, 0o755);
  box.git('r', 'config', 'gpg.program', signer);
  await apply(box, made);
  assert.match(box.git('r', 'cat-file', 'commit', 'HEAD'), /gpgsig -----BEGIN PGP SIGNATURE/);
  assert.not.ok(existsSync(ran));
});

test.run();
