import type { FounderConfig } from '../../hub/core/config.ts';
import type { Role } from '../../protocol/ids.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import { type TaskSpec, type TaskSpecInput, taskSpec } from '../../protocol/task.ts';
import type { Mishaps } from './executor.ts';
import type { Random } from './random.ts';

/** What can be done to the world while it works. */
export const FAULTS = [
  'memberCrash',
  'memberFreeze',
  'founderCrash',
  'founderFreeze',
  'partition',
  'oneWay',
  'reset',
  'latency',
  'slowDisk',
  'wallJump',
  'ownerPause',
  'meshPause',
  'drain',
  'revoke',
  'leave',
  'stopTask',
  'rerun',
  'join',
] as const;
/** Drawn by a source of their own. */
const MORE_FAULTS = [
  'loss',
  'halfOpen',
  'retell',
  'oldDisk',
  'memberDiskFull',
  'founderDiskFull',
  'founderDiskFails',
  'ownerPolicy',
  'pausedRestart',
  'capacityLie',
  'lie',
] as const;
/** The same of these: an owner sits down at the machine, for a while or for long. */
const OWNER_FAULTS = ['ownerComes'] as const;
/** The same of these, in meshes that have changed hands: the founder of before is taken for the one that leads. */
const EPOCH_FAULTS = ['oldFounder'] as const;
/** The same of these: a machine whose word counted signs what is false from then on. */
const TURNS = ['turns'] as const;
/** Of these, the ones that may end in a start of the founder. */
const RESTARTS: ReadonlySet<string> = new Set<FaultKind>([
  'founderCrash',
  'founderDiskFull',
  'founderDiskFails',
  'pausedRestart',
]);
export type FaultKind =
  | (typeof FAULTS)[number]
  | (typeof MORE_FAULTS)[number]
  | (typeof OWNER_FAULTS)[number]
  | (typeof EPOCH_FAULTS)[number]
  | (typeof TURNS)[number];

export interface MemberPlan {
  name: string;
  owner: string;
  roles: Role[];
  labels: Record<string, string>;
  slots: number;
  /** That it asks for goals. */
  models: string[];
  forger: boolean;
  inProcess: boolean;
  /** Joins only when a fault says so. */
  later: boolean;
}

/** What a task asks of the others. `behind`: so many of the tasks acknowledged before it, the newest first, it comes after. */
export interface Asked extends Omit<Schedule, 'after'> {
  behind: number;
}

export interface Scenario {
  /** Of the mesh, all the while. */
  epoch: number;
  members: MemberPlan[];
  tasks: { at: number; spec: TaskSpec; schedule: Asked | null }[];
  faults: { at: number; kind: FaultKind }[];
  mishaps: Mishaps;
  /** The secret that some tasks need is set at this time; null: never. */
  secretAt: number | null;
  faultsEnd: number;
  /** The founder's disk and members' transfers fail at times. */
  badTransfers: boolean;
  /** Bounds of the founder, small in some runs. */
  config: Partial<FounderConfig>;
}

/** What a seed stands for. Each takes part of the faults only, so that rare ones are not always hidden by common ones. */
export function scenarioOf(
  random: Random,
  more: Random,
  order: Random,
  owners: Random,
  epochs: Random,
  turns: Random,
): Scenario {
  const faultsEnd = random.between(20_000, 90_000);
  const kinds = FAULTS.filter(() => random.chance(random.pick([0.2, 0.6])));
  const count = random.int(0, 25);
  const faults: Scenario['faults'] = Array.from({ length: kinds.length === 0 ? 0 : count }, () => ({
    at: random.between(500, faultsEnd),
    kind: random.pick(kinds),
  }));
  const others = MORE_FAULTS.filter(() => more.chance(more.pick([0.15, 0.5])));
  for (let left = others.length === 0 ? 0 : more.int(0, 12); left > 0; left -= 1)
    faults.push({ at: more.between(500, faultsEnd), kind: more.pick(others) });
  for (let left = owners.chance(0.4) ? owners.int(1, 8) : 0; left > 0; left -= 1)
    faults.push({ at: owners.between(500, faultsEnd), kind: owners.pick(OWNER_FAULTS) });
  const epoch = epochs.pick([1, 1, 2]);
  for (let left = epoch === 1 ? 0 : epochs.int(0, 4); left > 0; left -= 1)
    faults.push({ at: epochs.between(500, faultsEnd), kind: epochs.pick(EPOCH_FAULTS) });
  for (let left = turns.chance(0.4) ? turns.int(1, 2) : 0; left > 0; left -= 1)
    faults.push({ at: turns.between(faultsEnd / 3, faultsEnd), kind: turns.pick(TURNS) });
  const orderly = order.chance(0.5);
  // A founder that starts anew takes the age of tasks from wall clocks, which decide nothing else (promise 11).
  const timed = !faults.some(({ kind }) => RESTARTS.has(kind));
  const rare = (probability: number): number => (random.chance(0.5) ? random.between(0, probability) : 0);
  return {
    epoch,
    members: membersOf(random),
    tasks: Array.from({ length: random.int(1, 25) }, () => ({
      at: random.between(0, faultsEnd * 0.9),
      spec: specOf(random),
      schedule: orderly ? askedOf(order, timed) : null,
    })),
    faults,
    mishaps: {
      task: rare(0.4),
      check: rare(0.3),
      environment: rare(0.3),
      hang: rare(0.1),
      verifierRed: rare(0.4),
      verifierEnvironment: rare(0.4),
      checksChanged: rare(0.3),
      signal: random.between(0, 0.8),
      flaky: rare(0.2),
    },
    secretAt: random.chance(0.7) ? random.between(0, faultsEnd) : null,
    faultsEnd,
    badTransfers: random.chance(0.3),
    config: boundsOf(more),
  };
}

