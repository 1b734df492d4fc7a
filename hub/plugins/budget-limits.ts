import type { BudgetScope } from '../../ledger/lines/events.ts';
import {
  amountOf,
  type BudgetState,
  dayBegin,
  dayOf,
  type Reserved,
  type Spent,
  spentAt,
} from '../../ledger/state/budget.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { type Allowance, costOf, DIMENSIONS, type Dimension, type Pool } from '../../protocol/usage.ts';

/** What is left of limits, and what an attempt is given of it. Pure. */

const UNBOUND: Pool = { tokens: null, seconds: null, money: null };

/** Of one limit: all of it, what was taken of it, and what attempts that run may still take. */
export interface Standing {
  scope: BudgetScope;
  limit: Pool;
  spent: Spent;
  reserved: Pool;
  /** Neither taken nor kept for anybody; null: no bound. */
  left: Pool;
  /** Unix ms at which it begins anew; null: it does not. */
  until: number | null;
}

/** How a limit stands at `time`; that of each task, for this one. */
export function standingOf(
  state: BudgetState,
  { scope, limit }: { scope: BudgetScope; limit: Pool },
  time: number,
  task: string | null = null,
  except: string | null = null,
): Standing {
  const spent =
    scope.kind === 'session'
      ? (state.sessions.get(task ?? '')?.spent ?? spentAt(state, undefined, time))
      : spentAt(state, sumOf(state, scope), time);
  const reserved = reservedIn(state, scope, time, task, except);
  const left = mapPool((of) => {
    const most = limit[of];
    return most === null ? null : Math.max(0, most - amountOf(spent, of) - (reserved[of] ?? 0));
  });
  const until = scope.kind === 'session' ? null : dayBegin(dayOf(time) + 1);
  return { scope, limit, spent, reserved, left, until };
}

function sumOf(state: BudgetState, scope: BudgetScope): Spent | undefined {
  if (scope.kind === 'model') return state.models.get(scope.model);
  return scope.kind === 'member' ? state.members.get(scope.member) : state.spent;
}

function reservedIn(
  state: BudgetState,
  scope: BudgetScope,
  time: number,
  task: string | null,
  except: string | null,
): Pool {
  const sum = { tokens: 0, seconds: 0, money: 0 };
  for (const reserved of state.reserved.values()) {
    // What was kept for one that was lost is for the day in which it was.
    if (reserved.lost && (scope.kind === 'session' || dayOf(time) > state.day)) continue;
    if (!reserved.lost && reserved.task === except) continue;
    const pool = keptIn(scope, reserved, task);
    for (const bound of DIMENSIONS) sum[bound] += pool?.[bound] ?? 0;
  }
  return sum;
}

function keptIn(scope: BudgetScope, reserved: Reserved, task: string | null): Pool | null {
  switch (scope.kind) {
    case 'day':
      return reserved;
    case 'session':
      return reserved.task === task ? reserved : null;
    case 'member':
      return reserved.member === scope.member ? reserved : null;
    case 'model':
      return reserved.models[scope.model] ?? null;
    default:
      return scope satisfies never;
  }
}

/** What a goal may take by its own bounds. */
function askedBy({ spec }: TaskRecord): Pool {
  if (spec.kind !== 'code') return UNBOUND;
  return { tokens: spec.code.tokens, seconds: Math.ceil(spec.timeoutMs / 1000), money: null };
}

/** The most that a goal can cost by its own bound of tokens. */
function dearest(state: BudgetState, { spec }: TaskRecord): number {
  const tokens = spec.kind === 'code' ? spec.code.tokens : 0;
  return Math.max(0, ...[...state.prices.values()].map((price) => costOf(price, tokens, tokens)));
}

/** Limits under which this member works on this task, those of models apart. */
function limitsFor(state: BudgetState, member: string): { scope: BudgetScope; limit: Pool }[] {
  return ['day', 'session', `member ${member}`].flatMap((key) => state.limits.get(key) ?? []);
}

/**
 * What an attempt at this goal may take: the least that is left of all limits it falls under, and no more than the task itself asks
 * for, so that others have the rest. Undefined: there is no limit, and nothing to be said of a cloud.
 */
