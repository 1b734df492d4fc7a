import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyResult } from '../../../node/submit/apply.ts';
import { Arrival } from '../../../node/submit/arrival.ts';
import { placeArtifacts } from '../../../node/submit/artifacts.ts';
import { patchOf, placeBranch } from '../../../node/submit/place.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { refused } from '../../refused.ts';
import { clientOf, givenOf, type Made, Sandbox } from './repositories.ts';

const TASK = 'abcdefghijkl';

const work = (box: Sandbox, ...made: Made[]) => ({
  client: clientOf(...made.map(({ path }) => path)),
  env: box.env,
});

async function place(box: Sandbox, made: Made, force = false): Promise<string> {
  return placeBranch(await box.open('r'), made, work(box, made), force);
}

async function patch(box: Sandbox, made: Made, folder: string | null = 'r'): Promise<string> {
  const repository = folder === null ? null : await box.open(folder);
  const parts: Uint8Array[] = [];
  for await (const part of patchOf(repository, made, work(box, made))) parts.push(part);
  return Buffer.concat(parts).toString();
}

test('a result becomes branch mesh/ID; nothing is checked out and no other ref is made', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  const before = box.git('r', 'for-each-ref');
  assert.is(await place(box, made), `mesh/${TASK}`);
  assert.is(box.git('r', 'rev-parse', `mesh/${TASK}`), made.commit);
  assert.ok(box.git('r', 'for-each-ref').startsWith(before));
  assert.is(box.git('r', 'for-each-ref').split('\n').length, 2);
  assert.is(box.read('r', 'a.txt'), 'one\n');
  assert.not.ok(existsSync(join(box.path, 'r/.git/FETCH_HEAD')));
  assert.is(await place(box, made), `mesh/${TASK}`, 'placing it again changes nothing');
});

test('a result that is taken in before its delivery is placed as any other, and not a byte of it before', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  box.git('.', 'clone', '-q', 'r', 's');
  const early = box.result('s', base, { 'a.txt': 'early\n' });
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  const repository = await box.open('r');
  const client = clientOf(early.path, made.path);
  {
    using arrival = new Arrival(repository, { client, env: box.env });
    // Another machine's result took the place of the first.
    arrival.expect(early);
    arrival.expect(made);
    assert.throws(() => box.git('r', 'cat-file', '-e', made.commit));
    assert.is(await arrival.place(made, false), `mesh/${TASK}`);
  }
  assert.is(box.git('r', 'rev-parse', `mesh/${TASK}`), made.commit);
  assert.throws(() => box.git('r', 'cat-file', '-e', early.commit));
  const tampered = { ...early, bundle: { ...early.bundle, sha256: '0'.repeat(64) } };
  using arrival = new Arrival(repository, { client, env: box.env });
  arrival.expect(tampered);
  assert.is((await refused(arrival.place(tampered, true))).code, 'SF_NOT_PROVED');
});

test('a branch of that name at another commit is not moved without --force', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  box.git('r', 'branch', `mesh/${TASK}`, base);
  assert.is((await refused(place(box, made))).code, 'SF_EXISTS');
  assert.is(box.git('r', 'rev-parse', `mesh/${TASK}`), base);
  await place(box, made, true);
  assert.is(box.git('r', 'rev-parse', `mesh/${TASK}`), made.commit);
});

test('a repository the task did not run on is told from the right one', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  box.repository('other', { 'z.txt': 'z' });
  const error = await refused(placeBranch(await box.open('other'), made, work(box, made), false));
  assert.is(error.code, 'SF_REPOSITORY');
  assert.match(error.hint ?? '', /--repo/);
});

