// limit: 150 s
// alone: it measures memory while a log is sent
import { chownSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject, NodeObject, Page } from '../../node/api/objects.ts';
import { LOOKED } from '../../node/cli/lifecycle.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { logCreditBytes } from '../../protocol/log-sync.ts';
import { Fleet, freePort, peakBytes, residentBytes } from './fleet.ts';

const MiB = 2 ** 20;
/** A log of several times the credit: an end that held it all would be seen. */
const ENTRIES = 200_000;
/** What catching up may add to the resident memory of either end: the credit as bytes, as text and as entries, far less than of the log. */
const GROWTH_BYTES = 8 * logCreditBytes;

/** Else a process takes what the machine has before it collects what it let go. */
const TIGHT = { [LOOKED]: '1', NODE_OPTIONS: '--max-old-space-size=96 --max-semi-space-size=2' };

const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS });
test.after(() => fleet.close());

/** Entries that leave the state as it is, so that only what sends and takes them can grow. Answers the bytes of the log. */
async function lengthen(entries: number): Promise<number> {
  const folder = join(fleet.dir('hub'), 'log');
  const log = await Log.open({
    storage: new FileStorage(folder),
    key: (await readKey(join(fleet.dir('hub'), 'log.key')))!,
  });
  const user = 'u'.repeat(64);
  const event: LogEvent = {
    type: 'member.eligibility',
    body: { peer: log.genesis.founder, eligible: true, by: { kind: 'local', user, claimed: true } },
  };
  const time = Date.now();
  for (let n = 0; n < entries; n += 200) await log.append(Array(200).fill(event), time, 1).durable;
  await log.close();
  let bytes = 0;
  for (const name of readdirSync(folder)) {
    const { uid, gid } = statSync(fleet.dir('hub'));
    chownSync(join(folder, name), uid, gid);
    bytes += statSync(join(folder, name)).size;
  }
  return bytes;
}

/** The most a process holds is counted anew from here. */
const countAnew = (pid: number): void => writeFileSync(`/proc/${pid}/clear_refs`, '5');

test('a replica that catches up with a long log makes neither end hold it (promise 18)', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  const bytes = await lengthen(ENTRIES);
  assert.ok(bytes > 3 * logCreditBytes, `${bytes} bytes`);
  const founder = await fleet.up(ARGS, TIGHT);
  const { token } = await fleet.json<{ token: string }>(['invite', '--role', 'worker', '--role', 'replica']);
  fleet.configure('r1', { slots: 1 });
  const idle = residentBytes(founder.pid);
  countAnew(founder.pid);
  const began = performance.now();
  const replica = fleet.join('r1', [token, '--name', 'r1'], { env: TIGHT });
  await replica.event('ready');
  const empty = residentBytes(replica.pid);
  countAnew(replica.pid);
  const inStep = async (): Promise<boolean> => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.find(({ name }) => name === 'r1')?.lag === 0;
  };
  // On a machine that others load it takes longer than what is waited for elsewhere.
  const patience = (): Promise<void> => fleet.untilAsked(inStep, 'the replica holds the whole log');
  await patience().catch(patience);
  const seconds = (performance.now() - began) / 1000;
  const { size } = await fleet.client.get<MeshObject>('/v1/status');
  assert.ok(size > ENTRIES);
  const words = (from: number, to: number): string =>
    `${Math.round(from / MiB)} to ${Math.round(to / MiB)} MiB`;
  const [sent, took] = [peakBytes(founder.pid), peakBytes(replica.pid)];
  console.log(
    `${size} entries, ${Math.round(bytes / MiB)} MiB in ${seconds.toFixed(1)} s: founder ${words(idle, sent)}, replica ${words(empty, took)}`,
  );
  assert.ok(sent - idle < GROWTH_BYTES, `the founder grew from ${words(idle, sent)}`);
  assert.ok(took - empty < GROWTH_BYTES, `the replica grew from ${words(empty, took)}`);
});

test.run();
