import type { LogEvent } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import { makeSnapshot } from '../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore, snapshotName } from '../../ledger/snapshots/snapshot-store.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { signingKeyFromSeed } from '../../protocol/keys.ts';
import { FOUNDER, image, newLog } from './kit.ts';

const TIME = 1_700_000_000_000;
const BY = { kind: 'local', user: 'ada', claimed: true } as const;
/** Log key, and peer, of the founder that takes over. */
const SECOND = signingKeyFromSeed(Buffer.alloc(32, 9));

const EVENTS: LogEvent[] = [
  {
    type: 'member.admitted',
    body: {
      peer: FOUNDER,
      name: 'emil',
      owner: 'Élodie',
      roles: ['worker', 'replica'],
      labels: { zone: 'b', arch: 'x64' },
      via: { kind: 'genesis' },
      by: { kind: 'founder' },
    },
  },
  { type: 'secret.set', body: { name: 'TOKEN', by: BY } },
  {
    type: 'invite.created',
    body: {
      invite: '1'.repeat(64),
      expiresAt: TIME + 1e9,
      uses: 3,
      roles: ['worker'],
      labels: {},
      owner: null,
      by: BY,
    },
  },
];

/**
 * How the bytes of `test/fixtures/snapshot-1` came to be: a log with a handover and a member, the snapshot of its first
 * entries, and its entry. The files themselves stay as they are for ever; this only has to go on giving their states,
 * until a reducer's version rises.
 */
export async function fixtureSnapshot(): Promise<{ name: string; bytes: Buffer }[]> {
  const storage = new MemoryStorage();
  const store = new MemorySnapshotStore();
  const log = await newLog(storage, { segmentBytes: 1200 });
  for (const [n, event] of EVENTS.entries()) await log.append([event], TIME + n, 1).durable;
  await log.handOver({ founder: SECOND.peer, logKey: SECOND.publicKey }, TIME + 3);
  await log.close();
  const second = await Log.open({ storage, key: SECOND });
  await second.append([{ type: 'mesh.paused', body: { by: BY } }], TIME + 4, 2).durable;
  const { meshId: mesh, size } = second;
  const body = await makeSnapshot({ storage, store, mesh, size });
  await second.append([{ type: 'log.snapshot', body }], TIME + 5, 2).durable;
  await second.close();
  return [...image(storage), { name: snapshotName(size), bytes: store.files.get(size)! }];
}