export function allowanceFor(
  state: BudgetState,
  task: TaskRecord,
  member: string,
  time: number,
): Allowance | undefined {
  if (task.spec.kind !== 'code' || state.limits.size === 0) return undefined;
  const cloud = task.spec.code.cloud === true;
  const asked = { ...askedBy(task), money: dearest(state, task) };
  const standings = limitsFor(state, member).map((one) => standingOf(state, one, time, task.id));
  const models = [...state.limits.values()].flatMap((one) =>
    one.scope.kind !== 'model'
      ? []
      : [[one.scope.model, cut(standingOf(state, one, time).left, asked)] as const],
  );
  const pool = cut(least(standings.map(({ left }) => left)), asked);
  return {
    ...pool,
    money: cloud ? pool.money : null,
    models: Object.fromEntries(models.map(([name, left]) => [name, cloud ? left : { ...left, money: null }])),
    prices: cloud ? Object.fromEntries(state.prices) : {},
  };
}

/** Why this member is not given the goal now: a limit, and which of its bounds; null: it may be. */
export function heldBy(
  state: BudgetState,
  task: TaskRecord,
  member: string,
  time: number,
): { standing: Standing; of: Dimension; why: 'spent' | 'reserved' | 'short'; needs: number } | null {
  if (task.spec.kind !== 'code') return null;
  const asked = askedBy(task);
  const short = state.sessions.get(task.id)?.short ?? null;
  const named = task.spec.model === undefined ? [] : [task.spec.model];
  // A model that was short here may be so for this member alone: another has others.
  if (short !== null && short.model !== null && short.member === member) named.push(short.model);
  const limits = [
    ...limitsFor(state, member),
    ...named.flatMap((name) => state.limits.get(`model ${name}`) ?? []),
  ];
  for (const one of limits) {
    // A task that has used up its own is not held for more: it ends.
    if (one.scope.kind === 'session') continue;
    const standing = standingOf(state, one, time, null, task.id);
    for (const bound of ['tokens', 'seconds'] as const) {
      const left = standing.left[bound];
      if (left === null) continue;
      const most = one.limit[bound]!;
      if (amountOf(standing.spent, bound) >= most) return { standing, of: bound, why: 'spent', needs: 0 };
      // A whole new day is tried, whatever was said of the need.
      const needs = short !== null && short.of === bound ? Math.min(short.needs, most) : 0;
      const kept = standing.reserved[bound] ?? 0;
      if (left + kept < needs) return { standing, of: bound, why: 'short', needs };
      if (kept > 0 && left < Math.max(needs, asked[bound] ?? 0))
        return { standing, of: bound, why: 'reserved', needs };
    }
    // Only where its model was one that costs: others go on without.
    const { money } = standing.left;
    if (short?.of !== 'money' || short.member !== member || money === null) continue;
    const needs = Math.max(1, Math.min(short.needs, one.limit.money!));
    if (money < needs) return { standing, of: 'money', why: 'short', needs };
  }
  return null;
}

/** Whether the task has too little left of what each task may take for the call that it could not make. */
export function sessionIsShort(state: BudgetState, task: TaskRecord, time: number): boolean {
  const limit = state.limits.get('session');
  const short = state.sessions.get(task.id)?.short ?? null;
  if (limit === undefined || short === null) return false;
  const left = standingOf(state, limit, time, task.id, task.id).left[short.of];
  return left !== null && left < short.needs;
}

const least = (pools: readonly Pool[]): Pool =>
  mapPool((of) => {
    const bounds = pools.flatMap((pool) => pool[of] ?? []);
    return bounds.length === 0 ? null : Math.min(...bounds);
  });

/** Where there is a bound, no more than is asked for. */
const cut = (pool: Pool, asked: Pool): Pool =>
  mapPool((of) => {
    const most = pool[of];
    return most === null ? null : Math.min(most, asked[of] ?? most);
  });

const mapPool = (map: (of: Dimension) => number | null): Pool => ({
  ...UNBOUND,
  ...Object.fromEntries(DIMENSIONS.map((of) => [of, map(of)])),
});
