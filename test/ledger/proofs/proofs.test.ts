import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DurableLog } from '../../../ledger/log/durable-log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import { leafHash } from '../../../ledger/proofs/merkle.ts';
import { verifyConsistency, verifyInclusion } from '../../../ledger/proofs/merkle-proof.ts';
import { LogProofs } from '../../../ledger/proofs/proofs.ts';
import { MemoryTileStore, type TileStore } from '../../../ledger/proofs/tile-store.ts';
import { FileTileStore } from '../../../ledger/proofs/tile-store-file.ts';
import type { Tile } from '../../../ledger/proofs/tiles.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { newLog } from '../kit.ts';
import { fill } from '../proof-kit.ts';

const strict = (message: string, error: unknown): void => {
  throw new Error(message, { cause: error });
};
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (error: SuperfleetError) => error.code,
  );
const rootOf = ({ root, size }: { root: string; size: number }) => ({ size, root: Buffer.from(root, 'hex') });

/** Every so many entries, and the first and last, are proved under the newest checkpoint. */
async function provesAll(log: DurableLog, proofs: LogProofs, every = 37): Promise<void> {
  const head = rootOf(log.checkpoint);
  for (let index = 0; index < log.size; index += index + every < log.size ? every : 1) {
    const { line, path, checkpoint } = await proofs.inclusion(index);
    assert.is(checkpoint.text, log.checkpoint.text);
    assert.is(JSON.parse(line).index, index);
    verifyInclusion(leafHash(line), index, head, path);
  }
}

/** A log that counts the leaf hashes read from it. */
function counting<T extends DurableLog>(log: T): { log: T; read: () => number } {
  let count = 0;
  const leaves = log.leaves.bind(log);
  log.leaves = async function* (from, to) {
    for await (const leaf of leaves(from, to)) {
      count += 1;
      yield leaf;
    }
  };
  return { log, read: () => count };
}

test('every entry of a log is proved while it grows, from what its batches carry (promise 4)', async () => {
  const { log, read } = counting(await newLog(new MemoryStorage()));
  const proofs = new LogProofs(log, { store: new MemoryTileStore(), onWarning: strict });
  const older = rootOf(log.checkpoint);
  for (const entries of [3, 250, 300, 70]) {
    await fill(log, entries);
    await provesAll(log, proofs);
  }
  const { path, checkpoint } = await proofs.consistency(older.size);
  verifyConsistency(older, rootOf(checkpoint), path);
  assert.ok(read() < 10, `${read()} lines read again`);
  await proofs.close();
  await log.close();
});

test('a second start reads at most one tile of lines, and none again to go on', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-proofs-'));
  try {
    const { log, read } = counting(await newLog(new MemoryStorage()));
    const first = new LogProofs(log, { store: new FileTileStore(folder), onWarning: strict });
    await fill(log, 700);
    await first.inclusion(0);
    await first.close();
    const before = read();
    const second = new LogProofs(log, { store: new FileTileStore(folder), onWarning: strict });
    await second.inclusion(300);
    assert.is(read() - before, log.size % 256);
    await fill(log, 600);
    await provesAll(log, second);
    assert.is(read() - before, 701 % 256);
    await second.close();
    await rm(folder, { recursive: true });
    const third = new LogProofs(log, { store: new FileTileStore(folder), onWarning: strict });
    await provesAll(log, third);
    assert.ok((await readdir(folder)).includes('tile'), 'lost tiles are made again');
    await third.close();
    await log.close();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a replica proves from its copy what the founder proves', async () => {
  const log = await newLog(new MemoryStorage());
  await fill(log, 20);
  const all = async (from: number): Promise<Buffer> => {
    const pieces: Buffer[] = [];
    for await (const { bytes } of log.raw(from, 1_000_000)) pieces.push(bytes);
    return Buffer.concat(pieces);
  };
  const copy = await LogCopy.create({ storage: new MemoryStorage(), mesh: log.meshId }, await all(0));
  const founder = new LogProofs(log, { store: new MemoryTileStore(), onWarning: strict });
  const replica = new LogProofs(copy, { store: new MemoryTileStore(), onWarning: strict });
  await replica.inclusion(5);
  const from = log.size;
  await fill(log, 400);
  await copy.take(await all(from));
  await provesAll(copy, replica);
  for (const index of [0, 19, 333]) {
    const [ours, theirs] = [await founder.inclusion(index), await replica.inclusion(index)];
    assert.equal([ours.line, ours.path], [theirs.line, theirs.path]);
  }
  for (const part of [founder, replica, log, copy]) await part.close();
});

