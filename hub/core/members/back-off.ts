import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FailureReason, Fault } from '../../../protocol/task.ts';
import { restAfterFaults, restBaseMs, restJitter, restMaxMs, restMs } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { draw } from '../lifecycle.ts';
import type { LiveMember } from './live-member.ts';

/**
 * A circuit breaker for each machine. Attempts that end in a row through its own fault make it rest, each time about twice as long;
 * then it is given one attempt as a probe, and one that comes to its end there ends it. Known to this process only: a founder that
 * starts anew counts anew.
 */
export interface BackOff {
  /** Faults since the last attempt that came to its end there. */
  readonly faults: number;
  /** When the last was counted (monotonic ms): what is lost in one moment is lost through one fault. */
  readonly countedAt: number;
  /** Nothing is given to it until then (monotonic ms); null: it may have something. */
  readonly until: number | null;
  /** The same as Unix ms, for people. */
  readonly untilTime: number;
}

/** Whether it has failed so often that it is given one attempt at a time at most. */
export const isProbed = ({ backOff }: Pick<LiveMember, 'backOff'>): boolean =>
  backOff !== null && backOff.faults >= restAfterFaults;

/** An attempt of this member ended so. Persons' stops say nothing of a machine; a fault of the task says that it works. */
export function countEnd(ctx: FounderContext, peer: string, fault: Fault, reason: FailureReason): void {
  const live = ctx.live.get(peer);
  if (live === undefined || fault === 'person') return;
  if (fault === 'task') {
    countSuccess(ctx, peer);
    return;
  }
  if (reason === 'lost' || reason === 'refused') countFault(ctx, live);
}

function countFault(ctx: FounderContext, live: LiveMember): void {
  const before = live.backOff;
  if (before?.countedAt === ctx.now || (before !== null && before.until !== null)) return;
  const faults = (before?.faults ?? 0) + 1;
  live.backOff = { faults, countedAt: ctx.now, until: null, untilTime: 0 };
  if (!isProbed(live)) return;
  const restMs = Math.round(restOf(faults) * (1 + restJitter * draw(ctx)));
  const until = ctx.now + restMs;
  live.backOff = { faults, countedAt: ctx.now, until, untilTime: ctx.clock.time + restMs };
  ctx.alarms.add(until);
  ctx.fleet += 1;
}

/**
 * A result of this task was accepted. What it lacked elsewhere (`environment`) might have been its own mistake, such as a word
 * mistyped; now it is the fault of those machines.
 */
export function countLacking(ctx: FounderContext, { attempts, accepted }: TaskRecord): void {
  for (const { role, member, end } of attempts) {
    if (role !== 'execute' || member === accepted?.member) continue;
    if (end?.kind !== 'ended' || end.fault !== 'machine' || end.reason !== 'environment') continue;
    const live = ctx.live.get(member);
    if (live !== undefined) countFault(ctx, live);
  }
}

/** Ms after so many faults in a row, without jitter. */
export const restOf = (faults: number): number => Math.min(restMaxMs, restBaseMs * 2 ** faults);

/** An attempt came to its end there. */
export function countSuccess(ctx: FounderContext, peer: string): void {
  const live = ctx.live.get(peer);
  if (live === undefined) return;
  live.ownerStops = 0;
  if (live.restsUntil !== null && live.restsUntil > ctx.now + restMs) {
    live.restsUntil = ctx.now + restMs;
    ctx.alarms.add(live.restsUntil);
  }
  if (live.backOff === null) return;
  live.backOff = null;
  ctx.fleet += 1;
}

/**
 * Its owner, or who shut it down, stopped something there. That costs a task nothing; so that it cannot be repeated without end,
 * the machine rests after it: for a moment after the first few in a row, then twice as long each time.
 */
export function countStop(ctx: FounderContext, live: LiveMember): void {
  if (live.restsUntil === null) live.ownerStops += 1;
  const until = ctx.now + stopRestOf(live.ownerStops);
  live.restsUntil = Math.max(live.restsUntil ?? 0, until);
  ctx.alarms.add(live.restsUntil);
  ctx.fleet += 1;
}

/** Ms after so many stops in a row by persons. */
export const stopRestOf = (stops: number): number =>
  stops < restAfterFaults ? restMs : restOf(stops - restAfterFaults + 1);

/** Its rest is over: it is given a probe. Called by the tick. */
export function endRest(ctx: FounderContext, live: LiveMember): void {
  const { backOff } = live;
  if (backOff === null || backOff.until === null || ctx.now < backOff.until) return;
  live.backOff = { ...backOff, until: null };
  ctx.fleet += 1;
}
