import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Ledger, openLedger } from '../../../hub/daemon/ledger.ts';
import { makeSnapshotInProcess } from '../../../hub/daemon/snapshot-maker.ts';
import { Log } from '../../../ledger/log/log.ts';
import { stateDigests } from '../../../ledger/snapshots/snapshot.ts';
import { snapshotName } from '../../../ledger/snapshots/snapshot-store.ts';
import type { MeshState } from '../../../ledger/state/state.ts';
import { FileStorage } from '../../../ledger/storage/storage-file.ts';
import { GENESIS, KEY } from '../../ledger/kit.ts';

const inWords = (state: MeshState): string => JSON.stringify(stateDigests(state));
const TIME = 1_700_000_000_000;

/** The founder's log as its process opens it: what it logged, and how it ends. */
async function opened(
  root: string,
): Promise<Ledger & { said: Record<string, unknown>[]; stop(): Promise<void> }> {
  const said: Record<string, unknown>[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => void said.push(JSON.parse(line)) });
  const stops: (() => unknown)[] = [];
  const paths = { log: join(root, 'log'), index: join(root, 'index'), snapshots: join(root, 'snapshots') };
  const ledger = await openLedger({ folder: { paths }, logger }, KEY, {
    onStop: (stop) => stops.unshift(stop),
  });
  const stop = async (): Promise<void> => {
    for (const close of stops) await close();
  };
  return { ...ledger, said, stop };
}

const replayed = (said: Record<string, unknown>[]): unknown =>
  said.find((line) => 'replayed' in line)!.replayed;

test('a start takes the state from the newest snapshot, and a lost index or snapshot costs no more than the reading', async () => {
  const root = await mkdtemp(join(tmpdir(), 'superfleet-ledger-'));
  try {
    await (
      await Log.create({
        storage: new FileStorage(join(root, 'log')),
        genesis: GENESIS,
        key: KEY,
        time: TIME,
      })
    ).close();
    const first = await opened(root);
    assert.is(replayed(first.said), 1);
    for (let n = 1; n <= 5; n += 1) {
      await first.log.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], TIME + n, 1)
        .durable;
    }
    const order = {
      log: join(root, 'log'),
      snapshots: join(root, 'snapshots'),
      mesh: first.log.meshId,
      size: 6,
    };
    const body = await makeSnapshotInProcess(order, new AbortController().signal);
    await first.log.append([{ type: 'log.snapshot', body }], TIME + 6, 1).durable;
    await first.stop();

    const second = await opened(root);
    assert.is(replayed(second.said), 1);
    assert.equal([second.state.mesh.paused, second.state.mesh.size], [true, 7]);
    const whole = inWords(second.state);
    await second.stop();

    await rm(join(root, 'index'), { recursive: true });
    await writeFile(join(root, 'snapshots', snapshotName(6)), 'garbage\n');
    const third = await opened(root);
    assert.is(replayed(third.said), 7);
    assert.is(inWords(third.state), whole);
    assert.ok(third.said.some(({ msg }) => String(msg).startsWith('a snapshot was not used')));
    await third.stop();
  } finally {
    await rm(root, { recursive: true });
  }
});

/** Without asking it, which would index: it has no event for its end. */
async function indexed({ index, log }: Ledger): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (index.built < log.size) {
    assert.ok(performance.now() < deadline, `${index.built} of ${log.size} are indexed`);
    await setImmediate();
  }
}

test('the log is indexed as it grows and at the start, also where nobody asks', async () => {
  const root = await mkdtemp(join(tmpdir(), 'superfleet-ledger-'));
  try {
    const storage = new FileStorage(join(root, 'log'));
    await (await Log.create({ storage, genesis: GENESIS, key: KEY, time: TIME })).close();
    const first = await opened(root);
    const paused = { type: 'mesh.paused' as const, body: { by: { kind: 'founder' as const } } };
    for (let batch = 0; batch < 4; batch += 1) {
      await first.log.append(Array(1_000).fill(paused), TIME, 1).durable;
    }
    assert.is(first.index.built, 0, 'a little is left to whoever asks');
    await first.log.append(Array(1_000).fill(paused), TIME, 1).durable;
    await indexed(first);
    await first.stop();

    await rm(join(root, 'index'), { recursive: true });
    const second = await opened(root);
    await indexed(second);
    await second.stop();
  } finally {
    await rm(root, { recursive: true });
  }
});

test.run();
