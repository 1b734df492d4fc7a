/**
 * What a decision costs: `plan.mean`, µs at 100,000 queued tasks and 10,000 members, and `plan.mean@TASKSxMEMBERS` for the smaller
 * ones. A decision is what the founder's dispatch does from the word that a slot is free to the task and the member that it
 * chose: the indexes brought up to date, the first task in order of priority and shares, the best member for it. The log entry
 * that follows is not in it. Tasks ask for 32 different things and come from 50 submitters at two priorities; members differ
 * in labels and tools (64 kinds), have four slots each and hold a few repositories; all slots are taken but the one that was
 * just freed.
 */
import { defaultConfig } from '../../hub/core/config.ts';
import { FounderContext } from '../../hub/core/context.ts';
import { founderAdmitted } from '../../hub/core/founder.ts';
import { decide } from '../../hub/core/placement/dispatch.ts';
import type { KnownEntry } from '../../ledger/lines/entry.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { applyEntry, initialState } from '../../ledger/state/state.ts';
import { addTask } from '../../ledger/state/task-set.ts';
import { newTask } from '../../ledger/state/tasks.ts';
import { taskSpec } from '../../protocol/task.ts';
import { CAPACITY, MESH, peerOf } from '../../test/hub/core/fleet.ts';
import { standInChecks } from '../../test/sim/signer.ts';
import type { Benchmark, Figure, Plot } from './figures.ts';
import { median } from './figures.ts';
import { linePlot } from './plot.ts';

/** For a test of the frame; no figure that is told comes of that. */
const SMALL = process.env.BENCH_PLAN_SMALL !== undefined;
const TASKS = SMALL ? [10, 100] : [10, 1_000, 100_000];
const MEMBERS = SMALL ? [10, 20] : [10, 1_000, 10_000];
const RUNS = Number(process.env.BENCH_PLAN_RUNS ?? 5);
const DECISIONS = Number(process.env.BENCH_PLAN_DECISIONS ?? 5_000);
const SLOTS = 4;
/** What `plan.mean` is held against, µs. */
const BOUND = 50;

export const benchmark: Benchmark = async (say) => {
  const figures: Figure[] = [];
  for (const members of MEMBERS) {
    for (const tasks of TASKS) {
      const world = new World(members, tasks);
      world.run(Math.min(1_000, DECISIONS));
      const runs = Array.from({ length: RUNS }, () => world.run(DECISIONS));
      const figure = nameOf(tasks, members);
      const ours = median(runs);
      say(`${tasks} tasks, ${members} members: ${ours.toFixed(1)} µs a decision`);
      figures.push({ figure, ours, peer: null, ratio: null, unit: 'us', runs: RUNS });
    }
  }
  return figures;
};

const nameOf = (tasks: number, members: number): string =>
  tasks === TASKS.at(-1) && members === MEMBERS.at(-1) ? 'plan.mean' : `plan.mean@${tasks}x${members}`;

export const plot: Plot = (figures) =>
  linePlot(
    'What a decision costs',
    { label: 'queued tasks', ticks: [10, 100, 1_000, 10_000, 100_000] },
    { label: 'µs a decision', ticks: [0.1, 1, 10, 100, 1_000] },
    MEMBERS.map((members) => ({
      name: `${members.toLocaleString('en')} members`,
      points: TASKS.map((tasks) => {
        const named = nameOf(tasks, members);
        return [tasks, figures.find(({ figure }) => figure === named)!.ours] as const;
      }),
    })),
    { name: `aimed at: ${BOUND}`, at: BOUND },
  );

/** A founder's live view with every slot taken. */
class World {
  readonly #ctx: FounderContext;
  readonly #random = randomOf(7);
  readonly #busy: { peer: string; key: string }[] = [];
  readonly #tasks: number;
  #made = 0;

