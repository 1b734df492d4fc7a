import { spawn } from 'node:child_process';
import { closeSync, linkSync, mkdirSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { diskUse, unnamedBytes } from '../../../../node/sandbox/limits/disk.ts';
import { memoryAvailable, processStat, processTree, treeUse } from '../../../../node/sandbox/limits/tree.ts';
import { Folder, said } from '../support.ts';

const MiB = 1024 * 1024;
const never = new AbortController().signal;

test('the bytes of a folder are its blocks: links not followed, many names counted once, holes not at all', async () => {
  using folder = new Folder();
  using elsewhere = new Folder();
  const at = (name: string): string => join(folder.path, name);
  writeFileSync(join(elsewhere.path, 'large'), Buffer.alloc(8 * MiB, 1));
  writeFileSync(at('file'), Buffer.alloc(2 * MiB, 1));
  for (let name = 0; name < 20; name += 1) linkSync(at('file'), at(`again${name}`));
  symlinkSync(join(elsewhere.path, 'large'), at('link'));
  symlinkSync(elsewhere.path, at('folder-link'));
  symlinkSync(folder.path, at('loop'));
  mkdirSync(join(folder.path, 'a', 'b'), { recursive: true });
  writeFileSync(at('a/b/inner'), Buffer.alloc(MiB, 1));
  const use = await diskUse(folder.path, 2 ** 40, never);
  assert.ok(use.bytes >= 3 * MiB && use.bytes < 4 * MiB, String(use.bytes));
  assert.is(use.closed, 0);
  assert.is(use.entries, 27);
});

test('the walk stops at the limit, and when it is told to', async () => {
  using folder = new Folder();
  for (let name = 0; name < 200; name += 1)
    writeFileSync(join(folder.path, String(name)), Buffer.alloc(8192, 1));
  assert.ok((await diskUse(folder.path, 100_000, never)).entries < 50);
  assert.is((await diskUse(folder.path, 2 ** 40, AbortSignal.abort())).entries, 0);
});

test('a file without a name counts as long as somebody has it open', () => {
  using folder = new Folder();
  const path = join(folder.path, 'file');
  writeFileSync(path, Buffer.alloc(MiB, 1));
  const fd = openSync(path, 'r');
  assert.is(unnamedBytes([process.pid], folder.path), 0);
  rmSync(path);
  const held = unnamedBytes([process.pid], folder.path);
  assert.ok(held >= MiB && held < 1.5 * MiB, String(held));
  closeSync(fd);
  assert.is(unnamedBytes([process.pid], folder.path), 0);
});

test('a tree is a process and all its descendants, with their threads and memory', async () => {
  const child = spawn('sh', ['-c', 'sleep 20 & sh -c "sleep 20 & echo up; wait" & wait'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  const pid = child.pid as number;
  await said(child.stdout, /up/);
  const tree = processTree(pid);
  assert.is(tree.length, 4);
  assert.is(tree[0], pid);
  const use = treeUse(tree, [], 2 ** 40);
  assert.is(use.threads, 4);
  assert.ok(use.memoryBytes > 100_000 && use.memoryBytes < 100 * MiB);
  assert.ok(treeUse(tree, [], 0).memoryBytes <= use.memoryBytes, 'shares are at most the resident sizes');
  assert.is(processStat(pid)?.parent, process.pid);
  const gone = new Promise((resolve) => child.once('close', resolve));
  process.kill(-pid, 'SIGKILL');
  await gone;
  assert.is(processStat(pid), null);
  assert.equal(processTree(pid), [pid]);
  assert.ok(memoryAvailable() > 0);
});

test.run();