function boundsOf(random: Random): Partial<FounderConfig> {
  const ringSlots = random.pick([36, 36, 4, 2]);
  const elasticSlots = ringSlots * random.pick([1, 2]);
  return { ringSlots, elasticSlots, lateResultsMax: random.pick([1_024, 1_024, 1, 0]) };
}

function membersOf(random: Random): MemberPlan[] {
  const owners = ['olga', 'paul', 'quin'].slice(0, random.int(1, 3));
  const plan = (name: string): MemberPlan => ({
    name,
    owner: random.pick(owners),
    roles: ['worker'],
    labels: random.chance(0.4) ? { gpu: 'yes' } : {},
    slots: random.int(1, 4),
    models: ['small', 'large'].slice(0, random.pick([0, 1, 2, 2])),
    forger: false,
    inProcess: false,
    later: false,
  });
  const members = Array.from({ length: random.int(1, 5) }, (_, index) => plan(`m${index}`));
  if (members.length > 1 && random.chance(0.25)) members[1]!.forger = true;
  members.push({ ...plan('late'), later: true });
  const founder = plan('founder');
  const roles: Role[] = random.chance(0.5) ? ['worker', 'operator'] : ['operator'];
  return [{ ...founder, roles, owner: 'olga', inProcess: true }, ...members];
}

const REPOSITORY = { id: 'a'.repeat(40), name: 'app', ref: 'HEAD', base: 'f'.repeat(40) };
/** What a submitter sends with a task of that repository. */
export const BUNDLE = { commit: REPOSITORY.base, bundle: 'f'.repeat(64), prerequisites: [] };

function specOf(random: Random): TaskSpec {
  const spec: TaskSpecInput = {
    ...(random.chance(0.4)
      ? { kind: 'code' as const, code: { goal: 'make it green' } }
      : { kind: 'command' as const, argv: ['make'] }),
    checks: random.chance(0.8) ? ['make test', 'make lint'].slice(0, random.int(1, 2)) : [],
    retries: random.int(0, 3),
    requireVerified: random.chance(0.15),
    labels: random.chance(0.15) ? { gpu: 'yes' } : {},
    on: random.chance(0.1) ? 'm0' : null,
    secrets: random.chance(0.1) ? ['TOKEN'] : [],
  };
  // Without a repository nobody can verify; most tasks have one.
  spec.repository = spec.requireVerified === true || random.chance(0.9) ? REPOSITORY : null;
  return taskSpec.parse(spec);
}

function askedOf(random: Random, timed: boolean): Asked | null {
  if (random.chance(0.4)) return null;
  const asked: Asked = { behind: random.chance(0.25) ? random.int(1, 2) : 0 };
  if (random.chance(0.3)) asked.priority = random.pick([0, 10, 50, 60, 100]);
  if (random.chance(0.3)) asked.group = { name: random.pick(['board', 'bench']), limit: random.int(1, 2) };
  if (random.chance(0.3))
    asked.spread = { name: random.pick(['db', 'web']), over: null, strict: random.chance(0.7) };
  const ms = random.int(1_000, 60_000);
  if (timed && random.chance(0.15)) asked.deadlineMs = ms;
  if (timed && random.chance(0.15)) asked.queueMs = ms;
  return asked;
}
