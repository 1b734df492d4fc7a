/**
 * Members that join a founder by one invite and open their sessions: how many a second, and what each costs the founder
 * in resident memory. The founder is a process of its own, started by its launcher; the members are real hosts in two
 * helper processes. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_JOIN_MEMBERS` and `BENCH_JOIN_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Mesh } from '../../test/net/mesh.ts';
import { alternate, type Benchmark, median } from './figures.ts';
import { Helper, processorMs, residentBytes } from './helper.ts';

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
      helpers.push(new Helper('join-members.ts', [share, `member-${n}`]));
    }
    await Promise.all(helpers.map((helper) => helper.says('made')));
    const before = residentBytes(founder.pid);
    const cpuBefore = processorMs(founder.pid);
    const began = performance.now();
    for (const helper of helpers) helper.tell({ token });
    await Promise.all(helpers.map((helper) => helper.says('online')));
    const seconds = (performance.now() - began) / 1000;
    const cpuMs = (processorMs(founder.pid) - cpuBefore) / MEMBERS;
    await delay(SETTLE_MS);
    const perMember = (residentBytes(founder.pid) - before) / MEMBERS;
    const { nodes } = await mesh.json<{ nodes: { online: number } }>(['status']);
    if (nodes.online !== MEMBERS + 1) throw new Error(`${nodes.online} of ${MEMBERS + 1} nodes are online`);
    return { perSecond: MEMBERS / seconds, perMember, cpuMs };
  } finally {
    await Promise.all(helpers.map((helper) => helper.end()));
    await mesh.close();
  }
}
