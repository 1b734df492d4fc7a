import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { handoverBatch } from '../../../ledger/log/handover.ts';
import { Log } from '../../../ledger/log/log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import {
  provesEquivocation,
  signedBy,
  testimonyOf,
  weighCheckpoint,
} from '../../../ledger/proofs/witness.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { signingKeyFromSeed } from '../../../protocol/keys.ts';
import { KEY, newLog, OTHER_KEY, started } from '../kit.ts';

const TIME = 1_700_000_000_000;
const NEXT = signingKeyFromSeed(Buffer.alloc(32, 41));
const STRANGER = signingKeyFromSeed(Buffer.alloc(32, 42));

const note = (log: { meshId: string }, size: number, digit: string, key = KEY): string =>
  makeCheckpoint({ origin: log.meshId, size, root: digit.repeat(64) }, key).text;

async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

async function grown(storage = new MemoryStorage()): Promise<Log> {
  const log = await newLog(storage);
  for (let n = 1; n < 8; n += 1) await log.append([started(n), started(n + 100)], TIME, 1).durable;
  return log;
}

test('what a member saw is of this log, beyond it, against it, or proves nothing (promises 2, 5 and 7)', async () => {
  const log = await grown();
  for await (const { checkpoint } of log.batches(0)) {
    assert.is((await testimonyOf(log, checkpoint.text)).kind, 'same');
  }
  const kind = async (text: string): Promise<string> => (await testimonyOf(log, text)).kind;
  assert.is(await kind(note(log, log.size + 1, 'a')), 'ahead');
  assert.is(await kind(note(log, log.size, 'a')), 'fork');
  assert.is(await kind(note(log, 3, 'a')), 'fork');
  assert.is(await kind(note(log, 4, 'a')), 'fork', 'no batch of this log ended there');
  assert.is(await kind(note(log, 3, 'a', STRANGER)), 'unproved');
  assert.is(await kind(note({ meshId: 'f'.repeat(64) }, 3, 'a')), 'unproved');
  assert.is(await kind('nonsense'), 'unproved');
  await log.close();
});

test('two roots for one size prove themselves; two sizes, two epochs or a forged one do not (promise 7)', async () => {
  const log = await grown();
  const { leadership } = log;
  const [a, b] = [note(log, 30, 'a'), note(log, 30, 'b')];
  assert.ok(provesEquivocation(leadership, [a, b]));
  assert.not.ok(provesEquivocation(leadership, [a, a]));
  assert.not.ok(provesEquivocation(leadership, [a, note(log, 31, 'b')]));
  assert.not.ok(provesEquivocation(leadership, [a, note(log, 30, 'b', STRANGER)]));
  assert.not.ok(provesEquivocation(leadership, [a, b], 2));
  await log.close();
});

test('a member keeps what goes further, of a later epoch first, and never goes back (promise 8)', async () => {
  const log = await grown();
  const copied = await LogCopy.create(
    { storage: new MemoryStorage(), mesh: log.meshId },
    Buffer.concat((await gather(log.raw(0, 1e6))).map(({ bytes }) => bytes)),
  );
  const to = { founder: NEXT.peer, logKey: NEXT.publicKey, authority: 'recovery' as const };
  const lost = note(log, 40, 'c');
  await copied.take(handoverBatch(copied.standing, to, OTHER_KEY, TIME).bytes);
  const before = log.leadership;
  const after = copied.leadership;
  const opening = copied.checkpoint.text;
  const later = note(log, 17, 'd', NEXT);
  assert.is(weighCheckpoint(before, null, lost), 'keep');
  assert.is(weighCheckpoint(before, lost, note(log, 39, 'a')), 'pass');
  assert.is(weighCheckpoint(before, lost, note(log, 40, 'a')), 'conflict');
  assert.is(weighCheckpoint(before, lost, note(log, 41, 'a')), 'keep');
  assert.is(weighCheckpoint(before, lost, note(log, 50, 'a', STRANGER)), 'pass');
  assert.is(weighCheckpoint(before, lost, later), 'pass', 'of a key it does not know yet');
  // The new epoch is shorter than what was seen of the old one, which the operator has given up.
  assert.is(weighCheckpoint(after, lost, opening), 'keep');
  assert.is(weighCheckpoint(after, lost, later), 'keep');
  assert.is(weighCheckpoint(after, opening, later), 'keep');
  assert.is(weighCheckpoint(after, later, note(log, 99, 'e')), 'pass', 'the fenced founder writes on');
  assert.equal([signedBy(after, opening)?.epoch, signedBy(after, later)?.epoch], [2, 2]);
  assert.is((await testimonyOf(copied, lost)).kind, 'same', 'given up');
  assert.is((await testimonyOf(copied, log.checkpoint.text)).kind, 'same');
  // Two founders with one key had signed two roots for this size; the recovery key has chosen between them.
  assert.is((await testimonyOf(copied, note(log, 15, 'a'))).kind, 'same', 'given up, too');
  assert.is(
    (await testimonyOf(copied, note(log, 16, 'a', NEXT))).kind,
    'fork',
    'of the epoch of now nothing is',
  );
  await copied.close();
  await log.close();
});

test('a log that was cut short takes back its own entries, and nothing else, before it grows (promise 2)', async () => {
  const log = await grown();
  const pieces = await gather(log.raw(0, 1));
  const storage = new MemoryStorage();
  const short = await newLog(storage);
  assert.is(short.meshId, log.meshId);
  for (const { first, bytes } of pieces.slice(1)) {
    assert.is(short.size, first);
    const forged = Buffer.from(bytes.toString().replace('"attempt":1', '"attempt":2'));
    let refused = '';
    await short.take(forged).catch((error: { code: string }) => {
      refused = error.code;
    });
    assert.is(refused, 'SF_NOT_PROVED');
    await short.take(bytes);
  }
  assert.is(short.checkpoint.text, log.checkpoint.text);
  await short.append([started(77)], TIME, 1).durable;
  assert.is(short.size, log.size + 1);
  let late = '';
  await short.take(pieces[1]!.bytes).catch((error: { code: string }) => {
    late = error.code;
  });
  assert.is(late, 'SF_CONFLICT');
  await short.close();
  const again = await Log.open({ storage, key: KEY });
  assert.is(again.size, log.size + 1);
  await again.close();
  await log.close();
});

test.run();
