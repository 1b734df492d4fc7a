import { createReadStream, createWriteStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../../node/api/client.ts';
import { parseBundleHeader } from '../../../node/git/bundle-header.ts';
import { openRepository, resolveRef, uncommitted } from '../../../node/submit/repository.ts';
import {
  bundleBytes,
  describeInput,
  type MadeBundle,
  makeBundle,
  recentCommits,
  sendBase,
} from '../../../node/submit/send.ts';
import { TestHub } from '../../hub/api/hub.ts';
import { refused } from '../../refused.ts';
import { Sandbox } from './repositories.ts';

async function written(made: MadeBundle, path: string): Promise<void> {
  await pipeline(bundleBytes(made), createWriteStream(path));
}

async function headOf(path: string): Promise<ReturnType<typeof parseBundleHeader>> {
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream(path)) chunks.push(chunk as Buffer);
  return parseBundleHeader(Buffer.concat(chunks));
}

test('a repository is found from a folder inside it, and named by its path', async () => {
  using box = new Sandbox();
  const base = box.repository('shop', { 'src/deep/a.txt': 'x' });
  const repository = await openRepository(null, { cwd: join(box.path, 'shop/src/deep'), env: box.env });
  assert.is(repository.folder, join(box.path, 'shop'));
  const input = await describeInput(repository, 'HEAD');
  assert.equal(input, { id: base, name: 'shop', ref: 'HEAD', base });
});

test('branch, tag, abbreviated commit and detached HEAD are all references', async () => {
  using box = new Sandbox();
  const first = box.repository('r');
  box.git('r', 'tag', '-a', 'v1', '-m', 'v1');
  const second = box.commit('r', { 'a.txt': 'two\n' });
  box.git('r', 'branch', 'feature', first);
  const repository = await box.open('r');
  assert.is(await resolveRef(repository, 'v1'), first, 'an annotated tag is the commit it names');
  assert.is(await resolveRef(repository, 'feature'), first);
  assert.is(await resolveRef(repository, second.slice(0, 8)), second);
  assert.is(await resolveRef(repository, 'HEAD~1'), first);
  box.git('r', 'checkout', '-q', '--detach', first);
  assert.is(await resolveRef(repository, 'HEAD'), first);
});

test('a reference that does not exist is refused by its name', async () => {
  using box = new Sandbox();
  box.repository('r');
  const repository = await box.open('r');
  for (const ref of [
    'nope',
    '--all',
    '-h',
    'a b',
    '',
    'HEAD:a.txt',
    'HEAD~1..HEAD',
    '^HEAD',
    'x'.repeat(300),
  ]) {
    const error = await refused(resolveRef(repository, ref));
    assert.is(error.code, 'SF_REPOSITORY', ref);
    assert.is(error.got, ref);
    assert.equal((await refused(recentCommits(repository, ref))).toJSON(), error.toJSON());
  }
});

test('an empty repository and a folder without one are refused with what to do', async () => {
  using box = new Sandbox();
  box.git('.', 'init', '-q', 'empty');
  const empty = await refused(resolveRef(await box.open('empty'), 'HEAD'));
  assert.is(empty.code, 'SF_REPOSITORY');
  assert.match(empty.message, /no commit yet/);
  assert.match(empty.hint ?? '', /--include-dirty/);
  const none = await refused(box.open('.'));
  assert.match(none.hint ?? '', /--repo PATH.*--no-repo/);
  const missing = await refused(openRepository('not-there', { cwd: box.path, env: box.env }));
  assert.is(missing.code, 'SF_REPOSITORY');
});

test('a linked work tree and a bare repository send the same commits as the one they belong to', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  box.git('r', 'worktree', 'add', '-q', '../linked', '-b', 'linked');
  const there = box.commit('linked', { 'b.txt': 'b\n' });
  const linked = await box.open('linked');
  assert.equal(await describeInput(linked, 'HEAD'), { id: base, name: 'r', ref: 'HEAD', base: there });
  const made = await makeBundle(linked, there, [], join(box.path), box.env);
  await written(made, join(box.path, 'out.bundle'));
  box.git('.', 'init', '-q', '--bare', 'target.git');
  box.git('target.git', 'fetch', '-q', join(box.path, 'out.bundle'), 'refs/heads/base:refs/heads/x');
  assert.is(box.git('target.git', 'rev-parse', 'x'), there);
  box.git('.', 'clone', '-q', '--bare', 'r', 'bare.git');
  const bare = await box.open('bare.git');
  assert.is((await describeInput(bare, 'main')).name, 'bare');
  assert.equal(await uncommitted(bare), []);
});

test('with a known commit the bundle is thin and rests on it alone', async () => {
  using box = new Sandbox();
  const big = Array.from({ length: 5000 }, (_, at) => `line ${at} ${Math.imul(at, 2654435761)}`).join('\n');
  const known = box.repository('r', { 'big.txt': big });
  const base = box.commit('r', { 'big.txt': `${big}\nmore` });
  const repository = await box.open('r');
  const made = await makeBundle(repository, base, [known], box.path, box.env);
  assert.equal(made.prerequisites, [known]);
  assert.ok(made.bytes < 1500, `${made.bytes} bytes`);
  await written(made, join(box.path, 'thin.bundle'));
  const header = await headOf(join(box.path, 'thin.bundle'));
  assert.equal(header.prerequisites, [known]);
  assert.is(header.refs[0]?.commit, base);
  assert.equal(readdirSync(join(box.path, 'r/.git/refs/heads')), ['main'], 'the repository was only read');
});