test('a bundle that is not what the receipt names is not taken in', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n' });
  const bytes = readFileSync(made.path);
  const refs = box.git('r', 'for-each-ref');
  const tampered = { ...made, bundle: { ...made.bundle, sha256: '0'.repeat(64) } };
  assert.is((await refused(place(box, tampered))).code, 'SF_NOT_PROVED');
  const longer = { ...made, bundle: { ...made.bundle, bytes: made.bundle.bytes - 1 } };
  assert.is((await refused(place(box, longer))).code, 'SF_NOT_PROVED');
  assert.is((await refused(place(box, { ...made, commit: 'f'.repeat(40) }))).code, 'SF_NOT_PROVED');
  // A byte of the pack turned, and digests that agree with it: git's own checks are what is left.
  const broken = join(box.path, 'broken.bundle');
  const turned = Buffer.from(bytes);
  turned[turned.length - 30] = (turned[turned.length - 30] ?? 0) ^ 0xff;
  writeFileSync(broken, turned);
  const given = { ...givenOf(TASK, base, made.commit, broken), path: broken };
  assert.is((await refused(place(box, given))).code, 'SF_NOT_PROVED');
  const garbage = join(box.path, 'garbage');
  writeFileSync(garbage, 'not a bundle at all\n\n');
  const none = { ...givenOf(TASK, base, made.commit, garbage), path: garbage };
  assert.is((await refused(place(box, none))).code, 'SF_NOT_PROVED');
  assert.is(box.git('r', 'for-each-ref'), refs);
});

test('objects that git fsck refuses never reach the repository', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  box.git('.', 'clone', '-q', 'r', 'evil');
  const blob = box.git('evil', 'rev-parse', 'HEAD:a.txt');
  // A tree with an entry named .git: a checkout of it would write into a repository.
  const entry = Buffer.concat([Buffer.from('100644 .git\0'), Buffer.from(blob, 'hex')]);
  const options = { cwd: join(box.path, 'evil'), env: box.env, input: entry };
  const tree = execFileSync('git', ['hash-object', '-t', 'tree', '-w', '--literally', '--stdin'], options)
    .toString()
    .trim();
  const commit = box.git('evil', 'commit-tree', tree, '-p', base, '-m', 'evil');
  box.git('evil', 'update-ref', `refs/heads/mesh/${TASK}`, commit);
  const path = join(box.path, 'evil.bundle');
  box.git('evil', 'bundle', 'create', '-q', path, `refs/heads/mesh/${TASK}`, `^${base}`);
  const made = { ...givenOf(TASK, base, commit, path), path };
  const error = await refused(place(box, made));
  assert.is(error.code, 'SF_NOT_PROVED');
  assert.is((await refused(patch(box, made))).code, 'SF_NOT_PROVED');
  assert.throws(() => box.git('r', 'cat-file', '-e', commit));
});

test('no hook, filter or monitor of the repository runs when a result is placed', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n', '.gitattributes': '* filter=spy\n' });
  const canary = join(box.path, 'ran');
  const script = `#!/bin/sh\necho ran >> ${canary}\n`;
  for (const hook of ['reference-transaction', 'post-checkout', 'post-merge', 'pre-auto-gc']) {
    writeFileSync(join(box.path, 'r/.git/hooks', hook), script);
    chmodSync(join(box.path, 'r/.git/hooks', hook), 0o755);
  }
  box.git('r', 'config', 'filter.spy.smudge', `sh -c 'echo ran >> ${canary}; cat'`);
  box.git('r', 'config', 'core.fsmonitor', `sh -c 'echo ran >> ${canary}'`);
  await place(box, made);
  await patch(box, made);
  assert.not.ok(existsSync(canary));
});

test('the patch is the difference of base and commit, taken without placing a branch', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const made = box.result('r', base, { 'a.txt': 'two\n', 'bin.dat': '\0\x01\x02' });
  const text = await patch(box, made);
  assert.match(text, /-one\n\+two\n/);
  assert.match(text, /GIT binary patch/);
  assert.is(box.git('r', 'for-each-ref').split('\n').length, 1, 'no ref was made');
  assert.throws(() => box.git('r', 'cat-file', '-e', made.commit), /./, 'nor any object');
  writeFileSync(join(box.path, 'p.patch'), text);
  box.git('r', 'apply', '--check', '../p.patch');
  const again = await place(box, made).then(() => patch(box, made));
  assert.is(again, text, 'the same patch when the branch is there');
});

test('a result of an empty workspace is shown without any repository', async () => {
  using box = new Sandbox();
  const commit = box.repository('w', { 'out.txt': '42\n' });
  const path = join(box.path, 'w.bundle');
  box.git('w', 'branch', `mesh/${TASK}`);
  box.git('w', 'bundle', 'create', '-q', path, `refs/heads/mesh/${TASK}`);
  const made = { ...givenOf(TASK, null, commit, path), path };
  assert.match(await patch(box, made, null), /\+42/);
});

