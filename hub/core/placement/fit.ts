import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { MachineNeeds, Schedule } from '../../../protocol/schedule.ts';
import type { TaskSpec } from '../../../protocol/task.ts';
import { restAfterFaults } from '../config.ts';
import { stopRestOf } from '../members/back-off.ts';
import { freeSlots, type LiveMember } from '../members/live-member.ts';
import type { Need } from '../queue/queue.ts';
import { lacking, requirementsOf } from './requirements.ts';

/** A release without policies was let in by an invite with one: it would work when its invite says that it does not. */
export const ignoresPolicy = (member: MemberRecord, live: LiveMember | undefined): boolean =>
  member.policy !== undefined && live?.capacity != null && live.capacity.policy === undefined;

/** Why nothing is given to a member in quarantine. */
export const quarantineWords = ({ why }: NonNullable<MemberRecord['quarantined']>): string =>
  `is in quarantine: ${why}`;

/** Why a member can be given nothing at all now, in words; null: it can. Slots are not looked at. */
export function unavailable(member: MemberRecord, live: LiveMember | undefined): string | null {
  if (!member.roles.includes('worker')) return 'is no worker';
  if (member.quarantined !== undefined) return quarantineWords(member.quarantined);
  if (!member.eligible) return drainWords(member);
  if (live === undefined || live.session === null || live.capacity === null) return 'is offline';
  if (ignoresPolicy(member, live))
    return 'runs an older release, which does not keep the policy of its invite';
  if (live.doubtful) return 'has missed a heartbeat';
  if (live.capacity.ownerPaused) return live.capacity.bar ?? 'is paused by its owner';
  if (live.restsUntil !== null) return stopWords(live.ownerStops);
  const { backOff } = live;
  if (backOff !== null && backOff.until !== null) return restWords(backOff.faults, backOff.untilTime);
  if (live.capacity.sandbox === null) return 'has no working sandbox';
  if (live.capacity.slots === 0) return 'offers no slots';
  return null;
}

const clock = (time: number): string => `${new Date(time).toISOString().slice(11, 19)}Z`;

const drainWords = ({ evictAt }: MemberRecord): string =>
  evictAt === undefined ? 'is draining' : `is draining; what runs there may until ${clock(evictAt)}`;

const stopWords = (stops: number): string =>
  stops < restAfterFaults
    ? 'was stopped by its owner a moment ago'
    : `was stopped by its owner ${stops} times in a row, and rests for ${stopRestOf(stops) / 1000} s`;

const restWords = (faults: number, until: number): string =>
  `failed ${faults} attempts in a row by its own fault, and is given nothing until ${clock(until)}; then one, as a probe`;

/** Why this member can never execute what is asked, as it is now; null: it can. `lent`: whether others lend it a model. */
export function mismatch(
  need: Need,
  member: MemberRecord,
  live: LiveMember | undefined,
  given: ReadonlySet<string>,
  lent: (model: string) => boolean,
): string | null {
  if (need.on !== null && need.on !== member.name && need.on !== member.peer) return `is not ${need.on}`;
  const has = labelsOf(member, live, given);
  for (const [key, value] of Object.entries(need.labels)) {
    if (!Object.hasOwn(has, key)) return `has no label ${key}`;
    if (has[key] !== value) return `has ${key}=${has[key]}, not ${value}`;
  }
  const lack = lacking(need, live, lent);
  if (lack !== null) return lack;
  const small = tooSmall(need.machine, live);
  if (small !== null) return small;
  if (need.unfit.includes(member.peer)) return 'lacks what the task needs (it failed there with environment)';
  return null;
}

/** What the machine as a whole lacks of what is asked for; null: nothing, or it has not said yet what it has. Pure. */
function tooSmall(
  { cpus = 0, memoryBytes = 0, diskBytes = 0, strictLimits }: MachineNeeds,
  live: LiveMember | undefined,
): string | null {
  const capacity = live?.capacity ?? null;
  if (capacity === null) return null;
  const GiB = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (capacity.cpus < cpus) return `has ${capacity.cpus} processors, not ${cpus}`;
  if (capacity.memoryBytes < memoryBytes)
    return `has ${GiB(capacity.memoryBytes)} of memory, not ${GiB(memoryBytes)}`;
  if (capacity.diskFreeBytes < diskBytes)
    return `has ${GiB(capacity.diskFreeBytes)} of disk free, not ${GiB(diskBytes)}`;
  if (strictLimits && capacity.limits.memory !== 'cgroup')
    return 'only watches memory, and keeps no strict limit';
  return null;
}

/**
 * The labels of a member that count: those the operator gave it, and of those it names itself the ones whose key the
 * operator gave to nobody (`given`). Else any machine could call itself what the operator calls the trusted ones.
 */
export function labelsOf(
  member: MemberRecord,
  live: LiveMember | undefined,
  given: ReadonlySet<string>,
): Record<string, string> {
  const own = Object.entries(live?.capacity?.labels ?? {}).filter(([key]) => !given.has(key));
  return { ...Object.fromEntries(own), ...member.labels };
}

/** Why this member may not verify a result of `executor`; null: it may. `owners`: the owners in the mesh. */
export function verifierMismatch(
  task: { unfit: string[]; spec: TaskSpec; schedule?: Schedule },
  executor: { peer: string; owner: string },
  owners: number,
  member: MemberRecord,
  live: LiveMember | undefined,
): string | null {
  if (member.peer === executor.peer) return 'executed it';
  if (owners > 1 && member.owner === executor.owner)
    return `belongs to ${member.owner}, as the executor does`;
  if (task.unfit.includes(member.peer)) return 'lacks what the checks need';
  // It never can: to wait for it would be to wait in vain.
  if (live?.capacity?.sandbox === null) return 'has no working sandbox';
  const small = tooSmall(task.schedule?.needs ?? {}, live);
  if (small !== null) return small;
  // Checks ask no model.
  return lacking({ ...requirementsOf(task.spec), brain: null, model: null }, live);
}

/**
 * Smaller is better: load first, then whether the repository is there already, then who waited longest. The founder's
 * machine has a mesh to run besides, and where another is as good, that one is taken.
 */
export function score(live: LiveMember, repository: string | null, founder: string | null): number {
  const slots = live.capacity?.slots ?? 1;
  const load = (slots - freeSlots(live) + 1) / slots;
  const held = repository !== null && live.repositories.includes(repository) ? 0.25 : 0;
  return load - held + (live.peer === founder ? 0.375 : 0);
}
