import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  folderFormat,
  folderPaths,
  handOverFolder,
  openFolder,
  readFormat,
  upgradeFolder,
} from '../../node/folder.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';

const HOLDER = new URL('./folder-holder.ts', import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;

/** Runs with the path of a folder that is not there yet, and takes away what came of it. */
const withPath = (name: string, run: (root: string) => Promise<void>): void =>
  test(name, async () => {
    const parent = await mkdtemp(join(tmpdir(), 'superfleet-folder-'));
    await run(join(parent, 'data')).finally(() => rm(parent, { recursive: true }));
  });

const refusal = (promise: Promise<unknown>): Promise<SuperfleetError> =>
  promise.then(
    () => assert.unreachable('it was not refused') as never,
    (error) => error,
  );

async function hold(root: string, wrapper: string[] = []): Promise<ChildProcess> {
  const [command, ...rest] = [...wrapper, process.execPath, HOLDER, root];
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout!, 'data');
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  // Its output closes when the last process that has it is gone, in whatever namespace.
  const gone = once(child, 'close');
  child.kill('SIGKILL');
  await gone;
}

withPath('a new folder is 0700, has a format file and every part, and opens again', async (root) => {
  const folder = await openFolder(root, { create: true });
  assert.is(statSync(root).mode & 0o777, 0o700);
  assert.is(readFileSync(folder.paths.format, 'utf8'), 'superfleet-folder 1\n');
  assert.is(readFileSync(folder.paths.pid, 'utf8'), `${process.pid}\n`);
  for (const part of [folder.paths.log, folder.paths.index, folder.paths.run, folder.paths.attempts]) {
    assert.is(statSync(part).mode & 0o777, 0o700, part);
  }
  await folder.release();
  await (await openFolder(root)).release();
});

withPath('a folder that is not there, or empty, is made only when asked', async (root) => {
  assert.is((await refusal(openFolder(root))).code, 'SF_NOT_FOUND');
  mkdirSync(root, { mode: 0o700 });
  assert.is((await refusal(openFolder(root))).code, 'SF_NOT_FOUND');
  assert.equal(await readdir(root), []);
  await (await openFolder(root, { create: true })).release();
});

withPath('what is no data folder is refused and left as it is', async (root) => {
  mkdirSync(root, { mode: 0o700 });
  writeFileSync(join(root, 'thesis.tex'), 'x');
  const error = await refusal(openFolder(root, { create: true }));
  assert.is(error.code, 'SF_FOLDER');
  assert.match(error.got!, /thesis\.tex/);
  assert.equal(await readdir(root), ['thesis.tex']);
  const file = `${root}-file`;
  writeFileSync(file, '');
  assert.is((await refusal(openFolder(file, { create: true }))).code, 'SF_FOLDER');
  symlinkSync(root, `${root}-link`);
  assert.is((await refusal(openFolder(`${root}-link`))).code, 'SF_FOLDER');
});

withPath('a folder that others can reach is refused with the command that mends it', async (root) => {
  await (await openFolder(root, { create: true })).release();
  chmodSync(root, 0o750);
  const error = await refusal(openFolder(root));
  assert.is(error.code, 'SF_FOLDER');
  assert.equal([error.expected, error.got, error.hint], ['mode 0700', 'mode 0750', `chmod 700 ${root}`]);
});

withPath('a folder of a newer format is refused with both versions, and nothing is changed', async (root) => {
  const { paths, release } = await openFolder(root, { create: true });
  await release();
  writeFileSync(paths.format, 'superfleet-folder 2\n');
  const error = await refusal(openFolder(root));
  assert.is(error.code, 'SF_FORMAT');
  assert.equal([error.expected, error.got], ['superfleet-folder 1', 'superfleet-folder 2']);
  assert.match(error.hint!, /newer Superfleet/);
  assert.is(readFileSync(paths.format, 'utf8'), 'superfleet-folder 2\n');
  for (const text of ['', 'superfleet-folder', 'superfleet-folder 1', 'superfleet-folder 01\n', 'hello\n']) {
    writeFileSync(paths.format, text);
    assert.is((await refusal(openFolder(root))).code, 'SF_FORMAT', JSON.stringify(text));
  }
  // A refused open lets go of the lock.
  writeFileSync(paths.format, 'superfleet-folder 1\n');
  await (await openFolder(root)).release();
});

