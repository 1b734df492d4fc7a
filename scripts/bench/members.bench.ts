/**
 * A thousand members, real libp2p hosts in four processes, against one founder, a process of its own started by its launcher:
 * seconds until the last of them has joined by one invite and is welcomed (`members.joinSeconds`), the founder's resident
 * memory then (`members.memory`), and what it takes of a core while all are idle (`members.idleCpu`). There is nothing to
 * compare with, so the peer is null.
 *
 * `BENCH_MEMBERS` makes it small for a test of the frame, `BENCH_MEMBERS_RUNS` sets how often; no figure that is told comes of a
 * smaller mesh.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Mesh } from '../../test/net/mesh.ts';
import { type Benchmark, type Figure, median } from './figures.ts';
import { Helper, processorMs, residentBytes } from './helper.ts';

const MEMBERS = Number(process.env.BENCH_MEMBERS ?? 1000);
const RUNS = Number(process.env.BENCH_MEMBERS_RUNS ?? 3);
const HELPERS = 4;
/** Of all processes together the founder lets 32 strangers in at once. */
const JOINS_AT_ONCE = 6;
/** What a burst of joins leaves to be done and collected is given this long; then one idle heartbeat of each is looked at. */
const SETTLE_MS = MEMBERS < 50 ? 100 : 20_000;
const IDLE_MS = MEMBERS < 50 ? 200 : 30_000;
const MB = 1e6;

export const benchmark: Benchmark = async (say) => {
  const runs: Run[] = [];
  for (let run = 0; run < RUNS; run++) {
    const took = await once();
    say(
      `members: ${MEMBERS} in ${took.joinSeconds.toFixed(1)} s, ${took.memory.toFixed(0)} MB, ${took.idleCpu.toFixed(2)} of a core while idle`,
    );
    runs.push(took);
  }
  const figure = (name: keyof Run, unit: Figure['unit']): Figure => ({
    figure: `members.${name}`,
    ours: median(runs.map((run) => run[name])),
    peer: null,
    ratio: null,
    unit,
    runs: RUNS,
  });
  return [figure('joinSeconds', 's'), figure('memory', 'MB'), figure('idleCpu', 'x')];
};

interface Run {
  joinSeconds: number;
  memory: number;
  idleCpu: number;
}

async function once(): Promise<Run> {
  const mesh = new Mesh();
  const helpers: Helper[] = [];
  try {
    const founder = await mesh.founder();
    const { token } = await mesh.json<{ token: string }>(['invite', '--uses', String(MEMBERS)]);
    for (let n = 0; n < HELPERS; n++) {
      const share = Math.floor(MEMBERS / HELPERS) + (n < MEMBERS % HELPERS ? 1 : 0);
      helpers.push(new Helper('join-members.ts', [share, `member-${n}`, JOINS_AT_ONCE]));
    }
    await Promise.all(helpers.map((helper) => helper.says('made')));
    const began = performance.now();
    for (const helper of helpers) helper.tell({ token });
    await Promise.all(helpers.map((helper) => helper.says('online')));
    const joinSeconds = (performance.now() - began) / 1000;
    await delay(SETTLE_MS);
    const cpu = processorMs(founder.pid);
    const looked = performance.now();
    await delay(IDLE_MS);
    const idleCpu = (processorMs(founder.pid) - cpu) / (performance.now() - looked);
    const memory = residentBytes(founder.pid) / MB;
    const { nodes } = await mesh.json<{ nodes: { online: number } }>(['status']);
    if (nodes.online !== MEMBERS + 1) throw new Error(`${nodes.online} of ${MEMBERS + 1} nodes are online`);
    return { joinSeconds, memory, idleCpu };
  } finally {
    await Promise.all(helpers.map((helper) => helper.end()));
    await mesh.close();
  }
}
