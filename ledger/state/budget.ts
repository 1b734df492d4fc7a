import {
  type Allowance,
  amountMax,
  costOf,
  DIMENSIONS,
  type Dimension,
  type Pool,
  type Price,
  type UsageRow,
} from '../../protocol/usage.ts';
import type { KnownEntry } from '../lines/entry.ts';
import type { BudgetScope, EventBody } from '../lines/events.ts';
import type { PluginReducer } from './plugin-reducer.ts';
import { loadPairs, savePairs } from './reducer.ts';

const DAY_MS = 86_400_000;
/** Models and members counted apart in one day; what comes after them counts for the day alone. */
const countedMax = 4_096;

/** What was taken. */
export interface Spent {
  tokens: number;
  ms: number;
  /** In millionths of the currency. */
  money: number;
  calls: number;
  /** Of these, the ones whose server did not count. */
  estimated: number;
}

/** What is kept for an attempt that runs. Of one that was lost only the money is, until the day ends: what its member spent unheard is not known. */
export interface Reserved extends Omit<Allowance, 'prices'> {
  task: string;
  attempt: number;
  member: string;
  lost: boolean;
}

/** What one task took over all its attempts. */
export interface SessionSpent {
  spent: Spent;
  /** The newest attempt that was counted; each counts once. */
  attempt: number;
  /** Why that one was stopped, where it was for a limit. */
  short: (NonNullable<EventBody<'budget.spent'>['usage']['short']> & { member: string }) | null;
}

/**
 * Limits, prices, and what was taken, as the log tells it. A day is that of UTC by the entries' times, which are informational: a
 * clock set wrong moves a day's budget into another day, and nothing else.
 */
export interface BudgetState {
  limits: Map<string, { scope: BudgetScope; limit: Pool }>;
  prices: Map<string, Price>;
  currency: string | null;
  /** Limits that were ever set. */
  changes: number;
  /** Days since 1970; what follows is of this day. */
  day: number;
  spent: Spent;
  /** Attempts under a limit that were lost: what they took after their last word is in no sum. */
  lost: number;
  models: Map<string, Spent>;
  members: Map<string, Spent>;
  /** By scope (and task): the limit's having been reached is in the log. */
  reached: Set<string>;
  /** By task and attempt. */
  reserved: Map<string, Reserved>;
  /** Of tasks that have not ended. */
  sessions: Map<string, SessionSpent>;
}

export const nothing = (): Spent => ({ tokens: 0, ms: 0, money: 0, calls: 0, estimated: 0 });
export const dayOf = (time: number): number => Math.floor(time / DAY_MS);
/** Unix ms. */
export const dayBegin = (day: number): number => day * DAY_MS;
export const scopeKey = (scope: BudgetScope): string =>
  scope.kind === 'model'
    ? `model ${scope.model}`
    : scope.kind === 'member'
      ? `member ${scope.member}`
      : scope.kind;
export const reachedKey = (scope: BudgetScope, session: string | null): string =>
  session === null ? scopeKey(scope) : `session ${session}`;
const attemptKey = (of: { task: string; attempt: number }): string => `${of.task}.${of.attempt}`;

/** Of the day that it is at `time`; nothing, where the newest entry is of one before. */
export const spentAt = (state: BudgetState, spent: Spent | undefined, time: number): Spent =>
  spent === undefined || dayOf(time) > state.day ? nothing() : spent;

/** Seconds are told whole, rounded up: a limit of one is reached with the first call. */
export const amountOf = (spent: Spent, of: Dimension): number =>
  of === 'seconds' ? Math.ceil(spent.ms / 1000) : spent[of];

/** The first of its bounds that is reached, if one is. */
export function reachedOf(limit: Pool, spent: Spent): Dimension | null {
  const found = DIMENSIONS.find((of) => {
    const most = limit[of];
    return most !== null && amountOf(spent, of) >= most;
  });
  return found ?? null;
}

/** In millionths; what is local, or has no price, costs nothing. */
const costOfRow = (prices: ReadonlyMap<string, Price>, row: UsageRow): number => {
  const price = row.place === 'cloud' ? prices.get(row.model) : undefined;
  return price === undefined ? 0 : costOf(price, row.promptTokens, row.generatedTokens);
};

