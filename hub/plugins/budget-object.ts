import type { BudgetScope } from '../../ledger/lines/events.ts';
import { type BudgetState, dayBegin, dayOf, type Spent, spentAt } from '../../ledger/state/budget.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { BudgetObject, BudgetSum } from '../../node/api/objects.ts';
import { type Standing, standingOf } from './budget-limits.ts';

/** Budgets as `/v1/budget` and `budget show` tell them: what the log says, and nothing that is not counted. */
export function budgetObject(own: BudgetState, state: MeshState, time: number): BudgetObject {
  const nameOf = (peer: string): string => state.members.byPeer.get(peer)?.name ?? peer;
  const day = dayOf(time);
  const today = (sums: ReadonlyMap<string, Spent>, label: (name: string) => string) =>
    [...sums].flatMap(([name, spent]) => (day > own.day ? [] : [{ name: label(name), spent: sumOf(spent) }]));
  return {
    currency: own.currency,
    day: new Date(dayBegin(day)).toISOString().slice(0, 10),
    until: dayBegin(day + 1),
    limits: [...own.limits.values()].map((one) => limitObject(standingOf(own, one, time), nameOf)),
    prices: [...own.prices].map(([model, price]) => ({ model, ...price })),
    today: {
      spent: sumOf(spentAt(own, own.spent, time)),
      lost: day > own.day ? 0 : own.lost,
      models: today(own.models, (name) => name),
      members: today(own.members, nameOf),
    },
    tasks: [...own.sessions].map(([task, { spent }]) => ({ task, spent: sumOf(spent) })),
  };
}

function limitObject(
  { scope, limit, spent, reserved, left, until }: Standing,
  nameOf: (peer: string) => string,
): BudgetObject['limits'][number] {
  const each = scope.kind === 'session';
  return {
    scope: scope.kind,
    name: scope.kind === 'model' ? scope.model : scope.kind === 'member' ? nameOf(scope.member) : null,
    limit,
    // Each task has its own.
    spent: each ? null : sumOf(spent),
    reserved: each ? null : reserved,
    left: each ? null : left,
    until,
  };
}

const sumOf = ({ tokens, ms, money, calls, estimated }: Spent): BudgetSum => ({
  tokens,
  seconds: Math.ceil(ms / 1000),
  money,
  calls,
  estimated,
});

/** A limit, in words. */
export function limitWords(scope: BudgetScope, nameOf: (peer: string) => string): string {
  switch (scope.kind) {
    case 'day':
      return 'the budget of the day';
    case 'session':
      return 'the budget of the task';
    case 'model':
      return `the day's budget of the model ${scope.model}`;
    case 'member':
      return `the day's budget of ${nameOf(scope.member)}`;
    default:
      return scope satisfies never;
  }
}

/** Until when a limit stands as it does. */
export const whenWords = (until: number | null): string =>
  until === null ? 'until it is raised' : `until ${new Date(until).toISOString().replace(':00.000Z', 'Z')}`;
