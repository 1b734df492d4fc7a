import { makeCheckpoint } from '../../ledger/checkpoint.ts';
import { formatCheckpoint } from '../../ledger/line.ts';
import { Frontier, leafHash } from '../../ledger/merkle.ts';
import { MemoryStorage } from '../../ledger/storage-memory.ts';
import { FOUNDER, image, KEY, long, newLog, started } from './kit.ts';

const TIME = 1_700_000_000_000;

/**
 * How the bytes of `test/fixtures/log-1` came to be: two segments, batches of one and more, an entry of a type that no
 * program knows yet. The files themselves stay as they are for ever; this only has to go on giving them.
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
  await log.append([started(2)], TIME + 3, 2).durable;
  const last = storage.names().at(-1)!;
  const frontier = new Frontier();
  for await (const entry of log.entries()) frontier.append(leafHash(JSON.stringify(entry)));
  await log.close();
  const later = JSON.stringify({
    index: log.size,
    epoch: 2,
    time: TIME + 4,
    type: 'later.thing',
    body: { any: ['thing', null, 0.5] },
  });
  frontier.append(leafHash(later));
  const root = frontier.root().toString('hex');
  const checkpoint = makeCheckpoint({ origin: log.meshId, size: frontier.size, root }, KEY);
  storage.put(
    last,
    Buffer.concat([storage.bytes(last)!, Buffer.from(`${later}\n${formatCheckpoint(checkpoint)}\n`)]),
  );
  return image(storage);
}
