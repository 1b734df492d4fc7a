// limit: 60 s
/** What attempts leave on the disk, and when it goes: never before its result is settled. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LocalAttemptRunner } from '../../../node/attempt/run.ts';
import type { AttemptHooks } from '../../../node/attempt/types.ts';
import { DiskBlobStore } from '../../../node/blobs/disk.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, MESH, World } from './harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const MiB = 1024 * 1024;
const world = await World.make();
const repository = world.repository();
const bases = [await repository.commit({ a: '1\n' }), await repository.commit({ a: '2\n' })] as const;
test.after(() => world.remove());

/** A member's runner on a store of so many bytes; the cache keeps one bundle. */
async function opened(name: string, bytesMax: number, entriesMax = 1) {
  const folder = join(world.folder, name);
  await mkdir(folder, { recursive: true });
  const blobs = await DiskBlobStore.open(join(folder, 'blobs'), { bytesMax });
  const runner = await LocalAttemptRunner.open({
    folder,
    sandbox: createSandbox(),
    blobs,
    ownsBlobs: true,
    reapsBlobs: true,
    mesh: MESH,
    member: { id: executorKey.peer, name: 'spare-1' },
    sign: (statement) => signStatement(statement, executorKey),
    cache: { entriesMax },
  });
  const hooks: AttemptHooks = {
    started: () => {},
    progress: () => {},
    output: () => {},
    fetch: async (wanted) => {
      for (const blob of wanted) await blobs.put(world.founder.read(blob));
    },
  };
  return { folder, blobs, runner, hooks };
}

const large = (bytes: number) => ({
  kind: 'command' as const,
  argv: ['sh', '-c', `head -c ${bytes} /dev/urandom >large`],
  artifacts: ['large'],
});

it('a result that is not settled outlasts a full store, a small cache and restarts; then its room is free', async () => {
  const never = new AbortController().signal;
  const source = (base: string) => ({ repository, base });
  const one = await opened('full', 4 * MiB);
  const kept = await one.runner.run(
    await world.assignment(large(1.5 * MiB), source(bases[0])),
    one.hooks,
    never,
  );
  assert.is(kept.outcome, 'succeeded', kept.detail ?? '');
  const blobs = [kept.bundle!, kept.log!, ...kept.artifacts];
  const home = await Promise.all(blobs.map((blob) => bytesOf(one.blobs, blob)));
  const pressed = await one.runner.run(
    await world.assignment(large(2 * MiB), source(bases[1])),
    one.hooks,
    never,
  );
  assert.equal([pressed.outcome, pressed.fault], ['failed', 'machine']);
  assert.match(pressed.detail ?? '', /blob store is full/);
  await one.runner.forget(pressed);
  await one.runner.close();
  await one.blobs.close();

  const two = await opened('full', 4 * MiB);
  assert.equal(await two.runner.restoreResults(), [kept]);
  for (const [index, blob] of blobs.entries()) {
    assert.equal(await bytesOf(two.blobs, blob), home[index]);
  }
  assert.equal((await two.blobs.list()).sort(), blobs.map(({ blob }) => blob).sort());
  await two.runner.forget(kept);
  assert.equal([await two.blobs.list(), two.blobs.usedBytes], [[], 0]);
  const after = await two.runner.run(
    await world.assignment(large(1.75 * MiB), source(bases[1])),
    two.hooks,
    never,
  );
  assert.is(after.outcome, 'succeeded', after.detail ?? '');
  await two.runner.close();
});

it('at start blobs that no kept result names go, and the cache is cut to its bounds', async () => {
  const one = await opened('start', 64 * MiB, 8);
  const spec = { kind: 'command' as const, argv: ['touch', 'new'] };
  for (const base of bases) {
    const assignment = await world.assignment(spec, { repository, base });
    const result = await one.runner.run(assignment, one.hooks, new AbortController().signal);
    await one.runner.forget(result);
  }
  const kept = await one.runner.run(
    await world.assignment(spec, null),
    one.hooks,
    new AbortController().signal,
  );
  const orphan = await one.blobs.put(randomBytes(MiB));
  await one.runner.close();
  await one.blobs.close();
  const cached = join(one.folder, 'repos', `${repository.root}.git`);
  const [first, second] = (await readdir(cached)).sort();
  await utimes(join(cached, first!), 1, 1);

  const two = await opened('start', 64 * MiB, 1);
  assert.not(await two.blobs.has(orphan.blob));
  assert.ok(await two.blobs.has(kept.log!.blob));
  assert.equal(await readdir(cached), [second]);
  await two.runner.close();
});

it('a bundle that was fetched for an attempt which is stopped does not stay', async () => {
  const one = await opened('stopped', 64 * MiB);
  const own = world.repository('stopped');
  const base = await own.commit({ a: 'x\n' });
  const stop = new AbortController();
  const assignment = await world.assignment({ kind: 'command', argv: ['true'] }, { repository: own, base });
  const fetch: AttemptHooks['fetch'] = async (wanted, signal) => {
    await one.hooks.fetch(wanted, signal);
    stop.abort(new Error('stop'));
  };
  const failed = await one.runner
    .run(assignment, { ...one.hooks, fetch }, stop.signal)
    .catch((error) => error);
  assert.is((failed as Error).message, 'stop');
  await one.runner.close();
  assert.equal([await one.blobs.list(), await readdir(join(one.folder, 'attempts'))], [[], []]);
});

test.run();
