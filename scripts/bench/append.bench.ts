/**
 * The founder's log on disk. `append.single`: one entry at a time, each waited for until it is durable, against the
 * same bytes written and synced by bare synchronous calls. `append.stall`: how long the main thread was held up at most
 * meanwhile, against a main thread that does nothing for as long: what the machine itself takes from it. `append.concurrent`: appends that come 200 at once, against hypercore taking the same lines in batches of 200.
 *
 * `BENCH_APPEND_ENTRIES` and `BENCH_APPEND_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import Hypercore from 'hypercore';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { makeEntry } from '../../ledger/lines/line.ts';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { publicKeyToBase64, signingKeyFromSeed } from '../../protocol/keys.ts';
import { alternate, type Benchmark, type Figure, median } from './figures.ts';
import { LIFE_ENTRIES, taskLife } from './task-life.ts';

/** Of a run. */
const ENTRIES = Number(process.env.BENCH_APPEND_ENTRIES ?? 200);
const RUNS = Number(process.env.BENCH_APPEND_RUNS ?? 9);
const AT_ONCE = 200;
const ROUNDS = Math.ceil((ENTRIES * 100) / AT_ONCE);
const EPOCH = 1;
/** How often the delay of the event loop is looked at; the histogram counts it in. */
const LOOK_MS = 1;
const KEY = signingKeyFromSeed(Buffer.alloc(32, 7));

export const benchmark: Benchmark = async (say) => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-bench-append-'));
  try {
    return [...(await oneAtATime(join(folder, 'single'), say)), await atOnce(folder, say)];
  } finally {
    await rm(folder, { recursive: true });
  }
};

async function oneAtATime(folder: string, say: (line: string) => void): Promise<Figure[]> {
  const log = await newLog(folder);
  const written: Buffer[] = [];
  log.subscribe(({ bytes }) => written.push(bytes));
  const next = events();
  const stalls: number[] = [];
  const idle: number[] = [];
  const bare = openSync(join(folder, 'bare'), 'wx', 0o600);
  try {
    const ours = async (): Promise<number> => {
      written.length = 0;
      const times: number[] = [];
      const held = await longestStall(async () => {
        for (let n = 0; n < ENTRIES; n += 1) {
          const event = next();
          const began = performance.now();
          await log.append([event], Date.now(), EPOCH).durable;
          times.push(performance.now() - began);
        }
      });
      const seconds = times.reduce((sum, ms) => sum + ms, 0) / 1000;
      const nothing = await longestStall(() => delay(1000 * seconds));
      say(`append: longest stall ${held.toFixed(1)} ms; doing nothing as long, ${nothing.toFixed(1)} ms`);
      stalls.push(held);
      idle.push(nothing);
      return median(times) * 1000;
    };
    const peer = async (): Promise<number> => {
      const times = written.map((bytes) => {
        const began = performance.now();
        writeSync(bare, bytes);
        fdatasyncSync(bare);
        return performance.now() - began;
      });
      return median(times) * 1000;
    };
    const single = await alternate('append.single', 'us', RUNS, ours, peer);
    const [stall, without] = [median(stalls.slice(1)), median(idle.slice(1))];
    const ratio = stall / without;
    return [single, { figure: 'append.stall', ours: stall, peer: without, ratio, unit: 'ms', runs: RUNS }];
  } finally {
    closeSync(bare);
    await log.close();
  }
}

async function atOnce(folder: string, say: (line: string) => void): Promise<Figure> {
  const log = await newLog(join(folder, 'at-once'));
  const core = new Hypercore(join(folder, 'hypercore'));
  await core.ready();
  const next = events();
  let lines: Buffer[][] = [];
  try {
    const ours = async (): Promise<number> => {
      const rounds = Array.from({ length: ROUNDS }, () => Array.from({ length: AT_ONCE }, next));
      lines = rounds.map((round) => round.map((event, at) => lineOf(log.size + at, event)));
      const began = performance.now();
      for (const round of rounds) {
        await Promise.all(round.map((event) => log.append([event], Date.now(), EPOCH).durable));
      }
      return perSecond(began);
    };
    const peer = async (): Promise<number> => {
      const began = performance.now();
      for (const round of lines) await core.append(round);
      return perSecond(began);
    };
    const figure = await alternate('append.concurrent', '/s', RUNS, ours, peer);
    const bytes = lines.flat().reduce((sum, line) => sum + line.length, 0) / (ROUNDS * AT_ONCE);
    say(`append: ${AT_ONCE} at once, ${ROUNDS} times a run, lines of ${bytes.toFixed(0)} bytes`);
    return figure;
  } finally {
    await core.close();
    await log.close();
  }
}

const perSecond = (began: number): number => (ROUNDS * AT_ONCE) / ((performance.now() - began) / 1000);

/** What the peer is given: the entry's line, made beforehand. */
const lineOf = (index: number, event: LogEvent): Buffer =>
  Buffer.from(makeEntry({ index, epoch: EPOCH, time: Date.now() }, event).line);

/** A founder's log of its genesis. */
function newLog(folder: string): Promise<Log> {
  const genesis = {
    format: 1 as const,
    name: 'lab',
    founder: KEY.peer,
    logKey: publicKeyToBase64(KEY.publicKey),
    recoveryKey: publicKeyToBase64(signingKeyFromSeed(Buffer.alloc(32, 8)).publicKey),
    parent: null,
    nonce: '0'.repeat(32),
  };
  return Log.create({ storage: new FileStorage(folder), genesis, key: KEY, time: Date.now() });
}

/** What a founder logs of one task after the other, event by event. */
function events(): () => LogEvent {
  let life: LogEvent[] = [];
  let n = 0;
  return () => {
    if (n % LIFE_ENTRIES === 0) life = taskLife(n / LIFE_ENTRIES);
    n += 1;
    return life[(n - 1) % LIFE_ENTRIES]!;
  };
}

/** How late a timer of `LOOK_MS` was at most while this ran, in ms. */
async function longestStall(work: () => Promise<unknown>): Promise<number> {
  const delays = monitorEventLoopDelay({ resolution: LOOK_MS });
  delays.enable();
  await work();
  delays.disable();
  return Math.max(0, delays.max / 1e6 - LOOK_MS);
}
