import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeSnapshotInProcess } from '../../../hub/daemon/snapshot-maker.ts';
import { Snapshots } from '../../../hub/daemon/snapshots.ts';
import type { EventBody } from '../../../ledger/lines/events.ts';
import type { Log } from '../../../ledger/log/log.ts';
import { segmentName } from '../../../ledger/storage/storage.ts';
import { FileStorage } from '../../../ledger/storage/storage-file.ts';
import { newLog, started } from '../../ledger/kit.ts';

const TIME = 1_700_000_000_000;
const PAUSED = { type: 'mesh.paused', body: { by: { kind: 'founder' } } } as const;

interface Box {
  log: Log;
  folder: string;
  said: Record<string, unknown>[];
  made: EventBody<'log.snapshot'>[];
  /** Resolves when a snapshot was made or a warning said. */
  heard(): Promise<void>;
  begin(every?: { entries: number; bytes: number }, rest?: number): Snapshots;
  append(count: number): Promise<void>;
}

async function withLog(use: (box: Box) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-snapshots-'));
  const paths = { log: join(folder, 'log'), snapshots: join(folder, 'snapshots') };
  const log = await newLog(new FileStorage(paths.log));
  const said: Record<string, unknown>[] = [];
  const made: EventBody<'log.snapshot'>[] = [];
  let wake = (): void => {};
  const write = (line: string): void => {
    said.push(JSON.parse(line));
    if (said.at(-1)!.level === 40) wake();
  };
  const logger = pino({ level: 'debug' }, { write });
  const begin: Box['begin'] = (every, rest = 0) =>
    new Snapshots({
      log,
      paths,
      logger,
      compress: false,
      made: (snapshot) => {
        made.push(snapshot);
        wake();
      },
      ...(every && { every }),
      rest,
    });
  const append = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n += 100) {
      const events = Array.from({ length: Math.min(100, count - n) }, () => PAUSED);
      await log.append(events, TIME, 1).durable;
    }
  };
  const heard = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  // A founder's process has more to live for than the one that makes its snapshots.
  const alive = setInterval(() => {}, 1_000);
  try {
    await use({ log, folder, said, made, heard, begin, append });
  } finally {
    clearInterval(alive);
    await log.close();
    await rm(folder, { recursive: true });
  }
}

const files = async (folder: string): Promise<string[]> =>
  (await readdir(join(folder, 'snapshots')).catch(() => [])).sort();

test('after one there is a rest, which a log that grows much faster ends', () =>
  withLog(async ({ log, made, heard, begin, append }) => {
    const snapshots = begin({ entries: 10, bytes: 1e9 }, 1e9);
    const first = heard();
    await append(9);
    await first;
    assert.equal(
      made.map(({ size }) => size),
      [10],
    );
    const second = heard();
    await append(199);
    assert.is(made.length, 1, 'it rests');
    await append(1);
    await second;
    assert.equal(
      made.map(({ size }) => size),
      [10, 210],
    );
    await snapshots.stop();
    assert.is(log.failure, null);
  }));

test('what was due during the rest is made at its end, though nothing is appended any more', () =>
  withLog(async ({ made, heard, begin, append }) => {
    const snapshots = begin({ entries: 10, bytes: 1e9 }, 1);
    const first = heard();
    await append(9);
    await first;
    const second = heard();
    await append(10);
    await second;
    assert.equal(
      made.map(({ size }) => size),
      [10, 20],
    );
    await snapshots.stop();
  }));

test('one is made when the log has grown by so many entries, and the next when it has grown as much again', () =>
  withLog(async ({ log, folder, made, heard, begin, append }) => {
    const snapshots = begin({ entries: 10, bytes: 1e9 });
    await append(8);
    assert.equal(made, []);
    const first = heard();
    await append(1);
    await first;
    assert.equal([made.length, made[0]!.size, made[0]!.root], [1, 10, log.checkpoint.root]);
    await append(9);
    const second = heard();
    await append(1);
    await second;
    assert.equal([made.length, made[1]!.size], [2, 20]);
    await snapshots.stop();
    assert.equal(await files(folder), ['0000000000000010.snapshot', '0000000000000020.snapshot']);
  }));

test('one is made when the log has grown by so many bytes', () =>
  withLog(async ({ log, made, heard, begin }) => {
    const snapshots = begin({ entries: 1e9, bytes: log.opened.bytes + 500 });
    const one = heard();
    for (let n = 0; n < 2; n += 1) await log.append([PAUSED], TIME, 1).durable;
    await one;
    assert.is(made.length, 1);
    await snapshots.stop();
  }));

test('what a start had to read is counted: where that is much one is made at once', () =>
  withLog(async ({ log, made, heard, begin }) => {
    const one = heard();
    const snapshots = begin({ entries: log.opened.entries, bytes: 1e9 });
    await one;
    assert.is(made[0]!.size, 1);
    await snapshots.stop();
  }));

test('one that cannot be made is a warning, and is tried again when the log has grown as much once more', () =>
  withLog(async ({ log, folder, said, made, heard, begin, append }) => {
    const snapshots = begin({ entries: 10, bytes: 1e9 });
    // An attempt of a task that is not there: no state follows from it.
    await log.append([started(1)], TIME, 1).durable;
    const warned = heard();
    await append(8);
    await warned;
    const warnings = said.filter(({ level }) => level === 40);
    assert.is(warnings.length, 1);
    assert.match(String(warnings[0]!.msg), /no snapshot was made/);
    await append(9);
    assert.is(said.filter(({ level }) => level === 40).length, 1);
    const again = heard();
    await append(1);
    await again;
    assert.is(said.filter(({ level }) => level === 40).length, 2);
    assert.equal([made, await files(folder)], [[], []]);
    await snapshots.stop();
  }));

test('an orderly stop makes one where it spares the next start something, and none where it does not', () =>
  withLog(async ({ log, folder, made, begin, append }) => {
    await begin().stop();
    assert.equal(made, []);
    const snapshots = begin();
    await append(1_200);
    const began = performance.now();
    await snapshots.stop();
    const ms = performance.now() - began;
    // On a machine that is too busy for it within a second, none: then nothing of it is left behind either.
    const [name] = await files(folder);
    if (made.length === 1) assert.equal([made[0]!.size, name], [log.size, '0000000000001201.snapshot']);
    assert.ok(ms < 10_000, `${ms} ms`);
  }));

test('the process says what was wrong with the log, and ends when it is told to', () =>
  withLog(async ({ log, folder, append }) => {
    await append(5);
    const order = {
      log: join(folder, 'log'),
      snapshots: join(folder, 'snapshots'),
      mesh: log.meshId,
      size: 7,
    };
    const ending = new AbortController();
    const damaged = await makeSnapshotInProcess(order, ending.signal).catch((error) => error);
    assert.is(damaged.code, 'SF_LOG_DAMAGED');
    assert.match(damaged.message, segmentName(0));
    const stopped = makeSnapshotInProcess({ ...order, size: 6 }, ending.signal).catch((error) => error);
    ending.abort(new Error('enough'));
    assert.is((await stopped).message, 'enough');
    const late = await makeSnapshotInProcess({ ...order, size: 6 }, ending.signal).catch((error) => error);
    assert.is(late.message, 'enough');
    assert.equal(await files(folder), []);
  }));

test.run();