async function apply(
  box: Sandbox,
  made: Made,
  how: 'merge' | 'cherry-pick' | 'checkout' = 'merge',
  force = false,
) {
  await place(box, made);
  return (await applyResult(await box.open('r'), made, how, force, box.env)).head;
}

test('merge, cherry-pick and checkout take a result in, past work on other files', async () => {
  for (const how of ['merge', 'cherry-pick', 'checkout'] as const) {
    using box = new Sandbox();
    const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
    const made = box.result('r', base, { 'a.txt': 'two\n', 'new/deep.txt': 'n\n' });
    if (how !== 'checkout') box.commit('r', { 'c.txt': 'c\n' });
    box.write('r', 'b.txt', 'mine, not committed\n');
    box.write('r', 'scratch.txt', 'mine\n');
    const head = await apply(box, made, how);
    assert.is(head, box.git('r', 'rev-parse', 'HEAD'));
    assert.is(box.read('r', 'a.txt'), 'two\n');
    assert.is(box.read('r', 'b.txt'), 'mine, not committed\n');
    assert.is(box.read('r', 'scratch.txt'), 'mine\n');
    assert.is(
      box.git('r', 'rev-list', '--count', `${base}..HEAD`),
      { merge: '3', 'cherry-pick': '2', checkout: '1' }[how],
    );
  }
});

test('uncommitted work on a file concerned is never touched: edited, staged, untracked, ignored, or in place of a folder', async () => {
  const cases: Record<string, (box: Sandbox) => void> = {
    'a.txt': (box) => box.write('r', 'a.txt', 'mine\n'),
    'b.txt': (box) => {
      box.write('r', 'b.txt', 'mine\n');
      box.git('r', 'add', 'b.txt');
    },
    'new.txt': (box) => box.write('r', 'new.txt', 'mine\n'),
    'made.log': (box) => box.write('r', 'made.log', 'mine\n'),
    'out.log/x.txt': (box) => box.write('r', 'out.log', 'mine\n'),
    'dir/x.txt': (box) => box.write('r', 'dir', 'mine\n'),
  };
  for (const how of ['merge', 'cherry-pick', 'checkout'] as const) {
    const tried = how === 'merge' ? Object.keys(cases) : ['a.txt', 'made.log'];
    for (const path of tried) {
      using box = new Sandbox();
      const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n', '.gitignore': '*.log\n' });
      box.git('r', 'config', 'core.excludesFile', '/nonexistent');
      box.git('.', 'clone', '-q', 'r', 'r.member');
      box.write('r.member', path, 'theirs\n');
      box.git('r.member', 'checkout', '-q', '-b', `mesh/${TASK}`);
      box.git('r.member', 'add', '-f', '.');
      box.git('r.member', 'commit', '-qm', 'work');
      const bundle = join(box.path, 'x.bundle');
      box.git('r.member', 'bundle', 'create', '-q', bundle, `refs/heads/mesh/${TASK}`, `^${base}`);
      const made = { ...givenOf(TASK, base, box.git('r.member', 'rev-parse', 'HEAD'), bundle), path: bundle };
      cases[path]?.(box);
      const status = box.git('r', 'status', '--porcelain', '--ignored');
      const error = await refused(apply(box, made, how));
      assert.is(error.code, 'SF_CONFLICT', `${how} ${path}`);
      assert.is(box.git('r', 'status', '--porcelain', '--ignored'), status, `${how} ${path}`);
      assert.is(box.git('r', 'rev-parse', 'HEAD'), base);
    }
  }
});

test('a conflict is taken back whole', async () => {
  for (const how of ['merge', 'cherry-pick'] as const) {
    using box = new Sandbox();
    const base = box.repository('r', { 'a.txt': 'one\n', 'b.txt': 'b\n' });
    const made = box.result('r', base, { 'a.txt': 'theirs\n' });
    const head = box.commit('r', { 'a.txt': 'ours\n' });
    box.write('r', 'b.txt', 'mine\n');
    const error = await refused(apply(box, made, how));
    assert.is(error.code, 'SF_CONFLICT');
    assert.is(box.git('r', 'rev-parse', 'HEAD'), head);
    assert.is(box.git('r', 'status', '--porcelain'), 'M b.txt');
    assert.is(box.read('r', 'b.txt'), 'mine\n');
  }
});

