import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { ReplicaBlobs } from '../../../node/replica/blobs.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { newLog } from '../../ledger/kit.ts';

const TIME = 1_700_000_000_000;
const blobOf = (n: number): string => n.toString(16).padStart(64, '0');
const evidence = (n: number) => ({
  type: 'task.evidence' as const,
  body: {
    task: 'aaaaaaaaaaab',
    attempt: 1,
    correlation: 'c1',
    epoch: 1,
    member: '12D3KooWCvCzUrK2JcfPBccNQhosxJrAq3RXY4VjDiYrhUc9pg85',
    receipt: null,
    envelope: blobOf(n),
    why: 'late',
  },
});

test('a replica gets what the log names from whoever has it, also what comes later, and counts what nobody has', async () => {
  const log = await newLog(new MemoryStorage());
  for (let n = 1; n <= 3; n += 1) await log.append([evidence(n)], TIME, 1).durable;
  const here = new Set([blobOf(1)]);
  const there: Record<string, Set<string>> = { founder: new Set([blobOf(2)]), other: new Set([blobOf(4)]) };
  const lacking: number[] = [];
  let changed = (): void => {};
  const until = async (wanted: number): Promise<void> => {
    while (lacking.at(-1) !== wanted) await new Promise<void>((resolve) => (changed = resolve));
  };
  const asked: string[] = [];
  const stock = new ReplicaBlobs({
    blobs: { has: async (blob) => here.has(blob) },
    sources: () => Object.keys(there),
    fetch: async (peer, blob) => {
      asked.push(blob);
      if (!there[peer]!.has(blob)) throw new SuperfleetError('SF_NOT_FOUND', `${blob} is not here`);
      here.add(blob);
    },
    onChange: (count) => {
      lacking.push(count);
      changed();
    },
    retryMs: { first: 5, max: 10 },
  });
  stock.start(log);
  await until(1);
  assert.ok(here.has(blobOf(2)) && !asked.includes(blobOf(1)), 'what is here is not asked for');
  assert.is(stock.lacking, 1);
  await log.append([evidence(4)], TIME, 1).durable;
  while (!here.has(blobOf(4))) await until(1);
  there.other!.add(blobOf(3));
  await until(0);
  assert.equal([stock.missing, stock.lacking], [0, 0]);
  await stock.stop();
  await log.close();
});

test.run();