test('appends never wait for tiles: what comes while a store hangs is let go and read again', async () => {
  const release = Promise.withResolvers<void>();
  class Hanging extends MemoryTileStore {
    override async write(tile: Tile): Promise<void> {
      await release.promise;
      await super.write(tile);
    }
  }
  const { log, read } = counting(await newLog(new MemoryStorage()));
  const proofs = new LogProofs(log, { store: new Hanging(), onWarning: strict });
  await fill(log, 300);
  // The tiles hang at the first one they make.
  while (read() < 256) await new Promise((resolve) => setImmediate(resolve));
  const events = Array.from({ length: 1000 }, () => ({
    type: 'mesh.paused' as const,
    body: { by: { kind: 'founder' as const } },
  }));
  for (let batch = 0; batch < 20; batch += 1) await log.append(events, 1_760_000_000_000, 1).durable;
  assert.is(log.size, 20_301);
  assert.is(proofs.size, 0);
  release.resolve();
  await provesAll(log, proofs, 1777);
  assert.ok(read() > 16_000, `what was let go came from the log: ${read()}`);
  await proofs.close();
  await log.close();
});

test('a failing disk under the tiles is told of once and costs proofs only, until it works again', async () => {
  let broken = true;
  class Broken extends MemoryTileStore {
    override async read(id: Parameters<TileStore['read']>[0]): Promise<Buffer | null> {
      if (broken) throw Object.assign(new Error('EACCES'), { code: 'EACCES' });
      return super.read(id);
    }
    override async write(tile: Tile): Promise<void> {
      if (broken) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      return super.write(tile);
    }
  }
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  await fill(log, 600);
  const told: string[] = [];
  const proofs = new LogProofs(log, { store: new Broken(), onWarning: (message) => told.push(message) });
  await fill(log, 3);
  assert.is(await codeOf(proofs.inclusion(4)), 'EACCES');
  await fill(log, 600);
  assert.is(await codeOf(proofs.inclusion(4)), 'EACCES');
  assert.equal(told, ['no proofs can be made of the log for now']);
  assert.is(log.failure, null);
  broken = false;
  await provesAll(log, proofs);
  broken = true;
  await fill(log, 600);
  await provesAll(log, proofs, 10_000).catch((error: SuperfleetError) => assert.is(error.code, 'EACCES'));
  assert.equal(told.slice(1), ['a tile of the log could not be kept; proofs take longer']);
  await proofs.close();
  await log.close();
});

test('there is no proof of what is not in the log', async () => {
  const log = await newLog(new MemoryStorage());
  const proofs = new LogProofs(log, { store: new MemoryTileStore(), onWarning: strict });
  assert.is(await codeOf(proofs.inclusion(1)), 'SF_NOT_FOUND');
  assert.is(await codeOf(proofs.consistency(2)), 'SF_BEHIND');
  await proofs.close();
  assert.is(await codeOf(proofs.inclusion(0)), 'SF_LOG_FAILED');
  await log.close();
});

test('tiles of another history under the log cost time and give no wrong proof', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-proofs-'));
  try {
    const log = await newLog(new MemoryStorage());
    await fill(log, 600);
    const first = new LogProofs(log, { store: new FileTileStore(folder), onWarning: strict });
    await first.inclusion(0);
    await first.close();
    await writeFile(join(folder, 'tile/0/001'), Buffer.alloc(8192, 9));
    const second = new LogProofs(log, { store: new FileTileStore(folder), onWarning: strict });
    await provesAll(log, second);
    await second.close();
    await log.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.run();
