import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { removeTree } from '../../../node/git/remove-tree.ts';
import { dropRoot } from '../../unprivileged.ts';

dropRoot();
let root = '';
test.before.each(async () => {
  root = await mkdtemp(join(tmpdir(), 'superfleet-remove-'));
});
test.after.each(async () => {
  assert.equal(
    (await readdir(root)).filter((name) => name !== 'kept'),
    [],
  );
  await rm(root, { recursive: true });
});

test('links are deleted and never followed', async () => {
  await mkdir(join(root, 'kept'));
  await writeFile(join(root, 'kept/file'), 'x');
  await mkdir(join(root, 'tree/sub'), { recursive: true });
  for (const [name, to] of [
    ['a', '../kept'],
    ['b', '../kept/file'],
    ['c', '/etc'],
    ['d', 'd'],
    ['sub/e', '../..'],
  ]) {
    await symlink(to ?? '', join(root, 'tree', name ?? ''));
  }
  await chmod(join(root, 'tree/sub'), 0o000);
  await removeTree(join(root, 'tree'));
  assert.not(existsSync(join(root, 'tree')));
  assert.is(await readFile(join(root, 'kept/file'), 'utf8'), 'x');
});

test('a link in place of the folder is deleted itself', async () => {
  await mkdir(join(root, 'kept'));
  await symlink('kept', join(root, 'tree'));
  await removeTree(join(root, 'tree'));
  assert.ok(existsSync(join(root, 'kept')));
});

test('folders without permissions do not stop it', async () => {
  await mkdir(join(root, 'tree/a/b/c'), { recursive: true });
  await writeFile(join(root, 'tree/a/b/c/file'), 'x');
  for (const path of ['tree/a/b/c', 'tree/a/b', 'tree/a']) await chmod(join(root, path), 0o000);
  await removeTree(join(root, 'tree'));
  assert.not(existsSync(join(root, 'tree')));
});

test('a tree deeper than any path, FIFOs and names that are no text do not stop it', async () => {
  const program = `const { mkdirSync, writeFileSync } = require('node:fs');
    process.chdir(process.argv[1]);
    writeFileSync(Buffer.from('610a62ff', 'hex'), '');
    for (let depth = 0; depth < 3000; depth += 1) { mkdirSync('folder'); process.chdir('folder'); }
    writeFileSync('deep', '');`;
  await mkdir(join(root, 'tree'));
  execFileSync('mkfifo', [join(root, 'tree/pipe')]);
  execFileSync(process.execPath, ['-e', program, join(root, 'tree')]);
  await removeTree(join(root, 'tree'));
  assert.not(existsSync(join(root, 'tree')));
});

test('what does not exist is removed already', async () => {
  await removeTree(join(root, 'nothing'));
});

test.run();
