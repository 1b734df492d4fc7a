import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Ledger, openLedger } from '../../../hub/daemon/ledger.ts';
import { Log } from '../../../ledger/log.ts';
import { saveState } from '../../../ledger/state/state.ts';
import { FileStorage } from '../../../ledger/storage-file.ts';
import { GENESIS, KEY } from '../../ledger/kit.ts';

const TIME = 1_700_000_000_000;

/** The founder's log as its process opens it: what it logged, and how it ends. */
async function opened(
  root: string,
): Promise<Ledger & { said: Record<string, unknown>[]; stop(): Promise<void> }> {
  const said: Record<string, unknown>[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => void said.push(JSON.parse(line)) });
  const stops: (() => unknown)[] = [];
  const paths = { log: join(root, 'log'), index: join(root, 'index') };
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

test('an orderly stop spares the next start the replay, and a lost index costs no more than that', async () => {
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
    // As the core does: the state goes first, the log follows.
    for (let n = 1; n <= 5; n += 1) {
      first.log.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], TIME + n, 1);
      Object.assign(first.state.mesh, { paused: true, size: n + 1, time: TIME + n });
    }
    await first.stop();

    const second = await opened(root);
    assert.is(replayed(second.said), 0);
    assert.is(second.state.mesh.paused, true);
    const whole = JSON.stringify(saveState(second.state));
    await second.stop();

    await rm(join(root, 'index'), { recursive: true });
    const third = await opened(root);
    assert.is(replayed(third.said), 6);
    assert.is(JSON.stringify(saveState(third.state)), whole);
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