withPath(
  'an older format is upgraded step by step, or refused whole where a step is missing',
  async (root) => {
    mkdirSync(root);
    const paths = folderPaths(root);
    const done: number[] = [];
    const step = (n: number) => async () => {
      done.push(n);
    };
    await upgradeFolder(paths, 2, { 2: step(2), 3: step(3) }, 4);
    assert.equal(done, [2, 3]);
    assert.is(await readFormat(paths), 4);
    const error = await refusal(upgradeFolder(paths, 1, { 1: step(1), 3: step(3) }, 4));
    assert.is(error.code, 'SF_FORMAT');
    assert.match(error.hint!, /format 2/);
    assert.equal(done, [2, 3]);
    // A step that fails leaves the number of what is there.
    const broken = { 4: step(4), 5: async () => Promise.reject(new Error('broken')) };
    assert.is((await refusal(upgradeFolder(paths, 4, broken, 6))).message, 'broken');
    assert.is(await readFormat(paths), 5);
    assert.is(folderFormat, 1);
  },
);

withPath(
  'a folder in use by another process is refused with its pid, and by this one as well',
  async (root) => {
    const child = await hold(root);
    const error = await refusal(openFolder(root));
    assert.is(error.code, 'SF_LOCKED');
    assert.is(error.exitCode, 6);
    assert.match(error.got!, new RegExp(`process ${child.pid}$`));
    await end(child);
    const folder = await openFolder(root);
    assert.is((await refusal(openFolder(root))).code, 'SF_LOCKED');
    await folder.release();
  },
);

withPath('the lock dies with its process, however often it is killed', async (root) => {
  for (let round = 0; round < 4; round += 1) await end(await hold(root));
  await (await openFolder(root)).release();
});

withPath('of many that open at once exactly one has it', async (root) => {
  await (await openFolder(root, { create: true })).release();
  const children = Array.from({ length: 6 }, () =>
    spawn(process.execPath, [HOLDER, root], { stdio: ['ignore', 'pipe', 'pipe'] }),
  );
  const outcomes = await Promise.all(
    children.map((child) =>
      Promise.race([
        once(child.stdout, 'data').then(() => 'held'),
        once(child, 'exit').then(() => 'refused'),
      ]),
    ),
  );
  assert.is(outcomes.filter((outcome) => outcome === 'held').length, 1, outcomes.join());
  for (const [at, child] of children.entries()) if (outcomes[at] === 'held') await end(child);
});

withPath('a lock whose database is damaged still locks', async (root) => {
  const { paths, release } = await openFolder(root, { create: true });
  await release();
  writeFileSync(join(paths.lock, 'CURRENT'), 'garbage\n');
  const child = await hold(root);
  writeFileSync(join(paths.lock, 'CURRENT'), 'garbage\n');
  assert.is((await refusal(openFolder(root))).code, 'SF_LOCKED');
  await end(child);
  await (await openFolder(root)).release();
});

const namespaces = ['unshare', '-rnpf', '--kill-child'];
if (spawnSync(namespaces[0]!, [...namespaces.slice(1), 'true']).status === 0) {
  withPath('the lock holds across network and pid namespaces', async (root) => {
    await (await openFolder(root, { create: true })).release();
    const child = await hold(root, namespaces);
    assert.is((await refusal(openFolder(root))).code, 'SF_LOCKED');
    await end(child);
    // The holder is the first of its pid namespace and goes with the command that made it, a moment later.
    for (let tries = 0; ; tries += 1) {
      const opened = await openFolder(root).catch((error) => error);
      if ('release' in opened) return opened.release();
      assert.ok(opened.code === 'SF_LOCKED' && tries < 1000);
      await new Promise(setImmediate);
    }
  });
} else {
  console.log('skipped: unshare -rnpf does not work here');
  test.skip('the lock holds across network and pid namespaces', () => undefined);
}

if (isRoot) {
  withPath(
    'root hands a new folder over to the account it drops to, and leaves alone what is the account’s',
    async (root) => {
      const owner = { uid: 64_123, gid: 64_123 };
      await (await openFolder(root, { create: true })).release();
      symlinkSync('/etc/passwd', join(root, 'link'));
      await handOverFolder(root, owner);
      assert.is(statSync(root).uid, owner.uid);
      assert.is(statSync(join(root, 'format')).uid, owner.uid);
      assert.is(statSync(join(root, 'lock', 'LOCK')).uid, owner.uid);
      assert.is(statSync('/etc/passwd').uid, 0);
      writeFileSync(join(root, 'roots'), '');
      await handOverFolder(root, owner);
      assert.is(statSync(join(root, 'roots')).uid, 0);
      chownSync(root, 64_124, 64_124);
      assert.is((await refusal(handOverFolder(root, owner))).code, 'SF_FOLDER');
      const foreign = `${root}-foreign`;
      mkdirSync(foreign, { mode: 0o700 });
      writeFileSync(join(foreign, 'thesis.tex'), '');
      assert.is((await refusal(handOverFolder(foreign, owner))).code, 'SF_FOLDER');
      assert.is(statSync(join(foreign, 'thesis.tex')).uid, 0);
    },
  );
} else {
  console.log('skipped: handing a folder over needs root');
  test.skip('root hands a new folder over to the account it drops to', () => undefined);
}

test.run();