  constructor(members: number, tasks: number) {
    this.#tasks = tasks;
    const state = initialState();
    const apply = (event: LogEvent): void => {
      const head = { index: state.mesh.size, epoch: 1, time: 1 };
      applyEntry(state, head, { ...head, ...event } as KnownEntry);
    };
    apply({
      type: 'mesh.created',
      body: {
        format: 1,
        name: 'bench',
        founder: peerOf('founder'),
        logKey: Buffer.alloc(32, 1).toString('base64'),
        recoveryKey: Buffer.alloc(32, 2).toString('base64'),
        parent: null,
        nonce: '0'.repeat(32),
      },
    });
    apply(founderAdmitted({ peer: peerOf('founder'), name: 'founder', owner: 'o', roles: [], labels: {} }));
    for (let at = 0; at < members; at += 1) {
      apply({
        type: 'member.admitted',
        body: {
          peer: peerOf(`m${at}`),
          name: `m${at}`,
          owner: `owner${at % 20}`,
          roles: ['worker'],
          labels: {},
          via: { kind: 'genesis' },
          by: { kind: 'founder' },
        },
      });
    }
    this.#ctx = new FounderContext({
      mesh: MESH,
      state,
      config: { ...defaultConfig, ringSlots: 10 * members },
      checks: standInChecks,
      epoch: 1,
      plugins: [],
      clock: { now: 1_000, time: 1, random: (length) => new Uint8Array(length) },
    });
    for (let at = 0; at < members; at += 1) this.#connect(at);
    for (let at = 0; at < tasks; at += 1) this.#queue();
  }

  /** Mean µs of so many decisions; what is given out is replaced in the queue. */
  run(decisions: number): number {
    let spent = 0;
    for (let made = 0; made < decisions; made += 1) {
      const freed = this.#free();
      const began = performance.now();
      const placement = decide(this.#ctx);
      if (placement !== null) this.#ctx.queue.serve(placement.task.id);
      spent += performance.now() - began;
      if (placement === null) {
        // Nothing that waits fits the member: its slot is taken again.
        this.#take(freed.peer, freed.key);
        continue;
      }
      const { task, live } = placement;
      const key = `${task.id}/${made}`;
      live.assignedAt = made;
      this.#take(live.peer, key);
      this.#ctx.state.tasks.byId.delete(task.id);
      this.#ctx.state.tasks.open.delete(task.id);
      this.#queue();
    }
    return (spent * 1_000) / decisions;
  }

  #take(peer: string, key: string): void {
    this.#ctx.live.get(peer)!.leases.add(key);
    this.#busy.push({ peer, key });
  }

  #free(): { peer: string; key: string } {
    const at = Math.floor(this.#random() * this.#busy.length);
    const freed = this.#busy[at]!;
    this.#busy[at] = this.#busy.at(-1)!;
    this.#busy.pop();
    this.#ctx.live.get(freed.peer)!.leases.delete(freed.key);
    return freed;
  }

  #connect(at: number): void {
    const live = this.#ctx.liveMember(peerOf(`m${at}`));
    live.session = at + 1;
    live.capacity = {
      ...CAPACITY,
      slots: SLOTS,
      labels: { zone: `z${at % 8}`, ...(at % 2 === 0 ? { gpu: 'yes' } : {}) },
      tools: at % 4 === 0 ? { node: 'v22.1.0' } : { node: 'v24.0.0', go: 'go1.22' },
    };
    live.repositories = [repositoryOf(at % 100), repositoryOf((at * 7) % 100)];
    for (let slot = 0; slot < SLOTS; slot += 1) {
      this.#take(live.peer, `first/${at}/${slot}`);
    }
  }

  #queue(): void {
    const at = this.#made;
    this.#made += 1;
    const kind = Math.floor(this.#random() * 32);
    const id = `t${at}`;
    const by = {
      kind: 'local' as const,
      user: `p${Math.floor(this.#random() * 50)}`,
      claimed: true as const,
    };
    const schedule = { priority: [10, 50, 50, 50][at % 4]! };
    const sent = { task: id, correlation: id, spec: SPECS[kind]!, rerunOf: null, by, schedule };
    const task = newTask(sent, { number: at, time: 0 });
    addTask(this.#ctx.state.tasks, task);
    this.#ctx.queue.add(task, { notBefore: 0, sameMemberAt: 0, anyMemberAt: 0 }, this.#ctx.now);
    if (this.#tasks === 0) throw new RangeError('a world without tasks decides nothing');
  }
}

const repositoryOf = (at: number): string => at.toString(16).padStart(40, 'a');

const SPECS = Array.from({ length: 32 }, (_, at) =>
  taskSpec.parse({
    kind: 'command',
    argv: ['true'],
    labels: { ...(at & 1 ? { gpu: 'yes' } : {}), ...(at & 2 ? { zone: `z${at >> 2}` } : {}) },
    tools: at & 4 ? { node: at & 8 ? '>=22' : '>=24' } : {},
    timeoutMs: at & 16 ? 60_000 : 120_000,
    repository: { id: repositoryOf(at), name: 'r', ref: 'main', base: 'f'.repeat(40) },
  }),
);

/** Numbers in [0, 1) that are the same for one seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
