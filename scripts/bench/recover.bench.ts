/**
 * How soon a mesh of real processes goes on: a founder that takes no work and three members with sandboxes, started by their launchers,
 * with the lease, grace and heartbeats of a mesh nobody configured.
 *
 * `recover.memberLost`: from the kill of a member's process until its task is running on another. `recover.founderKilled`: from the kill of
 * the founder, which is started again at once, until a task submitted then is running on a member. `recover.pause`: from the operator's
 * pause with 36 attempts running until no process of them is left. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_RECOVER_RUNS` says how often; no figure that is told comes of fewer than 50. `BENCH_RECOVER` names some of them, by comma.
 */
import { childless, Fleet, freePort, gone, runs } from '../../test/net/fleet.ts';
import { type Benchmark, type Figure, median } from './figures.ts';

const RUNS = Number(process.env.BENCH_RECOVER_RUNS ?? 50);
const ATTEMPTS = 36;
const NAMES = ['one', 'two', 'three'];

export const benchmark: Benchmark = async (say) => {
  const args = ['--port', String(await freePort())];
  const slots = ATTEMPTS / NAMES.length;
  const members = Object.fromEntries(NAMES.map((name) => [name, { slots }]));
  const fleet = await Fleet.start({ hub: { slots: 0 }, hubArgs: args, members });
  try {
    const measures: Record<string, (run: number) => Promise<number>> = {
      memberLost: (run) => memberLost(fleet, NAMES[run % NAMES.length]!),
      founderKilled: (run) => founderKilled(fleet, args, run),
      pause: (run) => pause(fleet, run),
    };
    const wanted = process.env.BENCH_RECOVER?.split(',') ?? Object.keys(measures);
    const figures: Figure[] = [];
    for (const name of wanted) {
      const took: number[] = [];
      for (let run = 0; run < RUNS; run++) {
        took.push(await measures[name]!(run));
        say(`recover: ${name} ${took.at(-1)!.toFixed(0)} ms`);
      }
      took.sort((a, b) => a - b);
      const figure = (of: string, ours: number): Figure => ({
        figure: `recover.${name}.${of}`,
        ours,
        peer: null,
        ratio: null,
        unit: 'ms',
        runs: RUNS,
      });
      figures.push(figure('p50', median(took)), figure('p99', took[Math.ceil(took.length * 0.99) - 1]!));
    }
    return figures;
  } finally {
    await fleet.close();
  }
};

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
  for (const name of NAMES) await childless(fleet.daemon(name).pid);
  return took;
}
