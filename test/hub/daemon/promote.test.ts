import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Heard, judge } from '../../../hub/daemon/promote.ts';
import { handoverBatch } from '../../../ledger/log/handover.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { divergesFrom } from '../../../node/daemon/succession.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { newSigningKey } from '../../../protocol/keys.ts';
import type { LogTip } from '../../../protocol/log-sync.ts';
import { KEY, newLog } from '../../ledger/kit.ts';

const TIME = 1_700_000_000_000;
const NEXT = newSigningKey((length) => new Uint8Array(length).fill(9));
const event = (n: number) => ({
  type: 'secret.set' as const,
  body: { name: `NAME_${n}`, by: { kind: 'local' as const, user: 'u', claimed: true as const } },
});
const log = await newLog(new MemoryStorage());
for (let n = 0; n < 5; n += 1) await log.append([event(n)], TIME, 1).durable;
const genesisLine = JSON.stringify((await log.read(0, 1))[0]);
const copyOf = async (size: number): Promise<LogCopy> => {
  const parts: Buffer[] = [];
  for await (const { bytes } of log.raw(0, 1)) {
    parts.push(bytes);
    if (parts.length === size) break;
  }
  return LogCopy.create({ storage: new MemoryStorage(), mesh: log.meshId }, Buffer.concat(parts));
};
const tipOf = (holder: { checkpoint: { text: string } }, more: Partial<LogTip> = {}): LogTip => ({
  type: 'tip',
  checkpoint: holder.checkpoint.text,
  at: null,
  handovers: [],
  holds: true,
  ...more,
});
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as SuperfleetError).code;
  }
  return 'none';
};
const founder = log.leadership.founder;

test('what a replica hears decides whether it may lead, and what it takes first', async () => {
  const [short, middle] = [await copyOf(2), await copyOf(4)];
  const decide = (heard: Heard[], force = false) => judge(heard, short, founder, genesisLine, force);
  const longest = decide([
    { peer: 'a', tip: tipOf(middle) },
    { peer: 'b', tip: tipOf(log) },
    { peer: 'c', tip: tipOf(log, { holds: false }) },
    { peer: 'd', tip: tipOf(short) },
  ]);
  assert.equal(
    longest.map(({ peer }) => peer),
    ['b', 'a'],
  );
  assert.is(
    codeOf(() => decide([{ peer: founder, tip: tipOf(log) }])),
    'SF_REFUSED',
  );
  assert.is(
    codeOf(() => decide([{ peer: founder, tip: tipOf(log) }], true)),
    'none',
  );
  // A size that no key of the mesh signed is nobody's word.
  const forged = log.checkpoint.text.replace(/\n6\n/, '\n600\n');
  assert.not.equal(forged, log.checkpoint.text);
  assert.equal(decide([{ peer: 'a', tip: tipOf(short, { checkpoint: forged }) }]), []);
});

test('a later epoch that is proved forbids it, one that is claimed does not (promise 8)', async () => {
  const copy = await copyOf(3);
  const to = { founder: NEXT.peer, logKey: NEXT.publicKey, authority: 'founder' } as const;
  const { line, bytes } = handoverBatch(copy.standing, to, KEY, TIME);
  const heard = (handovers: string[]): Heard[] => [{ peer: 'a', tip: tipOf(log, { handovers }) }];
  const decide = (handovers: string[], force: boolean) => () =>
    judge(heard(handovers), copy, founder, genesisLine, force);
  for (const force of [false, true]) assert.is(codeOf(decide([line], force)), 'SF_FENCED');
  assert.is(codeOf(decide([line.replace(NEXT.peer, founder)], false)), 'none');
  const standing = { size: copy.size, epoch: copy.epoch };
  await copy.take(bytes);
  assert.is(divergesFrom(standing, copy.leadership), false, 'a log that ends where the mesh changed hands');
  assert.is(divergesFrom(log, copy.leadership), true, 'and one that went on after it');
  assert.is(divergesFrom(copy, copy.leadership), false);
});

test.run();
