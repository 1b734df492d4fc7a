/**
 * The whole path of a task but workspace, sandbox and independent verification: submitted 200 at a time over the founder's own
 * API, durable in the log, assigned to member processes over libp2p, an executor that returns at once, its signed receipt back,
 * checked, durable. The peer is BullMQ on redis with `appendfsync always`, the same payload, as many worker processes, each with as many
 * jobs at one time. A job has ended when its worker was told that its result is kept, on both sides.
 *
 * `dispatch.throughput`: jobs a second. `dispatch.p50`, `dispatch.p99`: from submission to that end, of jobs submitted at 1,000 a second.
 *
 * `BENCH_DISPATCH_JOBS`, `BENCH_DISPATCH_SECONDS` and `BENCH_DISPATCH_RUNS` make it small for a test of the frame; no figure that is told
 * comes of that. `BENCH_DISPATCH_PROFILE=FOLDER` leaves a profile of the founder there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { now } from './dispatch-ends.ts';
import { CONCURRENCY, ours, type Payload, peer, type Side, WORKERS } from './dispatch-sides.ts';
import { alternate, type Benchmark, type Figure, median } from './figures.ts';
import { processorMs } from './helper.ts';

const JOBS = Number(process.env.BENCH_DISPATCH_JOBS ?? 4_000);
const AT_ONCE = 200;
const RATE = Number(process.env.BENCH_DISPATCH_RATE ?? 1_000);
const SECONDS = Number(process.env.BENCH_DISPATCH_SECONDS ?? 4);
const RUNS = Number(process.env.BENCH_DISPATCH_RUNS ?? 5);
/** At the fixed rate so many are submitted together. */
const STEP = 10;
/** One run takes no longer. */
const PATIENCE_MS = 120_000;

export const benchmark: Benchmark = async (say) => {
  say(`dispatch: ${WORKERS} worker processes, ${CONCURRENCY} jobs at one time each`);
  const sides = [await ours(), process.env.BENCH_DISPATCH_ALONE === undefined ? await peer() : null] as const;
  try {
    const [mine, theirs] = [new Watch(sides[0]), sides[1] === null ? null : new Watch(sides[1])];
    const both = <T>(
      measure: (watch: Watch) => Promise<T>,
    ): [() => Promise<T>, (() => Promise<T>) | null] => [
      () => measure(mine),
      theirs === null ? null : () => measure(theirs),
    ];
    const throughput = await alternate(
      'dispatch.throughput',
      '/s',
      RUNS,
      ...both(async (watch) => {
        const before = watch.processorMs();
        const rate = await watch.asFastAsItGoes(JOBS);
        const each = watch.processorMs().map((ms, at) => ((ms - before[at]!) / JOBS).toFixed(2));
        const [keeper, workers, submitter] = each;
        say(
          `dispatch: ${watch.name} ${rate.toFixed(0)} a second; ms of processor a job: ${keeper} ${watch.name === 'ours' ? 'founder' : 'redis'}, ${workers} workers, ${submitter} submitter`,
        );
        return rate;
      }),
    );
    const slow: Record<string, number[]> = { ours: [], peer: [] };
    const p50 = await alternate(
      'dispatch.p50',
      'ms',
      RUNS,
      ...both(async (watch) => {
        const [half, most] = await watch.atRate(RATE, SECONDS);
        say(`dispatch: ${watch.name} p50 ${half.toFixed(1)} ms, p99 ${most.toFixed(1)} ms`);
        slow[watch.name]!.push(most);
        return half;
      }),
    );
    const most = median(slow.ours!.slice(1));
    const peers = theirs === null ? null : median(slow.peer!.slice(1));
    const ratio = peers === null ? null : most / peers;
    const p99: Figure = { figure: 'dispatch.p99', ours: most, peer: peers, ratio, unit: 'ms', runs: RUNS };
    return [throughput, p50, p99];
  } finally {
    for (const side of sides) await side?.close();
  }
};

/** Submits to one side, and hears of every job's end. */
class Watch {
  readonly name: Side['name'];
  readonly #side: Side;
  readonly #open = new Set<number>();
  readonly #begun = new Map<number, number>();
  #took: number[] = [];
  #last = 0;
  #next = 0;
  #empty: () => void = () => {};

  constructor(side: Side) {
    this.name = side.name;
    this.#side = side;
    for (const worker of side.workers) {
      worker.listen(({ event, numbers, times }) => {
        if (event !== 'ends') return;
        for (const [at, number] of numbers.entries()) this.#ended(number, times[at]!);
      });
    }
  }

  /** So far: of whoever keeps the queue, of all workers, of this process, which submits. */
  processorMs(): number[] {
    const { keeper, workers } = this.#side;
    const { user, system } = process.cpuUsage();
    const ofWorkers = workers.reduce((sum, { pid }) => sum + processorMs(pid), 0);
    return [processorMs(keeper), ofWorkers, (user + system) / 1000];
  }

  #ended(number: number, at: number): void {
    if (!this.#open.delete(number)) throw new Error(`job ${number} ended twice`);
    this.#took.push(at - this.#begun.get(number)!);
    this.#begun.delete(number);
    this.#last = Math.max(this.#last, at);
    if (this.#open.size === 0) this.#empty();
  }

  async #submit(count: number): Promise<void> {
    const began = now();
    const jobs: Payload[] = [];
    for (let n = 0; n < count; n++) {
      this.#open.add(this.#next);
      this.#begun.set(this.#next, began);
      jobs.push({ kind: 'command', argv: ['true', String(this.#next++)] });
    }
    await this.#side.submit(jobs);
  }

  async #done(): Promise<void> {
    if (this.#open.size === 0) return;
    const patience = delay(PATIENCE_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${this.#open.size} jobs of ${this.name} have not ended`);
    });
    const empty = new Promise<void>((resolve) => {
      this.#empty = resolve;
    });
    await Promise.race([empty, patience]);
  }

  /** Jobs a second, from the first submission to the last end; the next are submitted when those before are durable. */
  async asFastAsItGoes(jobs: number): Promise<number> {
    const began = now();
    for (let at = 0; at < jobs; at += AT_ONCE) await this.#submit(Math.min(AT_ONCE, jobs - at));
    await this.#done();
    return jobs / ((this.#last - began) / 1000);
  }

  /** Median and 99th percentile, in ms, of what jobs take that come evenly. */
  async atRate(rate: number, seconds: number): Promise<[number, number]> {
    this.#took = [];
    const began = now();
    const acknowledged: Promise<void>[] = [];
    for (let at = 0; at < rate * seconds; at += STEP) {
      const due = began + (1000 * at) / rate;
      const wait = due - now();
      if (wait > 0) await delay(wait);
      acknowledged.push(this.#submit(STEP));
    }
    await Promise.all(acknowledged);
    await this.#done();
    const sorted = this.#took.sort((a, b) => a - b);
    return [median(sorted), sorted[Math.floor(sorted.length * 0.99)]!];
  }
}
