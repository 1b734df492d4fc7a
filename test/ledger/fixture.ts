import { makeCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { formatCheckpoint } from '../../ledger/lines/line.ts';
import { Log } from '../../ledger/log/log.ts';
import { Frontier, leafHash } from '../../ledger/proofs/merkle.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { signingKeyFromSeed } from '../../protocol/keys.ts';
import { FOUNDER, image, long, newLog, started } from './kit.ts';

const TIME = 1_700_000_000_000;
/** Log key, and peer, of the founder that takes over. */
const SECOND = signingKeyFromSeed(Buffer.alloc(32, 9));

/**
 * How the bytes of `test/fixtures/log-1` came to be: two segments, batches of one and more, a handover, an entry of a type
 * that no program knows yet. The files themselves stay as they are for ever; this only has to go on giving them.
 */
export async function fixtureSegments(): Promise<{ name: string; bytes: Buffer }[]> {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: 1800 });
  await log.append(
    [{ type: 'mesh.paused', body: { by: { kind: 'local', user: 'ada', claimed: true } } }],
    TIME + 1,
    1,
  ).durable;
  await log.append(
    [{ type: 'mesh.resumed', body: { by: { kind: 'peer', peer: FOUNDER } } }, started(1), long(1, 30)],
    TIME + 2,
    1,
  ).durable;
  await log.handOver({ founder: SECOND.peer, logKey: SECOND.publicKey }, TIME + 3);
  await log.close();
  const second = await Log.open({ storage, key: SECOND });
  await second.append([started(2)], TIME + 4, 2).durable;
  const last = storage.names().at(-1)!;
  const frontier = new Frontier();
  for await (const entry of second.entries()) frontier.append(leafHash(JSON.stringify(entry)));
  await second.close();
  const later = JSON.stringify({
    index: second.size,
    epoch: 2,
    time: TIME + 5,
    type: 'later.thing',
    body: { any: ['thing', null, 0.5] },
  });
  frontier.append(leafHash(later));
  const root = frontier.root().toString('hex');
  const checkpoint = makeCheckpoint({ origin: log.meshId, size: frontier.size, root }, SECOND);
  storage.put(
    last,
    Buffer.concat([storage.bytes(last)!, Buffer.from(`${later}\n${formatCheckpoint(checkpoint)}\n`)]),
  );
  return image(storage);
}
