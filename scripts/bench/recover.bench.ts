/**
 * How soon a mesh of real processes goes on: a founder that takes no work and three members with sandboxes, started by their launchers,
 * with the lease, grace and heartbeats of a mesh nobody configured.
 *
 * `recover.memberLost`: from the kill of a member's process until its task is running on another. `recover.founderKilled`: from the kill of
 * the founder, which is started again at once, until a task submitted then is running on a member. `recover.pause`: from the operator's
 * pause with 36 attempts running until no process of them is left. `recover.ownerSuspend`: from a key pressed on a machine that works
 * when idle until no process of its attempt can run. `recover.ownerEvict`: from the end of the grace that follows until that task is
 * running on another member. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_RECOVER_RUNS` says how often; no figure that is told comes of fewer than 50. `BENCH_RECOVER` names some of them, by comma.
 */
import { Fleet, freePort, gone, runs } from '../../test/net/fleet.ts';
import { isRoot } from '../../test/net/mesh.ts';
import { Desk, halted } from './desk.ts';
import { type Benchmark, type Figure, median, type Plot } from './figures.ts';
import { rangePlot } from './plot.ts';

const RUNS = Number(process.env.BENCH_RECOVER_RUNS ?? 50);
const ATTEMPTS = 36;
const NAMES = ['one', 'two', 'three'];
/** Machines where somebody sits. Each works again ten seconds after a key, so they take turns. */
const DESKS = ['left', 'middle', 'right'];
const OWNER = 'owner';
/** Short, so that many runs are soon done: what is measured begins at its end. */
const EVICT_MS = 1_000;

export const benchmark: Benchmark = async (say) => {
  const args = ['--port', String(await freePort())];
  const slots = ATTEMPTS / NAMES.length;
  const members = Object.fromEntries(NAMES.map((name) => [name, { slots }]));
  const fleet = await Fleet.start({ hub: { slots: 0 }, hubArgs: args, members });
  const desks: Desk[] = [];
  const measures: Record<string, (run: number) => Promise<Record<string, number>>> = {
    memberLost: async (run) => ({ memberLost: await memberLost(fleet, NAMES[run % NAMES.length]!) }),
    founderKilled: async (run) => ({ founderKilled: await founderKilled(fleet, args, run) }),
    pause: async (run) => ({ pause: await pause(fleet, run) }),
    // The last: its members are no machines for the others.
    [OWNER]: async (run) => owner(fleet, await seated(fleet, desks), run),
  };
  try {
    const wanted = process.env.BENCH_RECOVER?.split(',') ?? Object.keys(measures);
    const figures: Figure[] = [];
    const first = performance.now();
    for (const name of wanted) {
      if (name === OWNER && !isRoot) {
        say('recover: owner: left out, since terminals of its own need root');
        continue;
      }
      const took = new Map<string, number[]>();
      for (let run = 0; run < RUNS; run++) {
        for (const [what, ms] of Object.entries(await measures[name]!(run))) {
          took.set(what, [...(took.get(what) ?? []), ms]);
          say(`recover: ${what} ${ms.toFixed(0)} ms`);
        }
      }
      for (const [what, times] of took) figures.push(...figuresOf(what, times));
    }
    say(`recover: ${RUNS} runs in ${((performance.now() - first) / 60_000).toFixed(1)} min`);
    return figures;
  } finally {
    try {
      await fleet.close();
    } finally {
      for (const desk of desks) await desk.close();
    }
  }
};

export const plot: Plot = (figures) =>
  rangePlot(
    `From the median to the longest of ${RUNS}`,
    { label: 'ms', ticks: [1, 10, 100, 1_000, 10_000] },
    figures.flatMap(({ figure, ours: from }) => {
      const to = figures.find((other) => other.figure === figure.replace(/p50$/, 'p99'))?.ours;
      return figure.endsWith('.p50') && to !== undefined ? [{ name: figure.slice(0, -4), from, to }] : [];
    }),
  );

function figuresOf(name: string, took: number[]): Figure[] {
  took.sort((a, b) => a - b);
  const figure = (of: string, ours: number): Figure => ({
    figure: `recover.${name}.${of}`,
    ours,
    peer: null,
    ratio: null,
    unit: 'ms',
    runs: RUNS,
  });
  return [figure('p50', median(took)), figure('p99', took[Math.ceil(took.length * 0.99) - 1]!)];
}

async function memberLost(fleet: Fleet, name: string): Promise<number> {
  // One that succeeds first: a machine whose attempts only fail is given nothing for a while.
  await fleet.ended(await fleet.submit(['true'], { on: name }));
  const task = await fleet.submit(['sleep', '600']);
  const { body } = await fleet.about(task, 'attempt.assigned');
  await fleet.about(task, 'attempt.started');
  const { items } = await fleet.client.get<{ items: { id: string; name: string }[] }>('/v1/nodes');
  const holder = items.find(({ id }) => id === body.member)!.name;
  const from = fleet.next;
  const began = performance.now();
  await fleet.daemon(holder).end('SIGKILL');
  const { at } = await fleet.about(task, 'attempt.started', from);
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  await fleet.ended(task);
  fleet.members.set(holder, await fleet.startMember(holder));
  return at - began;
}

async function founderKilled(fleet: Fleet, args: string[], run: number): Promise<number> {
  const mark = `mark-founder-${run}`;
  const began = performance.now();
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(args);
  const task = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`]);
  await runs(mark);
  const took = performance.now() - began;
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  await fleet.ended(task);
  return took;
}

async function pause(fleet: Fleet, run: number): Promise<number> {
  const mark = `mark-pause-${run}`;
  const tasks = await Promise.all(
    Array.from({ length: ATTEMPTS }, () => fleet.submit(['sh', '-c', `sleep 600; : ${mark}`])),
  );
  await runs(mark, ATTEMPTS);
  const began = performance.now();
  const paused = fleet.client.post('/v1/mesh/pause');
  await gone(mark);
  const took = performance.now() - began;
  await paused;
  for (const task of tasks) await fleet.client.post(`/v1/tasks/${task}/stop`);
  for (const task of tasks) await fleet.ended(task);
  await fleet.client.post('/v1/mesh/resume');
  return took;
}

/** The desks, joined when they are first asked for; nothing is given to anybody unless a run says so. */
async function seated(fleet: Fleet, desks: Desk[]): Promise<Desk[]> {
  if (desks.length > 0) return desks;
  for (const name of DESKS) desks.push(await Desk.join(fleet, name, 'idle=10s', EVICT_MS));
  for (const name of [...NAMES, ...DESKS]) await fleet.client.post(`/v1/nodes/${name}/drain`);
  return desks;
}

async function owner(
  fleet: Fleet,
  desks: Desk[],
  run: number,
): Promise<{ ownerSuspend: number; ownerEvict: number }> {
  const mark = `mark-owner-${run}`;
  const [desk, other] = [desks[run % desks.length]!, NAMES[run % NAMES.length]!];
  await fleet.client.post(`/v1/nodes/${desk.name}/eligible`);
  const task = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`]);
  await fleet.about(task, 'attempt.started');
  const [shell] = await runs(mark);
  await fleet.client.post(`/v1/nodes/${other}/eligible`);
  const from = fleet.next;
  const began = performance.now();
  await desk.type();
  await halted(shell!);
  const suspended = performance.now();
  const { at } = await fleet.about(task, 'attempt.started', from);
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  await fleet.ended(task);
  for (const name of [desk.name, other]) await fleet.client.post(`/v1/nodes/${name}/drain`);
  return { ownerSuspend: suspended - began, ownerEvict: at - suspended - EVICT_MS };
}