export const budgetReducer: PluginReducer<BudgetState> = {
  name: 'budget',
  version: 2,
  reads: [
    'budget.set',
    'budget.priced',
    'budget.reserved',
    'budget.spent',
    'budget.reached',
    'attempt.ended',
    'task.executed',
    'task.converged',
  ],
  initial: () => ({
    limits: new Map(),
    prices: new Map(),
    currency: null,
    changes: 0,
    day: 0,
    spent: nothing(),
    lost: 0,
    models: new Map(),
    members: new Map(),
    reached: new Set(),
    reserved: new Map(),
    sessions: new Map(),
  }),
  reduce(state, entry: KnownEntry) {
    if (entry.type.startsWith('budget.')) begin(state, dayOf(entry.time));
    switch (entry.type) {
      case 'budget.set': {
        const { scope, limit, currency } = entry.body;
        if (limit === null) state.limits.delete(scopeKey(scope));
        else state.limits.set(scopeKey(scope), { scope, limit });
        state.currency = currency;
        state.changes += 1;
        // Whether the new limit is reached is another question.
        for (const key of [...state.reached])
          if (key === scopeKey(scope) || key.startsWith(`${scopeKey(scope)} `)) state.reached.delete(key);
        break;
      }
      case 'budget.priced': {
        const { model, price, currency } = entry.body;
        if (price === null) state.prices.delete(model);
        else state.prices.set(model, price);
        state.currency = currency;
        break;
      }
      case 'budget.reserved': {
        const { task, attempt, member, allowance } = entry.body;
        state.reserved.set(attemptKey(entry.body), { task, attempt, member, ...allowance, lost: false });
        break;
      }
      case 'budget.spent':
        spent(state, entry.body);
        break;
      case 'budget.reached':
        state.reached.add(reachedKey(entry.body.scope, entry.body.session));
        break;
      case 'attempt.ended':
      case 'task.executed': {
        const ended = entry.type === 'attempt.ended' ? entry.body : null;
        const key = attemptKey(entry.body);
        // Without a result nobody said what was taken in the end.
        if (ended?.reason === 'lost' && ended.receipt === null && state.reserved.has(key)) {
          begin(state, dayOf(entry.time));
          state.lost += 1;
        }
        release(state, key, ended?.reason === 'lost');
        break;
      }
      case 'task.converged':
        state.sessions.delete(entry.body.task);
        state.reached.delete(`session ${entry.body.task}`);
        break;
    }
    return state;
  },
  save: ({ limits, prices, models, members, reached, reserved, sessions, ...rest }) => ({
    ...rest,
    limits: savePairs(limits),
    prices: savePairs(prices),
    models: savePairs(models),
    members: savePairs(members),
    reached: [...reached],
    reserved: savePairs(reserved),
    sessions: savePairs(sessions),
  }),
  load: (saved) => {
    const state = structuredClone(saved) as BudgetState & { reached: string[] };
    return {
      ...state,
      limits: loadPairs(state.limits),
      prices: loadPairs(state.prices),
      models: loadPairs(state.models),
      members: loadPairs(state.members),
      reached: new Set(state.reached),
      reserved: loadPairs(state.reserved),
      sessions: loadPairs(state.sessions),
    };
  },
};

/** A new day begins with nothing taken. */
function begin(state: BudgetState, day: number): void {
  if (day <= state.day) return;
  state.day = day;
  state.spent = nothing();
  state.lost = 0;
  state.models.clear();
  state.members.clear();
  for (const key of [...state.reached]) if (!key.startsWith('session ')) state.reached.delete(key);
  for (const [key, { lost }] of [...state.reserved]) if (lost) state.reserved.delete(key);
}

function spent(state: BudgetState, body: EventBody<'budget.spent'>): void {
  const { task, attempt, member, usage } = body;
  const session = state.sessions.get(task) ?? { spent: nothing(), attempt: 0, short: null };
  // The founder died between the two entries of an attempt's end, and told it again.
  if (attempt <= session.attempt) return;
  session.attempt = attempt;
  session.short = usage.short === null ? null : { ...usage.short, member };
  state.sessions.set(task, session);
  let money = 0;
  for (const row of usage.rows) {
    const cost = costOfRow(state.prices, row);
    const model = of(state.models, row.model, state.limits.has(`model ${row.model}`));
    money = added(money, cost);
    for (const sum of [state.spent, session.spent, model, of(state.members, member)]) {
      if (sum === null) continue;
      sum.tokens = added(sum.tokens, row.promptTokens + row.generatedTokens);
      sum.ms = added(sum.ms, row.ms);
      sum.money = added(sum.money, cost);
      sum.calls = added(sum.calls, row.calls);
      sum.estimated = added(sum.estimated, row.estimated);
    }
  }
  const reserved = state.reserved.get(attemptKey(body));
  if (reserved === undefined) return;
  // Its end follows; of money it is not yet said whether the member was heard to the last.
  const left = reserved.money === null ? null : Math.max(0, reserved.money - money);
  state.reserved.set(attemptKey(body), { ...reserved, tokens: null, seconds: null, models: {}, money: left });
}

/** Only a member that lies comes so far: what is more is not told apart, so that the log can hold every sum. */
const added = (sum: number, more: number): number => Math.min(amountMax, sum + more);

/** Null: so many others are counted already. What has a limit is counted whatever names a member makes up. */
function of(sums: Map<string, Spent>, name: string, limited = false): Spent | null {
  const found = sums.get(name);
  if (found !== undefined) return found;
  if (sums.size >= countedMax && !limited) return null;
  const made = nothing();
  sums.set(name, made);
  return made;
}

function release(state: BudgetState, key: string, lost: boolean): void {
  const reserved = state.reserved.get(key);
  if (reserved === undefined) return;
  if (lost && reserved.money !== null && reserved.money > 0) {
    state.reserved.set(key, { ...reserved, tokens: null, seconds: null, models: {}, lost: true });
  } else state.reserved.delete(key);
}
