/**
 * Members that join a founder by one invite and open their sessions: how many a second, and what each costs the founder
 * in resident memory. The founder is a process of its own, started by its launcher; the members are real hosts in two
 * helper processes. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_JOIN_MEMBERS` and `BENCH_JOIN_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Daemon, Mesh } from '../../test/net/mesh.ts';
import { alternate, type Benchmark, median } from './figures.ts';

const MEMBERS = Number(process.env.BENCH_JOIN_MEMBERS ?? 200);
const RUNS = Number(process.env.BENCH_JOIN_RUNS ?? 5);
const HELPERS = 2;
/** What a burst of joins leaves to be collected is given this long. */
const SETTLE_MS = MEMBERS < 50 ? 100 : 5_000;
const MB = 1e6;

export const benchmark: Benchmark = async (say) => {
  const memory: number[] = [];
  const rates: number[] = [];
  const run = async (): Promise<number> => {
    const { perSecond, perMember, cpuMs } = await joinAll();
    const kB = (perMember / 1e3).toFixed(0);
    say(
      `join: ${perSecond.toFixed(0)} members a second, ${kB} kB and ${cpuMs.toFixed(0)} ms of the founder's processor each`,
    );
    rates.push(perSecond);
    memory.push(perMember);
    return perSecond;
  };
  const rate = await alternate('join.rate', '/s', RUNS, run, null);
  const ours = median(memory.slice(1)) / MB;
  return [rate, { figure: 'join.memory', ours, peer: null, ratio: null, unit: 'MB', runs: RUNS }];
};

async function joinAll(): Promise<{ perSecond: number; perMember: number; cpuMs: number }> {
  const mesh = new Mesh();
  const helpers: Helper[] = [];
  try {
    const founder = await mesh.founder();
    const { token } = await mesh.json<{ token: string }>(['invite', '--uses', String(MEMBERS)]);
    for (let n = 0; n < HELPERS; n++) {
      const share = Math.floor(MEMBERS / HELPERS) + (n < MEMBERS % HELPERS ? 1 : 0);
      helpers.push(new Helper(share, `member-${n}`));
    }
    await Promise.all(helpers.map((helper) => helper.says('made')));
    const before = residentBytes(founder);
    const cpuBefore = processorMs(founder);
    const began = performance.now();
    for (const helper of helpers) helper.tell({ token });
    await Promise.all(helpers.map((helper) => helper.says('online')));
    const seconds = (performance.now() - began) / 1000;
    const cpuMs = (processorMs(founder) - cpuBefore) / MEMBERS;
    await delay(SETTLE_MS);
    const perMember = (residentBytes(founder) - before) / MEMBERS;
    const { nodes } = await mesh.json<{ nodes: { online: number } }>(['status']);
    if (nodes.online !== MEMBERS + 1) throw new Error(`${nodes.online} of ${MEMBERS + 1} nodes are online`);
    return { perSecond: MEMBERS / seconds, perMember, cpuMs };
  } finally {
    await Promise.all(helpers.map((helper) => helper.end()));
    await mesh.close();
  }
}

function residentBytes({ pid }: Daemon): number {
  const kiB = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kiB === undefined) throw new Error('the founder is gone');
  return Number(kiB) * 1024;
}

/** User and system time so far; Linux counts both in hundredths of a second. */
function processorMs({ pid }: Daemon): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** A process of members. */
class Helper {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(members: number, prefix: string) {
    const script = join(import.meta.dirname, 'join-members.ts');
    this.#child = fork(script, [String(members), prefix], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#exited = once(this.#child, 'exit');
  }

  tell(message: object): void {
    this.#child.send(message);
  }

  /** Resolves at this event; a failure or an end before it is an error. */
  async says(event: string): Promise<void> {
    const ended = this.#exited.then(() => ({ event: 'failed', message: 'a process of members ended' }));
    for (;;) {
      const [said] = (await Promise.race([
        once(this.#child, 'message'),
        ended.then((message) => [message]),
      ])) as [{ event: string; message?: string }];
      if (said.event === event) return;
      if (said.event === 'failed') throw new Error(said.message);
    }
  }

  async end(): Promise<void> {
    if (this.#child.connected) this.tell({});
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }
}
