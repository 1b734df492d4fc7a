// limit: 180 s
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Mesh, type Outcome, ok } from './mesh.ts';

const mesh = new Mesh();
test.after(() => mesh.close());

const file = join(mesh.home, 'home.tar');
const errorOf = (done: Outcome) =>
  (JSON.parse(done.stderr.trim().split('\n').at(-1)!) as { error: Record<string, string> }).error;
const restored = (name: string): string => join(mesh.home, name);
const restoreTo = (name: string, from = file): Promise<Outcome> =>
  mesh.hub(['restore', from, '--dir', restored(name), '--json']);

interface Made {
  mesh: string;
  size: number;
  root: string;
  blobs: number | null;
  secrets: boolean;
}

let task = '';
let made: Made;

test('a backup of a founder at work is one verified file that only its owner reads', async () => {
  await mesh.founder();
  const secret = await mesh.hub(['secret', 'set', 'TOKEN'], { input: 'hunter2-of-the-backup\n' });
  assert.is(secret.code, 0, secret.stderr);
  const argv = ['task', 'run', '--no-repo', '--wait', '--', 'sh', '-c', 'echo said-by-the-task'];
  task = (await mesh.json<{ id: string }>(argv)).id;
  // The log grows while it is read.
  const growing = Promise.all(Array.from({ length: 6 }, () => mesh.json(['invite'])));
  made = await mesh.json<Made>(['backup', file]);
  await growing;
  await mesh.json(['invite']);
  assert.ok(made.size > 3 && made.blobs! >= 2);
  assert.is(made.secrets, false);
  assert.is(statSync(file).mode & 0o777, 0o600);
  assert.not.ok(readFileSync(file).includes('hunter2-of-the-backup'));
  const taken = await mesh.hub(['backup', file, '--json']);
  assert.equal([taken.code, errorOf(taken).code], [2, 'SF_EXISTS']);
  // Any tar reads it.
  const names = (await ok(['tar', 'tf', file])).trim().split('\n');
  assert.equal(names.slice(0, 3), ['config.json', 'identity.key', 'log.key']);
  assert.is(names.at(-1), 'backup.json');
});

test('restored elsewhere it is the same mesh at that checkpoint, with the results of its tasks', async () => {
  await mesh.daemons[0]!.end('SIGTERM');
  const done = await restoreTo('second');
  assert.is(done.code, 0, done.stderr);
  const report = await mesh.json<Made>(['ledger', 'verify', '--dir', restored('second')]);
  assert.equal([report.mesh, report.size, report.root], [made.mesh, made.size, made.root]);
  const again = await restoreTo('second');
  assert.equal([again.code, errorOf(again).code], [2, 'SF_EXISTS']);
  mesh.place('hub', restored('second'));
  const founder = await mesh.startFounder();
  assert.is((await founder.event('ready')).mesh, made.mesh);
  assert.match((await mesh.hub(['task', 'logs', task])).stdout, /said-by-the-task/);
  assert.is((await mesh.hub(['receipt', 'show', task])).code, 0);
  await founder.end('SIGTERM');
});

test('of a stopped founder, with secrets and without blobs', async () => {
  mesh.place('hub', join(mesh.home, 'hub'));
  const path = join(mesh.home, 'secrets.tar');
  const said = await mesh.json<Made>(['backup', path, '--with-secrets', '--without-blobs']);
  assert.equal([said.secrets, said.blobs], [true, null]);
  assert.ok(said.size > made.size);
  const done = await restoreTo('third', path);
  assert.is(done.code, 0, done.stderr);
  const secrets = join(`${restored('third')}.secrets`, 'secrets.json');
  assert.match(readFileSync(secrets, 'utf8'), /hunter2-of-the-backup/);
  assert.is(statSync(secrets).mode & 0o777, 0o600);
  assert.equal(readdirSync(join(restored('third'), 'blobs', 'blobs')), []);
});

test('a backup that was cut, changed or is none is refused before anything is written', async () => {
  const bytes = readFileSync(file);
  const flipped = (at: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at]! ^= 1;
    return copy;
  };
  const logAt = bytes.indexOf('"mesh.created"');
  const path = join(mesh.home, 'damaged.tar');
  for (const [what, damaged] of [
    ['cut in a file', bytes.subarray(0, logAt + 20)],
    ['cut at its list', bytes.subarray(0, bytes.lastIndexOf('backup.json'))],
    ['a key', flipped(bytes.indexOf('identity.key') + 512 + 3)],
    ['the log', flipped(logAt)],
    ['a header', flipped(bytes.indexOf('log.key'))],
    ['nothing', Buffer.alloc(0)],
    ['no archive', Buffer.from('not a tar at all'.repeat(200))],
  ] as const) {
    writeFileSync(path, damaged);
    const done = await restoreTo('fourth', path);
    assert.equal([done.code, errorOf(done).code], [5, 'SF_NOT_PROVED'], what);
    assert.not.ok(existsSync(restored('fourth')), what);
  }
  const foreign = join(mesh.home, 'foreign');
  writeFileSync(foreign, 'x');
  await ok(['tar', 'cf', path, '-P', '-C', mesh.home, '--transform', 's,^foreign,../escaped,', 'foreign']);
  const done = await restoreTo('fourth', path);
  assert.equal([done.code, errorOf(done).code], [5, 'SF_NOT_PROVED']);
  assert.not.ok(existsSync(join(mesh.home, 'escaped')));
});

test('a damaged founder is not backed up as if it were whole', async () => {
  const segment = join(mesh.dir('hub'), 'log', '0000000000000000.jsonl');
  const bytes = readFileSync(segment);
  bytes[700]! ^= 1;
  writeFileSync(segment, bytes);
  const path = join(mesh.home, 'of-damaged.tar');
  const done = await mesh.hub(['backup', path, '--json']);
  assert.equal([done.code, errorOf(done).code], [5, 'SF_LOG_DAMAGED']);
  assert.not.ok(existsSync(path));
});

test.run();
