// limit: 240 s
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { segmentName } from '../../ledger/storage/storage.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { TaskDetail } from '../../node/api/objects.ts';
import { withConstants } from './constants.ts';
import { descendants, Fleet, freePort } from './fleet.ts';

const env = withConstants({ snapshotEntries: 10, snapshotRest: 0, segmentBytes: 6 * 1024 });
const hubArgs = ['--port', String(await freePort())];
const VERIFIER = resolve(import.meta.dirname, '../verifier/verify-log.pl');

const fleet = await Fleet.start({ hub: { slots: 2 }, hubArgs, hubEnv: env });
test.after(() => fleet.close());

const FOLDER = join(fleet.dir('hub'), 'log');
const compressed = (): string[] =>
  readdirSync(FOLDER)
    .filter((name) => name.endsWith('.zst'))
    .sort();
const tasks: string[] = [];

function runs(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** Work until so many segments are compressed. */
async function workUntil(count: number): Promise<void> {
  for (let round = 0; compressed().length < count; round += 1) {
    assert.ok(round < 40, `${compressed().length} of ${count} segments`);
    const some = await Promise.all([fleet.submit(['true']), fleet.submit(['true'])]);
    tasks.push(...some);
    for (const task of some) await fleet.ended(task);
  }
}

test('a founder compresses old segments while it works, and one that is killed leaves no process and a whole log (promises 2 and 4)', async () => {
  for (let kill = 1; kill <= 3; kill += 1) {
    await workUntil(2 * kill);
    const { pid } = fleet.hubDaemon!;
    const below = descendants(pid!);
    await fleet.hubDaemon!.end('SIGKILL');
    await fleet.untilAsked(async () => !below.some(runs), 'no process is left');
    const report = await verifyLog(new FileStorage(FOLDER));
    assert.ok(report.size > 0);
    await fleet.up(hubArgs, env);
  }
  // One that was killed, or is at work just now, has a segment in both forms for a moment.
  await fleet.untilAsked(async () => {
    const names = readdirSync(FOLDER);
    return names.every((name) => !name.endsWith('.zst') || !names.includes(name.replace('.zst', '')));
  }, 'each segment is there in one form');
});

test('verify, scrub, export, history and proofs are what they are of a plain log', async () => {
  const verified = await fleet.hub(['ledger', 'verify', '--json']);
  assert.is(verified.code, 0, verified.stderr);
  const scrubbed = await fleet.hub(['ledger', 'scrub', '--json']);
  assert.is(scrubbed.code, 0, scrubbed.stderr);
  const file = join(fleet.home, 'export.jsonl');
  assert.is((await fleet.hub(['ledger', 'export', '--output', file])).code, 0);
  const told = spawnSync('perl', [VERIFIER, file], { encoding: 'utf8' });
  assert.is(told.status, 0, told.stderr);
  const exported = readFileSync(file);
  if (spawnSync('zstd', ['--version']).status === 0) {
    const plain = compressed().map((name) => spawnSync('zstd', ['-dc', join(FOLDER, name)]).stdout);
    const begins = Buffer.concat(plain);
    assert.ok(begins.length > 0 && exported.subarray(0, begins.length).equals(begins));
  } else console.log('skipped: there is no zstd command here');
  const [first] = tasks as [string];
  assert.ok((await fleet.json<{ items: unknown[] }>(['task', 'history', first])).items.length >= 4);
  assert.is((await fleet.json<TaskDetail>(['task', 'get', first])).state, 'delivered');
  const proof = join(fleet.home, 'proof.json');
  assert.is((await fleet.hub(['ledger', 'prove', first, '--output', proof])).code, 0);
  const { mesh } = JSON.parse(verified.stdout);
  const proved = await fleet.hub(['proof', 'verify', proof, '--mesh', mesh]);
  assert.is(proved.code, 0, proved.stderr);
});

test('a backup of it is restored as a plain log', async () => {
  const file = join(fleet.home, 'home.tar');
  const made = await fleet.json<{ size: number; root: string }>(['backup', file]);
  const dir = join(fleet.home, 'restored');
  const done = await fleet.hub(['restore', file, '--dir', dir, '--json']);
  assert.is(done.code, 0, done.stderr);
  assert.not(readdirSync(join(dir, 'log')).some((name) => name.endsWith('.zst')));
  const report = await verifyLog(new FileStorage(join(dir, 'log')));
  assert.equal([report.size, report.root], [made.size, made.root]);
  for (const name of compressed())
    assert.ok(readdirSync(join(dir, 'log')).includes(name.replace('.zst', '')));
});

test('damage in a compressed segment is told with file, byte and entry, and repaired from an export', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  const [, name] = compressed() as [string, string];
  const path = join(FOLDER, name);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
  const told = await fleet.hub(['ledger', 'verify', '--json']);
  assert.is(told.code, 5);
  assert.match(told.stderr, new RegExp(`${name} at byte 0, before entry ${Number(name.slice(0, 16))}:`));
  const repaired = await fleet.hub(['ledger', 'repair', '--from', join(fleet.home, 'home.tar'), '--json']);
  assert.not.equal(repaired.code, 0, 'a backup is no export');
  const from = ['ledger', 'repair', '--from', join(fleet.home, 'restored'), '--json'];
  const mended = await fleet.hub(from);
  assert.is(mended.code, 0, mended.stderr);
  assert.is((await fleet.hub(['ledger', 'verify', '--json'])).code, 0);
});

test('told not to, it compresses none', async () => {
  fleet.configure('hub', { compressSegments: false });
  const before = compressed();
  await fleet.up(hubArgs, env);
  for (let n = 0; n < 6; n += 1) await fleet.ended(await fleet.submit(['true']));
  assert.equal(compressed(), before);
  assert.ok(readdirSync(FOLDER).includes(segmentName(0)));
});

test.run();
