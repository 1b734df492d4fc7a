import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { constants, getPriority, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeSnapshotInProcess } from '../../../hub/daemon/snapshot-maker.ts';
import { snapshotName } from '../../../ledger/snapshots/snapshot-store.ts';
import { compressedName } from '../../../ledger/storage/storage.ts';
import { FileStorage } from '../../../ledger/storage/storage-file.ts';
import { resolveAccount } from '../../../node/privileges.ts';
import { newLog } from '../../ledger/kit.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const PAUSED = { type: 'mesh.paused', body: { by: { kind: 'founder' } } } as const;
const SIZE = 6;

const root = mkdtempSync(join(tmpdir(), 'superfleet-maker-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

/** A log of `SIZE` entries, and what the process is told. */
async function ordered(name: string) {
  const log = join(root, name, 'log');
  const snapshots = join(root, name, 'snapshots');
  mkdirSync(snapshots, { recursive: true });
  const made = await newLog(new FileStorage(log));
  await made.append(Array(SIZE - 1).fill(PAUSED), 1_700_000_000_000, 1).durable;
  await made.close();
  return { log, snapshots, mesh: made.meshId, size: SIZE };
}

/** In the place of a snapshot, so that whoever looks for one stands still there. Resolves when somebody does. */
function obstacle(snapshots: string): () => Promise<{ close(): Promise<void> }> {
  const path = join(snapshots, snapshotName(SIZE - 1));
  execFileSync('mkfifo', [path]);
  return () => open(path, 'w');
}

/** Processes that this one started and that have not ended. */
const childrenOf = (pid: number): number[] =>
  readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );

function alive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

const name = (what: string): string => `${what} (needs /proc)`;
const linux = process.platform === 'linux';
if (!linux) console.log('skipped: who looks at processes does so by /proc');
const onLinux = linux ? test : test.skip;

test('a snapshot is made, and the process is gone when it is said', async () => {
  const order = await ordered('made');
  const before = linux ? childrenOf(process.pid) : [];
  const body = await makeSnapshotInProcess(order, new AbortController().signal);
  assert.is(body.size, SIZE);
  assert.equal(readdirSync(order.snapshots), [snapshotName(SIZE)]);
  if (linux) assert.equal(childrenOf(process.pid), before);
});

test('it compresses what lies before the second newest snapshot, and tells why where it could not; the snapshot is there either way', async () => {
  const box = join(root, 'compress');
  const [log, snapshots] = [join(box, 'log'), join(box, 'snapshots')];
  const storage = new FileStorage(log);
  const growing = await newLog(storage, { segmentBytes: 400 });
  const sizes: number[] = [];
  for (let n = 0; n < 4; n += 1) {
    await growing.append([PAUSED, PAUSED], 1_700_000_000_000, 1).durable;
    sizes.push(growing.size);
  }
  await growing.close();
  const firsts = await storage.list();
  const said: unknown[] = [];
  const make = (size: number) =>
    makeSnapshotInProcess(
      { log, snapshots, mesh: growing.meshId, size, compress: true },
      new AbortController().signal,
      {
        made: (body) => said.push(body.size),
        compressed: ({ segments }) => said.push(`${segments} segments`),
        uncompressed: ({ message }) => said.push(message),
      },
    );
  await make(sizes[1]!);
  assert.equal(said.splice(0), [sizes[1]]);
  await make(sizes[2]!);
  const before = firsts.filter((_, at) => firsts[at + 1]! <= sizes[1]!);
  assert.ok(before.length > 0);
  assert.equal(said.splice(0), [sizes[2], `${before.length} segments`]);
  for (const first of firsts) {
    assert.equal(await storage.forms(first), [before.includes(first) ? 'compressed' : 'plain']);
  }
  // Nothing that a segment may be.
  const next = firsts[before.length]!;
  mkdirSync(join(log, compressedName(next)));
  await make(sizes[3]!);
  assert.equal(said.length, 2);
  assert.is(said[0], sizes[3]);
  assert.match(String(said[1]), compressedName(next));
  assert.ok((await storage.forms(next)).includes('plain'));
});

onLinux(name('one that dies is an error, and leaves nothing; it gives way to others'), async () => {
  const order = await ordered('dies');
  const reached = obstacle(order.snapshots);
  process.env.SF_TEST_CANARY = 'canary-of-the-founder';
  const making = makeSnapshotInProcess(order, new AbortController().signal).catch((error) => error);
  delete process.env.SF_TEST_CANARY;
  const holding = await reached();
  const [pid] = childrenOf(process.pid) as [number];
  assert.is(getPriority(pid), constants.priority.PRIORITY_BELOW_NORMAL);
  assert.not.match(
    readFileSync(`/proc/${pid}/environ`, 'utf8'),
    'canary',
    'nothing of the founder’s environment',
  );
  // As a terminal or a supervisor sends it to the founder's whole group: the founder decides.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(pid, signal);
  assert.is(alive(pid), true);
  process.kill(pid, 'SIGKILL');
  const failed = await making;
  await holding.close();
  assert.is(failed.code, 'SF_INTERNAL');
  assert.match(failed.message, 'SIGKILL');
  assert.equal(readdirSync(order.snapshots), [snapshotName(SIZE - 1)]);
});

onLinux(name('told to end, it has ended when that is said'), async () => {
  const order = await ordered('aborted');
  const reached = obstacle(order.snapshots);
  const ending = new AbortController();
  const making = makeSnapshotInProcess(order, ending.signal).catch((error) => error);
  const holding = await reached();
  const [pid] = childrenOf(process.pid) as [number];
  ending.abort(new Error('enough'));
  assert.is((await making).message, 'enough');
  assert.is(alive(pid), false);
  await holding.close();
});

onLinux(name('of a founder that is killed none is left behind, also where its disk hangs'), async () => {
  const order = await ordered('orphan');
  const reached = obstacle(order.snapshots);
  const maker = JSON.stringify(join(ROOT, 'hub/daemon/snapshot-maker.ts'));
  const program = `import { makeSnapshotInProcess } from ${maker};
    await makeSnapshotInProcess(${JSON.stringify(order)}, new AbortController().signal);`;
  const founder = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' });
  const ended = new Promise((done) => founder.once('close', done));
  const holding = await reached();
  const [pid] = childrenOf(founder.pid!) as [number];
  founder.kill('SIGKILL');
  await ended;
  const deadline = performance.now() + 10_000;
  // A process that is no child of ours has no event for its end.
  while (alive(pid)) {
    assert.ok(performance.now() < deadline, `process ${pid} is left`);
    await setImmediate();
  }
  await holding.close();
});

const HIDDEN = 'from a program that only root can enter one is made, with root given up before (promise 14)';
if (process.getuid?.() !== 0) console.log(`skipped: needs root: ${HIDDEN}`);
(process.getuid?.() === 0 ? test : test.skip)(HIDDEN, async () => {
  const order = await ordered('hidden');
  const hidden = mkdtempSync(join(tmpdir(), 'superfleet-hidden-'));
  const program = join(hidden, 'program');
  try {
    for (const part of ['ledger', 'node', 'hub/daemon', 'protocol', 'package.json', 'node_modules/zod']) {
      cpSync(join(ROOT, part), join(program, part), { recursive: true });
    }
    cpSync(process.execPath, join(program, 'node-binary'));
    const { uid, gid } = resolveAccount(null);
    chmodSync(root, 0o755);
    const mine = join(root, 'hidden');
    for (const path of ['', ...readdirSync(mine, { recursive: true, encoding: 'utf8' })])
      chownSync(join(mine, path), uid, gid);
    writeFileSync(
      join(program, 'run.ts'),
      `import { dropPrivileges } from './node/privileges.ts';
       import { makeSnapshotInProcess } from './hub/daemon/snapshot-maker.ts';
       await dropPrivileges();
       const late = await import('./protocol/duration.ts').then(() => 'BAD', (error) => error.code);
       const { size } = await makeSnapshotInProcess(${JSON.stringify(order)}, new AbortController().signal);
       console.log(JSON.stringify({ uid: process.getuid(), late, size }));`,
    );
    const { stdout, stderr } = spawnSync(join(program, 'node-binary'), [join(program, 'run.ts')], {
      encoding: 'utf8',
    });
    assert.is(stderr, '');
    const told = JSON.parse(stdout);
    assert.equal([told.uid, told.size], [uid, SIZE]);
    assert.not.equal(told.late, 'BAD');
  } finally {
    rmSync(hidden, { recursive: true, force: true });
  }
});

test.run();
