/**
 * What reading a million entries costs a founder's start (`replay-start.ts`, a process of its own for each run): the
 * processor time of the whole process, all its threads and Node's start among it, and its resident memory at the end. The
 * log (`long-log.ts`) is written before, in the same go. Then what a start costs that has a snapshot (`replay-restart.ts`):
 * the time from the loaded program to the state, with as many newer entries as there are when the next snapshot is made,
 * and with none (`@0`). There is nothing to compare with, so the peer is null.
 *
 * `BENCH_REPLAY_ENTRIES` and `BENCH_REPLAY_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Benchmark, type Figure, median } from './figures.ts';
import { longLog } from './long-log.ts';
import { type Snapshots, snapshotsOf } from './replay-snapshots.ts';

const ENTRIES = Number(process.env.BENCH_REPLAY_ENTRIES ?? 1_000_000);
const RUNS = Number(process.env.BENCH_REPLAY_RUNS ?? 5);
/** Entries after which the founder makes the next snapshot; a twentieth of a smaller log. */
const NEWER = Math.min(25_000, Math.floor(ENTRIES / 20));
const MB = 1e6;

export const benchmark: Benchmark = async (say) => {
  const log = await longLog(ENTRIES, say);
  const { folder } = log;
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
  const [none, most] = (await snapshotsOf(log, NEWER)) as [Snapshots, Snapshots];
  return [
    figure('replay.cpu', median(cpu), 's'),
    figure('replay.memory', median(memory), 'MB'),
    figure('replay.restart', median(await restarts(folder, most, say)), 'ms'),
    figure('replay.restart@0', median(await restarts(folder, none, say)), 'ms'),
  ];
};

/** Milliseconds of each run; the first is a warm-up. */
async function restarts(
  log: string,
  { folder, newer }: Snapshots,
  say: (line: string) => void,
): Promise<number[]> {
  const times: number[] = [];
  for (let run = -1; run < RUNS; run += 1) {
    const script = join(import.meta.dirname, 'replay-restart.ts');
    const { stdout } = await promisify(execFile)(process.execPath, [script, log, folder]);
    const told: { size: number; spared: number; ms: number; cpuMs: number } = JSON.parse(stdout);
    if (told.size !== ENTRIES || told.spared !== ENTRIES - newer)
      throw new Error(`not the start asked for: ${stdout}`);
    say(
      `replay: restart with ${newer} newer entries in ${Math.round(told.ms)} ms, ${Math.round(told.cpuMs)} ms of processor`,
    );
    if (run >= 0) times.push(told.ms);
  }
  return times;
}