test('a result that changes git attributes or modules is applied only by force, and no hook of it ever runs', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  box.git('r', 'config', 'core.hooksPath', '.hooks');
  const canary = join(box.path, 'ran');
  const made = box.result('r', base, {
    'sub/.gitattributes': '* -text\n',
    '.hooks/post-merge': `#!/bin/sh\necho > ${canary}\n`,
  });
  assert.is((await refused(apply(box, made))).code, 'SF_CONFLICT');
  await apply(box, made, 'merge', true);
  chmodSync(join(box.path, 'r/.hooks/post-merge'), 0o755);
  assert.not.ok(existsSync(canary));
});

test('a result that says where git fetches from, or which settings it reads, is applied only by force', async () => {
  for (const name of ['.lfsconfig', 'sub/.gitmodules', '.gitconfig']) {
    using box = new Sandbox();
    const made = box.result('r', box.repository('r'), { [name]: '[lfs]\n\turl = https://example.invalid\n' });
    assert.is((await refused(apply(box, made))).code, 'SF_CONFLICT', name);
  }
});

function artifact(box: Sandbox, path: string, text: string) {
  const at = join(box.path, `blob-${path.replaceAll('/', '_')}`);
  writeFileSync(at, text);
  return { file: at, artifact: { path, ...givenOf('', null, '', at).bundle } };
}

test('artifacts are written under their folder, whole, and not over what is there', async () => {
  using box = new Sandbox();
  const one = artifact(box, 'dist/app.js', 'app');
  const two = artifact(box, 'report.txt', 'fine');
  const client = clientOf(one.file, two.file);
  const folder = join(box.path, 'mesh-x');
  const written = await placeArtifacts(client, [one.artifact, two.artifact], folder, false);
  assert.equal(written, [join(folder, 'dist/app.js'), join(folder, 'report.txt')]);
  assert.is(readFileSync(join(folder, 'dist/app.js'), 'utf8'), 'app');
  writeFileSync(join(folder, 'report.txt'), 'mine');
  assert.is((await refused(placeArtifacts(client, [two.artifact], folder, false))).code, 'SF_EXISTS');
  assert.is(readFileSync(join(folder, 'report.txt'), 'utf8'), 'mine');
  await placeArtifacts(client, [two.artifact], folder, true);
  assert.is(readFileSync(join(folder, 'report.txt'), 'utf8'), 'fine');
});

test('an artifact never follows a link, leaves its folder, or enters a repository', async () => {
  using box = new Sandbox();
  const outside = join(box.path, 'outside');
  const folder = join(box.path, 'out');
  mkdirSync(outside);
  mkdirSync(folder);
  writeFileSync(join(outside, 'target'), 'untouched');
  symlinkSync(outside, join(folder, 'link'));
  symlinkSync(join(outside, 'target'), join(folder, 'file'));
  symlinkSync(join(outside, 'new'), join(folder, 'dangling'));
  for (const path of [
    'link/target',
    'file',
    'dangling',
    '../outside/target',
    '.git/hooks/post-checkout',
    'a/.GIT/config',
    'GIT~1/x',
    '.git./x',
    'a//b',
  ]) {
    for (const force of [false, true]) {
      const evil = artifact(box, path, 'evil');
      const client = clientOf(evil.file);
      try {
        await placeArtifacts(client, [evil.artifact], folder, force);
        // By force a link is replaced by the file; what it pointed to stays as it was.
        assert.ok(force && ['file', 'dangling'].includes(path), `${path} was written`);
        assert.is(readFileSync(join(folder, path), 'utf8'), 'evil');
      } catch (thrown) {
        assert.instance(thrown, SuperfleetError, String(thrown));
        assert.ok(['SF_EXISTS', 'SF_REFUSED'].includes((thrown as SuperfleetError).code));
      }
      assert.is(readFileSync(join(outside, 'target'), 'utf8'), 'untouched', path);
      assert.not.ok(existsSync(join(outside, 'new')), path);
    }
  }
});

test('an artifact with other bytes than the receipt names is not kept', async () => {
  using box = new Sandbox();
  const one = artifact(box, 'a.bin', 'good');
  const wrong = { ...one.artifact, sha256: '0'.repeat(64) };
  const folder = join(box.path, 'out');
  assert.is(
    (await refused(placeArtifacts(clientOf(one.file), [wrong], folder, false))).code,
    'SF_NOT_PROVED',
  );
  assert.not.ok(existsSync(join(folder, 'a.bin')));
});

test.run();
