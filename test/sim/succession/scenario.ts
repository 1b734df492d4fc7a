import type { Role } from '../../../protocol/ids.ts';
import { type TaskSpec, taskSpec } from '../../../protocol/task.ts';
import type { Mishaps } from '../executor.ts';
import type { Random } from '../random.ts';

/** What can be done to a mesh with replicas while it works. */
export const FAULTS = [
  'founderCrash',
  'founderLosesTail',
  'founderRestored',
  'founderCopied',
  'founderLost',
  'promotedTwice',
  'handover',
  'memberCrash',
  'replicaWiped',
  'partition',
  'oneWay',
  'slowDisk',
  'wallJump',
  'liar',
  'slowSource',
  'loss',
] as const;
export type FaultKind = (typeof FAULTS)[number];

export interface Plan {
  /** The founder first. */
  members: { name: string; roles: Role[]; replica: boolean; slots: number }[];
  tasks: { at: number; spec: TaskSpec }[];
  faults: { at: number; kind: FaultKind }[];
  faultsEnd: number;
  latencyMs: number;
  mishaps: Mishaps;
}

/** Those after which the histories of a mesh may part; a run has one kind of them at most, so that each is seen alone. */
const PARTING: readonly FaultKind[] = ['founderCopied', 'founderLost', 'promotedTwice', 'founderRestored'];

/** What a seed stands for. */
export function planOf(random: Random): Plan {
  const faultsEnd = random.between(25_000, 60_000);
  const parting = random.chance(0.55) ? random.pick(PARTING) : null;
  const kinds = FAULTS.filter((kind) => kind === parting || (!PARTING.includes(kind) && random.chance(0.45)));
  const faults = Array.from({ length: kinds.length === 0 ? 0 : random.int(2, 14) }, () => ({
    at: random.between(3_000, faultsEnd),
    kind: random.pick(kinds),
  }));
  if (parting !== null) faults.push({ at: random.between(8_000, faultsEnd * 0.7), kind: parting });
  const member = (name: string, roles: Role[]) => ({
    name,
    roles,
    replica: roles.includes('replica'),
    slots: random.int(1, 2),
  });
  return {
    members: [
      member('founder', ['operator', 'replica']),
      ...Array.from({ length: random.int(1, 3) }, (_, n) => member(`r${n}`, ['worker', 'replica'])),
      ...Array.from({ length: random.int(0, 2) }, (_, n) => member(`w${n}`, ['worker'])),
    ],
    tasks: Array.from({ length: random.int(3, 14) }, () => ({
      at: random.between(1_000, faultsEnd * 0.95),
      spec: taskSpec.parse({ kind: 'command', argv: ['make'], checks: ['make test'], retries: 1 }),
    })),
    faults,
    faultsEnd,
    latencyMs: random.pick([0.3, 2, 40]),
    mishaps: {
      task: 0.1,
      check: 0,
      environment: 0,
      hang: 0,
      verifierRed: 0,
      verifierEnvironment: 0,
      checksChanged: 0,
      signal: 0,
      flaky: 0,
    },
  };
}
