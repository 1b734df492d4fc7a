/**
 * What reading a million entries costs a founder's start (`replay-start.ts`, a process of its own for each run): the
 * processor time of the whole process, all its threads and Node's start among it, and its resident memory at the end. The
 * log (`long-log.ts`) is written before, in the same go. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_REPLAY_ENTRIES` and `BENCH_REPLAY_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Benchmark, type Figure, median } from './figures.ts';
import { longLog } from './long-log.ts';

const ENTRIES = Number(process.env.BENCH_REPLAY_ENTRIES ?? 1_000_000);
const RUNS = Number(process.env.BENCH_REPLAY_RUNS ?? 5);
const MB = 1e6;

export const benchmark: Benchmark = async (say) => {
  const { folder } = await longLog(ENTRIES, say);
  const cpu: number[] = [];
  const memory: number[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    const script = join(import.meta.dirname, 'replay-start.ts');
    const { stdout } = await promisify(execFile)(process.execPath, [script, folder]);
    const told: { size: number; cpu: number; rss: number; rssMax: number } = JSON.parse(stdout);
    if (told.size !== ENTRIES) throw new Error(`a replay of ${told.size} entries, not ${ENTRIES}`);
    const perEntry = ((told.cpu * 1e6) / ENTRIES).toFixed(1);
    say(
      `replay: ${told.cpu.toFixed(2)} s of processor, ${perEntry} µs an entry; ${Math.round(told.rss / MB)} MB resident, ${Math.round(told.rssMax / MB)} at most`,
    );
    cpu.push(told.cpu);
    memory.push(told.rss / MB);
  }
  const figure = (name: string, ours: number, unit: Figure['unit']): Figure => ({
    figure: name,
    ours,
    peer: null,
    ratio: null,
    unit,
    runs: RUNS,
  });
  return [figure('replay.cpu', median(cpu), 's'), figure('replay.memory', median(memory), 'MB')];
};
