import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { fixtureSegments } from './fixture.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/log-1');
const PAGE = readFileSync(join(import.meta.dirname, '../../docs/log.md'), 'utf8');
const MESH = '55b4194d23079ae723953407758ead04f9d46637f492ce6e6c748f5df24587e0';
const ROOT = 'c17e7bf323bc1b220032a665b534c9995d83422b51b6715c6bd7e764f732e57b';

test('the frozen log of format 1 opens and verifies', async () => {
  const storage = new FileStorage(FOLDER);
  const report = await verifyLog(storage);
  assert.equal(report, {
    mesh: MESH,
    from: 0,
    size: 8,
    root: ROOT,
    checkpoints: 6,
    segments: 2,
    tornBytes: 0,
  });
  const log = await Log.open({ storage, key: null });
  const types = (await log.read(0, 10)).map(({ type }) => type);
  assert.equal(types.slice(0, 3), ['mesh.created', 'mesh.paused', 'mesh.resumed']);
  assert.is(types.at(-1), 'later.thing');
  await log.close();
});

test('today the same events still give the same bytes', async () => {
  const segments = await fixtureSegments();
  assert.equal(
    segments.map(({ name }) => name),
    readdirSync(FOLDER).sort(),
  );
  for (const { name, bytes } of segments) {
    assert.is(bytes.toString(), readFileSync(join(FOLDER, name), 'utf8'), name);
  }
});

test('the command in docs/log.md works out the mesh id with sha256sum', () => {
  const block = /```sh\n((?:(?!```).)*?sha256sum\n)```\n\nprints\n\n```\n(.*?)```/s.exec(PAGE);
  assert.ok(block, 'docs/log.md has a command and what it prints');
  const printed = execFileSync('sh', ['-c', block[1]!], { cwd: FOLDER, encoding: 'utf8' });
  assert.is(printed, block[2]);
  assert.is(printed.split(' ')[0], MESH);
});

test('the entry and the checkpoint that docs/log.md shows are lines of the frozen log', () => {
  const all = readdirSync(FOLDER)
    .map((name) => readFileSync(join(FOLDER, name), 'utf8'))
    .join('');
  const entry = /^\{"index":3,.*$/m.exec(PAGE)![0];
  assert.ok(all.includes(`${entry}\n`));
  const note = /for example:\n\n```\n(.*?)```/s.exec(PAGE)![1]!;
  assert.ok(all.includes(`${JSON.stringify({ checkpoint: note })}\n`));
});

test.run();
