import { createHash } from 'node:crypto';
import type { Entry } from '../../../ledger/lines/entry.ts';
import { saveState } from '../../../ledger/state/state.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import { Random } from '../random.ts';
import { BUNDLE } from '../scenario.ts';
import { checkerOf, Violation } from '../violation.ts';
import { acceptLoss, heal, inflict, promoteBest } from './faults.ts';
import { planOf } from './scenario.ts';
import { KEY_LOST, type Site } from './site.ts';
import { entriesOf } from './watch.ts';
import { SuccessionWorld } from './world.ts';

export interface SuccessionOptions {
  /** The same run with other wall clocks. @default the seed */
  wallSeed?: string;
  /** Takes what happens as lines. */
  trace?: (text: string) => void;
}

export interface SuccessionReport {
  seed: number;
  events: number;
  virtualMs: number;
  entries: number;
  epoch: number;
  tasks: number;
  batches: number;
  acks: number;
  takenBack: number;
  handovers: number;
  freezes: number;
  restarts: number;
  /** Digest of the log without its times and what rests on them. */
  decisions: string;
}

/** No founder works for so long once everything is well: an operator opens a new epoch. */
const OPERATOR_MS = 40_000;
const REST_MAX_MS = 400_000;
const EVENTS_MAX = 400_000;

export const replaySuccession = (seed: number): string => `npm run sim -- --replicas --seed ${seed}`;

/** Runs one seed of a mesh with replicas to its end. Throws a `Violation` that names the seed. */
export async function runSuccession(
  seed: number,
  options: SuccessionOptions = {},
): Promise<SuccessionReport> {
  const { wallSeed = String(seed), trace = null } = options;
  const plan = planOf(new Random(`${seed}/succession`));
  const world = await SuccessionWorld.make(String(seed), wallSeed, plan, trace);
  const { schedule } = world;
  try {
    for (const { at, spec } of plan.tasks) schedule.at(at, () => submit(world, spec));
    for (const { at, kind } of plan.faults) schedule.at(at, () => inflict(world, kind));
    // Lies take effect only where somebody follows a liar: some meshes have one much of the time.
    if (seed % 7 === 0)
      for (const at of [6_000, 18_000, 30_000]) schedule.at(at, () => inflict(world, 'liar'));
    while (schedule.now < plan.faultsEnd && (await world.step()));
    heal(world);
    await rest(world);
    if (!world.parted) checkEnd(world);
    return report(seed, world);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Violation(checkerOf(error), `seed ${seed}: ${message}\nreplay: ${replaySuccession(seed)}`, {
      cause: error,
    });
  }
}

function submit(world: SuccessionWorld, spec: SuccessionWorld['plan']['tasks'][number]['spec']): void {
  const site = world.leading();
  if (site === null) return;
  const bundle = spec.repository === null ? null : BUNDLE;
  const { log } = site.leader!;
  world.ask(site, { op: 'task.submit', spec, bundle, correlation: null }, (result) => {
    const id = (result as { id?: string } | null)?.id;
    // What a founder says that others lead without is its own: it hears of that when it is told.
    if (id !== undefined && log.epoch === world.leading()?.leadership.epoch) world.acknowledged.add(id);
  });
}

async function rest(world: SuccessionWorld): Promise<void> {
  const { schedule } = world;
  let without = schedule.now;
  for (let unrest: string | null = 'not looked at'; unrest !== null; ) {
    const next = schedule.now + 2_000;
    while (schedule.now < next && (await world.step()));
    unrest = unrestOf(world);
    if (world.leading() !== null) without = schedule.now;
    else if (schedule.now - without > OPERATOR_MS) {
      world.trace('the operator opens a new epoch');
      // As `mesh-hub start --accept-loss`: what a founder waits for is given up.
      for (const site of world.sites) {
        const stuck = site.guard !== null && site.leader === null;
        if (site.member !== null && (stuck || site.halted === KEY_LOST)) site.stepDown();
      }
      schedule.after(1_000, () => {
        if (!promoteBest(world)) acceptLoss(world);
      });
      without = schedule.now;
    }
    // An epoch that was opened twice parts the mesh until a person chooses: only what machines do stays promised.
    if (world.parted && schedule.now > world.plan.faultsEnd + 60_000) return;
    if (unrest !== null && (schedule.now > world.plan.faultsEnd + REST_MAX_MS || schedule.ran > EVENTS_MAX))
      throw new Violation('replicas', `not at rest: ${unrest}`);
  }
}

/** Machines that take part in the mesh now: not those that wait for a person, nor copies of a history that was given up. */
const inMesh = (world: SuccessionWorld, leader: Site): Site[] =>
  world.sites.filter((site) => site.member !== null && site.halted === null && !strayed(world, site, leader));

/** It holds another history than the one that went on, from before an epoch that was opened by the recovery key. */
function strayed(world: SuccessionWorld, site: Site, leader: Site): boolean {
  const last = site.replica?.copy?.checkpoint ?? null;
  return world.watch.excused && last !== null && world.watch.rootAt(leader, last.size) !== last.root;
}

function unrestOf(world: SuccessionWorld): string | null {
  const leader = world.leading();
  if (leader === null) return 'no founder works';
  const { log, core } = leader.leader!;
  for (const site of inMesh(world, leader)) {
    if (site.leadership.epoch !== log.epoch)
      return `${site.name} is in epoch ${site.leadership.epoch} of ${log.epoch}`;
    if (site.folder.proof !== null) return `${site.name} is frozen`;
    if (site !== leader && site.isReplica && site.replica?.copy?.size !== log.size)
      return `${site.name} holds ${site.replica?.copy?.size} of ${log.size} entries`;
  }
  for (const id of core!.state.tasks.open) return `task ${id} is ${core!.state.tasks.byId.get(id)!.state}`;
  return null;
}

function checkEnd(world: SuccessionWorld): void {
  const leader = world.leading()!;
  const { log, core } = leader.leader!;
  const state = JSON.stringify(saveState(core!.state));
  for (const site of inMesh(world, leader)) {
    if (site === leader || !site.isReplica) continue;
    const { copy, state: replayed } = site.replica!;
    if (copy!.checkpoint.root !== log.checkpoint.root)
      throw new Violation('replicas', `${site.name} holds another log (promise 6)`);
    if (JSON.stringify(saveState(replayed)) !== state)
      throw new Violation('replicas', `the state of ${site.name} is not the founder’s (promise 9)`);
  }
  for (const id of world.acknowledged) {
    const task = core!.state.tasks.byId.get(id);
    if (task === undefined && !world.watch.lossExcused)
      throw new Violation('replicas', `task ${id} was acknowledged and is gone (promises 2 and 16)`);
    if (task !== undefined && !TERMINAL_STATES.has(task.state))
      throw new Violation('replicas', `task ${id} is ${task.state}`);
  }
}

function report(seed: number, world: SuccessionWorld): SuccessionReport {
  const site = world.leading() ?? world.sites[0]!;
  const entries = entriesOf(site.disk);
  return {
    seed,
    events: world.schedule.ran,
    virtualMs: Math.round(world.schedule.now),
    entries: entries.length,
    epoch: site.leadership.epoch,
    tasks: world.acknowledged.size,
    ...world.watch.counts,
    decisions: createHash('sha256').update(entries.map(timeless).join('\n')).digest('hex'),
  };
}

/** Roots, signatures and times rest on the wall clocks; what was decided does not. */
function timeless({ index, epoch, type, body }: Entry): string {
  const { root: _root, signature: _signature, ...rest } = body as Record<string, unknown>;
  return JSON.stringify([index, epoch, type, rest]);
}
