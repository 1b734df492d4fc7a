import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../../node/api/objects.ts';
import { openRepository } from '../../../node/submit/repository.ts';
import { makeBundle, type OnProgress } from '../../../node/submit/send.ts';
import { staysBehind } from '../../../node/submit/stays-behind.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { TestHub } from '../../hub/api/hub.ts';
import { Sandbox } from './repositories.ts';

const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 12345\n`;

async function withHub(body: (hub: TestHub, box: Sandbox) => Promise<void>): Promise<void> {
  using box = new Sandbox();
  const hub = await new TestHub().listen();
  try {
    await body(hub, box);
  } finally {
    await hub.close();
  }
}

test('a dirty tree is no error: task run names what does not go along and offers --include-dirty, which sends it', () =>
  withHub(async (hub, box) => {
    const head = box.repository('r', { 'a.txt': 'one\n' });
    box.write('r', 'a.txt', 'two\n');
    box.write('r', 'new\n.txt', 'n\n');
    const cwd = join(box.path, 'r');
    const plain = await hub.run(['task', 'run', '--', 'true'], { cwd });
    assert.is(plain.code, 0, plain.err);
    assert.match(
      plain.err,
      /^note: 2 uncommitted changes are not sent \(a\.txt, new.*\.txt\); the task runs on/,
    );
    assert.match(plain.err, /\n {6}--include-dirty sends your files as they are\n/);
    // No machine has joined this mesh: that is the third line.
    assert.match(plain.err, /\nnote: it waits: no member can take it[^\n]*\n$/);
    assert.is(plain.err.split('\n').length, 4, 'three lines');
    const whole = await hub.run(['task', 'run', '--include-dirty', '--', 'true'], { cwd });
    assert.is(whole.code, 0, whole.err);
    const describe = await hub.run(['task', 'describe', whole.out.trim(), '--json']);
    const task = describe.json() as unknown as TaskDetail;
    assert.is.not(task.base, head);
    assert.equal(task.baseBundle?.prerequisites, [head]);
    assert.match(
      whole.err,
      new RegExp(`a snapshot of your files on ${head.slice(0, 12)}; nothing was changed`),
    );
    assert.not.match(whole.err, /not sent/);
    const again = await hub.run(['task', 'run', '--include-dirty', '--', 'true'], { cwd });
    const second = (await hub.run(['task', 'describe', again.out.trim(), '--json'])).json();
    assert.is(second.base, task.base, 'the same files are sent once');
    for (const other of [['--ref', 'main'], ['--no-repo']]) {
      const done = await hub.run(['task', 'run', '--include-dirty', ...other, '--', 'true'], { cwd });
      assert.is(done.code, 2, other[0]);
    }
  }));

test('an empty repository and an unborn branch: the way on is told, and --include-dirty goes it', () =>
  withHub(async (hub, box) => {
    box.git('.', 'init', '-q', 'r');
    box.write('r', 'a.txt', 'first\n');
    const cwd = join(box.path, 'r');
    const none = await hub.run(['task', 'run', '--', 'true'], { cwd });
    assert.is(none.code, 2);
    assert.match(none.err, /no commit yet[\s\S]*--include-dirty/);
    const done = await hub.run(['task', 'run', '--include-dirty', '--', 'true'], { cwd });
    assert.is(done.code, 0, done.err);
    assert.match(done.err, /a snapshot of your files; nothing/);
    assert.throws(() => box.git('r', 'rev-parse', '--verify', '-q', 'HEAD'));
  }));

test('a shallow clone is sent without its history, and says so', () =>
  withHub(async (hub, box) => {
    box.repository('r');
    box.commit('r', { 'a.txt': 'two\n' });
    box.git('.', 'clone', '-q', '--depth', '1', `file://${box.path}/r`, 'shallow');
    for (const more of [[], ['--ref', 'HEAD']]) {
      const done = await hub.run(['task', 'run', ...more, '--', 'true'], { cwd: join(box.path, 'shallow') });
      assert.is(done.code, 0, done.err);
      assert.match(done.err, /this clone is shallow: the task gets no history; git fetch --unshallow/);
      const task = (await hub.run(['task', 'describe', done.out.trim(), '--json'])).json();
      assert.equal((task as unknown as TaskDetail).baseBundle?.prerequisites, []);
    }
  }));

test('submodules and Git LFS pointers are named, and a folder below the top is told where the task begins', () =>
  withHub(async (hub, box) => {
    box.repository('library');
    box.repository('r', {
      '.gitattributes': '*.psd filter=lfs diff=lfs merge=lfs -text\n',
      'art/größe 1.psd': pointer,
      'text.txt': 'no pointer\n',
      'sub/x.txt': 'x\n',
    });
    const from = join(box.path, 'library');
    box.git('r', '-c', 'protocol.file.allow=always', 'submodule', 'add', '-q', from, 'vendor/lib');
    const base = box.commit('r', {});
    const done = await hub.run(['task', 'run', '--', 'true'], { cwd: join(box.path, 'r/sub') });
    assert.is(done.code, 0, done.err);
    assert.match(done.err, /submodules are not sent, the task finds empty folders: vendor\/lib\n/);
    assert.match(
      done.err,
      /1 file of Git LFS is sent as a pointer, without the content: art\/größe 1\.psd\n/,
    );
    assert.match(done.err, /the task begins at the top of the repository/);
    assert.equal(await staysBehind(await box.open('r'), base, box.env), {
      submodules: ['vendor/lib'],
      pointers: ['art/größe 1.psd'],
    });
  }));

const manifest = `checks: [npm test, "sh lint.sh"]
checkFiles: [fixtures/**]
limits: {memory: 512MiB, workspace: 1GiB, processes: 64, timeout: 5m, checkTimeout: 90s}
needs: {tools: {node: ">=20", make: "*"}}
`;

