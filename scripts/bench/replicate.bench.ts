/**
 * A replica that catches up with a long log over loopback TCP, against hypercore: entries a second, from the dial until the
 * last is there (`replicate.rate`), and the processor time of the replica's whole process for each (`replicate.cpu`). Source and replica are processes of their own, on disk; the replica is a new one for each run. Ours
 * verifies every line and root and syncs; the peer gets the same lines as blocks and verifies each.
 *
 * `BENCH_REPLICATE_ENTRIES` and `BENCH_REPLICATE_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Hypercore from 'hypercore';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { alternate, type Benchmark, median } from './figures.ts';
import { longLog } from './long-log.ts';
import { End, type Took } from './replicate-ends.ts';

const ENTRIES = Number(process.env.BENCH_REPLICATE_ENTRIES ?? 40_000);
const RUNS = Number(process.env.BENCH_REPLICATE_RUNS ?? 5);
const BLOCKS_AT_ONCE = 1000;

export const benchmark: Benchmark = async (say) => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-bench-replicate-'));
  const sources: End[] = [];
  try {
    const log = await longLog(ENTRIES, say);
    await fill(join(folder, 'peer'), log.folder);
    const cpu: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
    const end = async (name: 'ours' | 'peer', from: string): Promise<() => Promise<number>> => {
      const script = `replicate-${name}.ts`;
      const source = new End(script, ['source', from]);
      sources.push(source);
      const at = await source.hear<object>('at');
      return async () => {
        const { seconds, cpuSeconds } = await catchUp(script, join(folder, 'copy'), at);
        const each = (1e6 * cpuSeconds) / ENTRIES;
        cpu[name].push(each);
        say(
          `replicate: ${name} ${seconds.toFixed(2)} s, ${each.toFixed(1)} µs of the replica's processor an entry`,
        );
        return ENTRIES / seconds;
      };
    };
    const ours = await end('ours', log.folder);
    const peer = await end('peer', join(folder, 'peer'));
    const rate = await alternate('replicate.rate', '/s', RUNS, ours, peer);
    const [mine, theirs] = [median(cpu.ours.slice(1)), median(cpu.peer.slice(1))];
    const figure = { figure: 'replicate.cpu', unit: 'us', runs: RUNS } as const;
    return [rate, { ...figure, ours: mine, peer: theirs, ratio: mine / theirs }];
  } finally {
    await Promise.all(sources.map((source) => source.end()));
    await rm(folder, { recursive: true });
  }
};

/** A core of the lines of a log. */
async function fill(folder: string, from: string): Promise<void> {
  const log = await Log.open({ storage: new FileStorage(from), key: null });
  const core = new Hypercore(folder);
  await core.ready();
  let blocks: Buffer[] = [];
  for await (const entry of log.entries()) {
    // Parsed from the one text of its value, so this gives that text.
    blocks.push(Buffer.from(JSON.stringify(entry)));
    if (blocks.length < BLOCKS_AT_ONCE && entry.index < log.size - 1) continue;
    await core.append(blocks);
    blocks = [];
  }
  await core.close();
  await log.close();
}

async function catchUp(script: string, folder: string, at: object): Promise<Took> {
  const replica = new End(script, ['follow', folder, ENTRIES]);
  try {
    replica.tell(at);
    return await replica.hear<Took>('result');
  } finally {
    await replica.end();
    await rm(folder, { recursive: true, force: true });
  }
}
