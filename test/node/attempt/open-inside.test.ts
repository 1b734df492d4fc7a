import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { InsideFolder } from '../../../node/attempt/open-inside.ts';
import { dropRoot } from '../../unprivileged.ts';

dropRoot();

const test = suite('a folder that a task filled');
let outside = '';
let path = '';
let root: InsideFolder;
const at = (name: string): string => join(path, name);
const text = (name: string): string => fs.readFileSync(at(name), 'utf8');
const mode = (name: string): string => (fs.statSync(at(name)).mode & 0o7777).toString(8);

test.before.each(async () => {
  outside = fs.mkdtempSync(join(tmpdir(), 'superfleet-inside-'));
  path = join(outside, 'workspace');
  fs.mkdirSync(path);
  fs.writeFileSync(join(outside, 'secret'), 'outside');
  root = await InsideFolder.root(path);
});
test.after.each(async () => {
  await root.close();
  fs.rmSync(outside, { recursive: true });
});

async function rejects(promise: Promise<unknown>, words: RegExp): Promise<void> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.instance(error, Error);
  assert.match((error as Error).message, words);
}

test('a new file has mode 0644 and a new folder 0755, whatever the umask', async () => {
  const umask = process.umask(0o077);
  try {
    const folder = await root.makeFolder('a');
    assert.ok(await folder?.replace('b', Buffer.from('x')));
    await folder?.close();
  } finally {
    process.umask(umask);
  }
  assert.is(text('a/b'), 'x');
  assert.is(mode('a/b'), '644');
  assert.is(mode('a'), '755');
});

test('a folder that is there is opened as it is', async () => {
  fs.mkdirSync(at('a'), 0o700);
  const folder = await root.makeFolder('a');
  assert.ok(folder);
  await folder?.close();
  assert.is(mode('a'), '700');
});

test('a file that is replaced keeps its permissions, never its set-uid bit, and nothing else is left', async () => {
  fs.writeFileSync(at('run.sh'), 'old');
  fs.chmodSync(at('run.sh'), 0o4755);
  assert.ok(await root.replace('run.sh', Buffer.from('new')));
  assert.is(text('run.sh'), 'new');
  assert.is(mode('run.sh'), '755');
  assert.equal(fs.readdirSync(path), ['run.sh']);
});

test('a link is neither followed nor replaced, be it to a file, a folder or nothing', async () => {
  fs.symlinkSync(join(outside, 'secret'), at('file'));
  fs.symlinkSync(outside, at('folder'));
  fs.symlinkSync(join(outside, 'new'), at('dangling'));
  for (const name of ['file', 'folder', 'dangling']) {
    assert.is(await root.replace(name, Buffer.from('evil')), false, name);
    assert.is(await root.makeFolder(name), null, name);
    assert.is(await root.file(name), null, name);
    assert.is(await root.folder(name), null, name);
    assert.ok((await root.look(name))?.isSymbolicLink());
  }
  assert.equal(fs.readdirSync(outside).sort(), ['secret', 'workspace']);
  assert.is(fs.readFileSync(join(outside, 'secret'), 'utf8'), 'outside');
});

test('a folder that becomes a link after it was opened is still the folder that was opened', async () => {
  const folder = await root.makeFolder('a');
  fs.renameSync(at('a'), at('moved'));
  fs.symlinkSync(outside, at('a'));
  assert.ok(await folder?.replace('x', Buffer.from('mine')));
  await folder?.close();
  assert.is(text('moved/x'), 'mine');
  assert.not.ok(fs.existsSync(join(outside, 'x')));
});

test('a hard link to a file outside: the name inside gets the new content, the file outside keeps its own', async () => {
  // A task cannot make one, since its workspace is a mount of its own; a cheap copy of a cache may. Reading it shows
  // what stands in the workspace anyway. Writing must not reach the other name, and so goes into a new file.
  fs.linkSync(join(outside, 'secret'), at('both'));
  assert.is((await root.look('both'))?.nlink, 2);
  const file = await root.file('both');
  assert.is(String(await file?.readFile()), 'outside');
  await file?.close();
  assert.ok(await root.replace('both', Buffer.from('inside')));
  assert.is(text('both'), 'inside');
  assert.is(fs.readFileSync(join(outside, 'secret'), 'utf8'), 'outside');
  assert.is((await root.look('both'))?.nlink, 1);
});

test('FIFO, socket and folder are not replaced and nothing waits', async () => {
  execFileSync('mkfifo', [at('fifo')]);
  fs.mkdirSync(at('folder'));
  for (const name of ['fifo', 'folder']) {
    assert.is(await root.replace(name, Buffer.from('x')), false, name);
    assert.is(await root.file(name), null, name);
  }
  assert.is(await root.makeFolder('fifo'), null);
  assert.equal(fs.readdirSync(path).sort(), ['fifo', 'folder']);
});

test('a device is no file', async () => {
  const dev = await InsideFolder.root('/dev');
  try {
    assert.is(await dev.file('null'), null);
    assert.is(await dev.file('zero'), null);
    assert.is(await dev.replace('null', Buffer.from('x')), false);
  } finally {
    await dev.close();
  }
});

test('what is no single name is refused: dots, slashes, NUL, nothing', async () => {
  for (const name of ['', '.', '..', '/', 'a/b', '../x', '/etc', 'a/', 'a\0b']) {
    await rejects(root.replace(name, Buffer.from('x')), /not a name inside/);
    await rejects(root.makeFolder(name), /not a name inside/);
    await rejects(root.look(name), /not a name inside/);
  }
});

test('a name too long for the file system is nothing there, and cannot be made', async () => {
  const name = 'x'.repeat(256);
  assert.is(await root.look(name), null);
  assert.is(await root.replace(name, Buffer.from('x')), false);
  assert.is(await root.makeFolder(name), null);
  assert.equal(fs.readdirSync(path), []);
});

test('where the folder is closed to us nothing is written and nothing left', async () => {
  fs.mkdirSync(at('closed'), 0o500);
  const folder = await root.folder('closed');
  assert.is(await folder?.replace('x', Buffer.from('x')), false);
  assert.is(await folder?.makeFolder('y'), null);
  await folder?.close();
  assert.equal(fs.readdirSync(at('closed')), []);
});

test.run();