test('a task that names no checks, check files, limits or tools has those of .superfleet.yaml at its base, and says so', () =>
  withHub(async (hub, box) => {
    box.repository('r', { '.superfleet.yaml': manifest });
    const cwd = join(box.path, 'r');
    const sent = async (words: string[]) => {
      const done = await hub.run(['task', 'run', ...words, '--', 'true'], { cwd });
      assert.is(done.code, 0, done.err);
      const described = await hub.run(['task', 'describe', done.out.trim(), '--json']);
      const { spec } = described.json() as unknown as TaskDetail;
      return { err: done.err, spec };
    };
    const plain = await sent([]);
    assert.equal(plain.spec.checks, ['npm test', 'sh lint.sh']);
    assert.equal(plain.spec.checkFiles, ['fixtures/**']);
    const MiB = 2 ** 20;
    assert.equal(plain.spec.limits, { memoryBytes: 512 * MiB, workspaceBytes: 1024 * MiB, processes: 64 });
    assert.equal([plain.spec.timeoutMs, plain.spec.checkTimeoutMs], [300_000, 90_000]);
    assert.equal(plain.spec.tools, { node: '>=20', make: '*' });
    assert.match(plain.err, 'note: checks of .superfleet.yaml: npm test; sh lint.sh (--check names others');
    assert.match(plain.err, 'note: also of .superfleet.yaml: checkFiles, limits.memory, limits.workspace');

    const own = await sent(['--check', 'true', '--memory', '1GiB', '--timeout', '1m', '--tool', 'node>=22']);
    assert.equal(own.spec.checks, ['true']);
    assert.equal([own.spec.limits.memoryBytes, own.spec.limits.processes], [1024 * MiB, 64]);
    assert.equal([own.spec.timeoutMs, own.spec.checkTimeoutMs], [60_000, 90_000]);
    assert.equal(own.spec.tools, { node: '>=22', make: '*' });
    assert.not.match(own.err, 'checks of');
    assert.not.match(own.err, 'limits.memory');
    assert.equal((await sent(['--no-check'])).spec.checks, []);
    assert.equal((await sent(['--no-check', '--check', 'make'])).spec.checks, ['make']);

    // The files that lie here count where they are what is sent, and only there.
    box.write('r', '.superfleet.yaml', 'checks: [make check]\n');
    assert.equal((await sent([])).spec.checks, ['npm test', 'sh lint.sh']);
    const whole = await sent(['--include-dirty']);
    assert.equal(whole.spec.checks, ['make check']);
    assert.equal(whole.spec.timeoutMs, 30 * 60_000);
  }));

test('a manifest that is not of the form, or no file, is told of before anything is sent', () =>
  withHub(async (hub, box) => {
    box.repository('r', { '.superfleet.yaml': 'checks: [a]\nlimits: {memory: 3 bananas}\n' });
    const cwd = join(box.path, 'r');
    const done = await hub.run(['task', 'run', '--', 'true'], { cwd });
    assert.is(done.code, 2, done.err);
    assert.match(done.err, '.superfleet.yaml, line 2, has a wrong `limits.memory`');
    box.commit('r', { '.superfleet.yaml': `# ${'x'.repeat(70_000)}\n` });
    const large = await hub.run(['task', 'run', '--', 'true'], { cwd });
    assert.is(large.code, 2, large.err);
    assert.match(large.err, 'too large');
    box.git('r', 'rm', '-q', '.superfleet.yaml');
    box.commit('r', { '.superfleet.yaml/inside': 'checks: [a]\n' });
    const folder = await hub.run(['task', 'run', '--', 'true'], { cwd });
    assert.is(folder.code, 0, folder.err);
    assert.not.match(folder.err, 'checks of');
  }));

test('a repository of somebody else is named with what to do, and works once git trusts it', async () => {
  if (process.getuid?.() !== 0) return void console.log('SKIPPED: giving a folder away needs root');
  using box = new Sandbox();
  box.repository("it's theirs/r");
  const folder = join(box.path, "it's theirs/r");
  execFileSync('chown', ['-R', '12345:12345', folder]);
  const error: SuperfleetError = await box.open("it's theirs/r").then(
    () => assert.unreachable('it was opened'),
    (thrown) => thrown,
  );
  assert.is(error.code, 'SF_REPOSITORY');
  assert.match(error.message, /belongs to another user/);
  const command = /git config .*$/.exec(error.hint ?? '')?.[0] ?? '';
  const env = { ...box.env, HOME: box.path };
  execFileSync('sh', ['-c', command], { env });
  assert.is((await openRepository(folder, { cwd: '/', env })).folder, folder);
});

test('a large repository: progress is told while it is bundled, and its bytes are not held in memory', async () => {
  using box = new Sandbox();
  box.repository('r');
  // Bytes that do not compress, of 64 MiB.
  execFileSync('sh', ['-c', 'for n in 1 2 3 4; do head -c 16777216 /dev/urandom >big$n; done'], {
    cwd: join(box.path, 'r'),
  });
  const base = box.commit('r', {});
  const told: [string, number, number][] = [];
  const onProgress: OnProgress = (...words) => void told.push(words);
  const before = process.memoryUsage().rss;
  const made = await makeBundle(await box.open('r'), base, [], box.path, box.env, undefined, onProgress);
  assert.ok(made.bytes > 64 * 2 ** 20);
  assert.ok(process.memoryUsage().rss - before < 32 * 2 ** 20, 'memory does not grow with it');
  const [step, done, total] = told.at(-1) ?? [];
  assert.equal([step, done], ['bundling', total]);
});

test.run();