test('merged branches older than the known commit do not make it rest on what the mesh never heard of', async () => {
  using box = new Sandbox();
  box.repository('r');
  box.git('r', 'checkout', '-q', '-b', 'side');
  box.commit('r', { 'side.txt': 's\n' });
  box.git('r', 'checkout', '-q', 'main');
  const known = box.commit('r', { 'a.txt': 'two\n' });
  box.git('r', 'merge', '-q', '--no-ff', '-m', 'merge', 'side');
  const base = box.git('r', 'rev-parse', 'HEAD');
  const made = await makeBundle(await box.open('r'), base, [known], box.path, box.env);
  await written(made, join(box.path, 'm.bundle'));
  assert.equal((await headOf(join(box.path, 'm.bundle'))).prerequisites, [known]);
  // Whoever holds what was sent before can take it in.
  box.git('.', 'init', '-q', '--bare', 'mesh.git');
  box.git('mesh.git', 'fetch', '-q', '../r', `${known}:refs/heads/known`);
  box.git('mesh.git', 'fetch', '-q', '../m.bundle', 'refs/heads/base:refs/heads/new');
  box.git('mesh.git', 'fsck', '--full', '--strict');
  assert.is(box.git('mesh.git', 'rev-parse', 'new'), base);
});

test('a repository with SHA-256 objects is sent as it is', async () => {
  using box = new Sandbox();
  const known = box.repository('r', { 'a.txt': 'x' }, '--object-format=sha256');
  const base = box.commit('r', { 'a.txt': 'y' });
  const made = await makeBundle(await box.open('r'), base, [known], box.path, box.env);
  await written(made, join(box.path, 's.bundle'));
  const header = await headOf(join(box.path, 's.bundle'));
  assert.is(header.objectFormat, 'sha256');
  assert.equal(header.prerequisites, [known]);
});

test('replaced objects of this clone are not sent for the real ones', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const other = box.commit('r', { 'a.txt': 'other\n' });
  box.git('r', 'replace', base, other);
  const made = await makeBundle(await box.open('r'), base, [], box.path, box.env);
  await written(made, join(box.path, 'r.bundle'));
  box.git('.', 'init', '-q', '--bare', 't.git');
  box.git('t.git', 'fetch', '-q', '../r.bundle', 'refs/heads/base:refs/heads/x');
  assert.is(box.git('t.git', 'show', 'x:a.txt'), 'one');
});

test('uncommitted changes are counted: edited, staged, renamed, untracked; ignored ones are not', async () => {
  using box = new Sandbox();
  box.repository('r', {
    'a.txt': 'a',
    'b.txt': 'b',
    'c.txt': 'long enough to be a rename',
    '.gitignore': 'x.log\n',
  });
  box.write('r', 'a.txt', 'edited');
  box.write('r', 'new.txt', 'n');
  box.write('r', 'x.log', 'ignored');
  box.git('r', 'mv', 'c.txt', 'd.txt');
  const paths = (await uncommitted(await box.open('r'))).map((change) => change.path).sort();
  assert.equal(paths, ['a.txt', 'c.txt', 'd.txt', 'new.txt']);
});

test('the founder is asked which commits it knows; the second task sends the rest, the third nothing', async () => {
  using box = new Sandbox();
  const hub = await new TestHub().listen();
  try {
    const client = new Client({ dir: hub.dir, startHint: '' });
    const first = box.repository('r', { 'a.txt': 'x'.repeat(10_000) });
    const send = async (ref: string, full = false) => {
      const repository = await box.open('r');
      const input = await describeInput(repository, ref);
      const bundle = await sendBase(client, repository, await recentCommits(repository, ref), {
        full,
        env: box.env,
      });
      const spec = { kind: 'command', argv: ['true'], repository: input };
      await client.post('/v1/tasks', { spec, bundle });
      return bundle;
    };
    assert.equal((await send('HEAD'))?.prerequisites, []);
    const second = box.commit('r', { 'b.txt': 'b' });
    const thin = await send('HEAD');
    assert.equal(thin?.prerequisites, [first]);
    assert.is(await send('HEAD'), null);
    assert.is(await send('HEAD~1'), null, 'what was sent first can be handed out too');
    assert.equal((await send('HEAD', true))?.prerequisites, [], 'a full bundle rests on nothing');
    assert.is(thin?.commit, second);
    assert.ok(await hub.blobs.has(thin?.bundle ?? ''));
  } finally {
    await hub.close();
  }
});

test('nothing of a submission is left in the temporary folder', async () => {
  using box = new Sandbox();
  const hub = await new TestHub().listen();
  const before = readdirSync(join(box.path, '..')).filter((name) => name.startsWith('superfleet-'));
  try {
    box.repository('r');
    const repository = await box.open('r');
    await sendBase(hub.client(), repository, await recentCommits(repository, 'HEAD'), {
      full: false,
      env: box.env,
    });
  } finally {
    await hub.close();
  }
  const left = readdirSync(join(box.path, '..')).filter((name) => name.startsWith('superfleet-'));
  assert.equal(
    left.filter((name) => !before.includes(name) && existsSync(join(box.path, '..', name, 'base.pack'))),
    [],
  );
});

test.run();
