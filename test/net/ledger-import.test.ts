// limit: 180 s
import { chownSync, cpSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Mesh, type Outcome } from './mesh.ts';

const mesh = new Mesh();
test.after(() => mesh.close());

const exported = join(mesh.home, 'mesh.jsonl');
const copy = join(mesh.home, 'imported');
const errorOf = (done: Outcome) =>
  (JSON.parse(done.stderr.trim().split('\n').at(-1)!) as { error: Record<string, string> }).error;
const ledger = (...args: string[]): Promise<Outcome> => mesh.hub(['ledger', ...args]);

let id = '';
let root = '';

test('a stopped founder’s log is verified, shown and exported as a running one’s', async () => {
  const founder = await mesh.founder();
  for (let n = 0; n < 6; n += 1) await mesh.json(['invite']);
  const ask = async (): Promise<[unknown, string, string]> => [
    await mesh.json(['ledger', 'verify']),
    (await ledger('tail', '--from', '2', '--json')).stdout,
    (await ledger('export')).stdout,
  ];
  const running = await ask();
  await founder.end('SIGTERM');
  assert.equal(await ask(), running);
  assert.is((await ledger('tail')).code, 0);
  ({ mesh: id, root } = running[0] as { mesh: string; root: string });
  // Only a founder has anything more to say.
  assert.is((await ledger('tail', '-f')).code, 3);
  assert.is((await mesh.hub(['ledger', 'verify', '--dir', join(mesh.home, 'nowhere')])).code, 3);
});

test('export, import, export: the same bytes (promise 2)', async () => {
  assert.is((await ledger('export', '--output', exported)).code, 0);
  const done = await ledger('import', exported, '--dir', copy, '--mesh', id, '--json');
  assert.is(done.code, 0, done.stderr);
  const made = JSON.parse(done.stdout) as Record<string, unknown>;
  assert.equal([made.mesh, made.root, made.dir], [id, root, copy]);
  assert.is((await ledger('export', '--dir', copy)).stdout, readFileSync(exported, 'utf8'));
  const report = await mesh.json<{ root: string }>(['ledger', 'verify', '--dir', copy]);
  assert.is(report.root, root);
});

test('an import without --mesh says what nobody vouched for, and never goes over what is there', async () => {
  const other = join(mesh.home, 'other');
  const done = await ledger('import', exported, '--dir', other);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stderr, /warning: .* compare its id/);
  assert.match(done.stdout, new RegExp(id));
  for (const dir of [other, mesh.dir('hub')]) {
    const again = await ledger('import', exported, '--dir', dir, '--json');
    assert.equal([again.code, errorOf(again).code], [2, 'SF_EXISTS']);
  }
});

test('an export of another mesh, a damaged and a cut one leave no log behind', async () => {
  const dir = join(mesh.home, 'refused');
  const wrong = await ledger('import', exported, '--dir', dir, '--mesh', 'f'.repeat(64), '--json');
  assert.equal([wrong.code, errorOf(wrong).code], [5, 'SF_NOT_PROVED']);
  const bytes = readFileSync(exported);
  for (const damaged of [Buffer.from(bytes).fill('x', 1000, 1001), bytes.subarray(0, -1), Buffer.alloc(0)]) {
    const path = join(mesh.home, 'damaged.jsonl');
    writeFileSync(path, damaged);
    const done = await ledger('import', path, '--dir', dir, '--json');
    assert.equal([done.code, errorOf(done).code], [5, 'SF_LOG_DAMAGED']);
    assert.match(errorOf(done).hint!, /It is the source/, 'no log here is to be repaired');
    assert.is((await mesh.hub(['ledger', 'verify', '--dir', dir])).code, 3);
  }
  // What was refused takes no name away.
  assert.is((await ledger('import', exported, '--dir', dir)).code, 0);
});

test('without the log key it is no founder, and with the keys of its founder it is', async () => {
  const refused = await mesh.hub(['start', '--dir', copy, '--port', '0', '--json']);
  assert.equal([refused.code, errorOf(refused).code], [4, 'SF_REFUSED']);
  assert.match(errorOf(refused).hint!, /log\.key and .*identity\.key .*mesh-hub promote/);
  const { uid, gid } = statSync(copy);
  const put = (key: string): void => {
    cpSync(join(mesh.dir('hub'), key), join(copy, key));
    if (process.getuid?.() === 0) chownSync(join(copy, key), uid, gid);
  };
  put('log.key');
  // Under an identity of its own it would be a founder that no member knows.
  const half = await mesh.hub(['start', '--dir', copy, '--port', '0', '--json']);
  assert.is(errorOf(half).code, 'SF_FOLDER');
  assert.match(errorOf(half).hint!, /put back .*identity\.key/);
  put('identity.key');
  mesh.place('hub', copy);
  const founder = await mesh.startFounder();
  assert.is((await founder.event('ready')).mesh, id);
  await founder.end('SIGTERM');
  assert.ok(existsSync(join(copy, 'log')));
});

test.run();
