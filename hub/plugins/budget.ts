import type { Context } from 'hono';
import { z } from 'zod';
import type { EventBody } from '../../ledger/lines/events.ts';
import {
  amountOf,
  type BudgetState,
  budgetReducer,
  reachedKey,
  reachedOf,
  type Spent,
  scopeKey,
} from '../../ledger/state/budget.ts';
import { resolveMember } from '../../ledger/state/members.ts';
import { type ApiEnv, inTime, jsonBody } from '../../node/api/http.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { modelName } from '../../protocol/task.ts';
import { budgetNamesMax, DIMENSIONS, loggedPrice, type Pool } from '../../protocol/usage.ts';
import { need } from '../api/rights.ts';
import type { PluginCommand, PluginView } from '../core/plugin.ts';
import { mayRead } from '../core/rights.ts';
import { allowanceFor, heldBy, sessionIsShort, standingOf } from './budget-limits.ts';
import { budgetObject, limitWords, whenWords } from './budget-object.ts';
import type { HubPlugin } from './plugin.ts';

type View = PluginView<BudgetState>;

const amount = z
  .int()
  .nonnegative()
  .max(2 ** 46);
const currency = z.string().regex(/^[A-Z]{3}$/, 'a currency of three letters, such as EUR');
const setBody = z.strictObject({
  scope: z.enum(['day', 'session', 'model', 'member']),
  /** Of the model or member. */
  name: z.string().min(1).max(128).nullable().default(null),
  /** What is not named stays as it is; null: no limit of it. */
  tokens: amount.nullable().optional(),
  seconds: amount.nullable().optional(),
  /** In millionths of the currency. */
  money: amount.nullable().optional(),
  currency: currency.nullable().default(null),
});
const priceBody = z.strictObject({
  model: modelName,
  price: loggedPrice.nullable(),
  currency: currency.nullable().default(null),
});

/**
 * Budgets: limits in tokens, time and money, by day, task, model and member. What an attempt may take is kept for it when it is
 * given out, so that those that run together do not take more than there is; what it took is counted when it ends.
 */
export const budget: HubPlugin<BudgetState> = {
  name: budgetReducer.name,
  version: budgetReducer.version,
  events: ['budget.set', 'budget.priced', 'budget.reserved', 'budget.spent', 'budget.reached'],

  next: ({ own, time }) => {
    const limits = [...own.limits.values()].flatMap((one) => {
      const tasks: (string | null)[] = one.scope.kind === 'session' ? [...own.sessions.keys()] : [null];
      return tasks.map((task) => ({ one, task }));
    });
    return limits
      .filter(({ one, task }) => !own.reached.has(reachedKey(one.scope, task)))
      .flatMap(({ one, task }) => reached(own, standingOf(own, one, time, task), task, time));
  },

  hold({ own, state, time }, task, member) {
    const held = heldBy(own, task, member, time);
    if (held === null) return null;
    const { standing, of, why, needs } = held;
    const name = limitWords(standing.scope, (peer) => state.members.byPeer.get(peer)?.name ?? peer);
    const [left, most] = [standing.left[of]!, standing.limit[of]!];
    const raise = `mesh-hub budget set ${typed(standing.scope, state)} raises it`;
    switch (why) {
      case 'spent':
        return `${name} is used up: ${amountOf(standing.spent, of)} of ${most} ${of}; it waits ${whenWords(standing.until)}, or ${raise}`;
      case 'short':
        return `${name} is nearly used up: a call of about ${needs} ${of} is due, and ${left} are left of ${most}; it waits ${whenWords(standing.until)}, or ${raise}`;
      case 'reserved':
        return `${name}: ${standing.reserved[of]} of its ${most} ${of} are kept for attempts that run; it waits until they have ended`;
      default:
        return why satisfies never;
    }
  },

  enclose({ own, time }, task, { member, role, attempt }) {
    const allowance = role === 'execute' ? allowanceFor(own, task, member, time) : undefined;
    if (allowance === undefined) return null;
    const { prices: _, ...kept } = allowance;
    const { id, correlation } = task;
    const body = { task: id, attempt, correlation, member, allowance: kept };
    return { fields: { allowance }, needed: true, events: [{ type: 'budget.reserved', body }] };
  },

  ending(_view, task, { number, member, role }, { reason, usage }) {
    if (role !== 'execute' || usage === null) return [];
    const { rows } = usage;
    const short = reason === 'budget' ? (usage.short ?? null) : null;
    if (rows.length === 0 && short === null) return [];
    const { id, correlation } = task;
    return [
      {
        type: 'budget.spent',
        body: { task: id, attempt: number, correlation, member, usage: { rows, short } },
      },
    ];
  },

  verdict({ own, time }, task, { member, role }, { reason, usage }) {
    // What a member says of its need counts only where the limit is short by what is logged.
    if (role !== 'execute' || reason !== 'budget' || usage?.short === undefined) return null;
    if (sessionIsShort(own, task, time)) return 'end';
    return heldBy(own, task, member, time) === null ? null : 'wait';
  },

  overview({ own, state, time }) {
    const names = (peer: string): string => state.members.byPeer.get(peer)?.name ?? peer;
    const needs = [...own.limits.values()].flatMap(({ scope, limit }) => {
      if (scope.kind === 'session') return [];
      const standing = standingOf(own, { scope, limit }, time);
      const of = reachedOf(limit, standing.spent);
      if (of === null) return [];
      const what = `${limitWords(scope, names)} is used up: ${amountOf(standing.spent, of)} of ${limit[of]} ${of}, ${whenWords(standing.until)}`;
      return [{ what, command: `mesh-hub budget set ${typed(scope, state)} --${flagOf(of)}` }];
    });
    return { needs };
  },

  reads: {
    show: {
      right: 'view',
      body: z.null(),
      answer({ own, state, time }, _asked, by) {
        const { tasks, ...all } = budgetObject(own, state, time);
        const readable = (id: string): boolean => {
          const task = state.tasks.byId.get(id);
          return task !== undefined && mayRead(state.members, by, task.by);
        };
        return { ...all, tasks: tasks.filter(({ task }) => readable(task)) };
      },
    },
  },
  writes: {
    set: {
      right: 'operate',
      body: setBody,
      decide: (view, asked, by) => {
        const body = setOf(view, asked as z.infer<typeof setBody>);
        return body === null ? [] : [{ type: 'budget.set', body: { ...body, by } }];
      },
      answer: ({ own, state, time }) => budgetObject(own, state, time),
    },
    price: {
      right: 'operate',
      body: priceBody,
      decide: ({ own }, asked, by) => {
        const { model, price, currency: named } = asked as z.infer<typeof priceBody>;
        if (price !== null && own.prices.size >= budgetNamesMax && !own.prices.has(model)) {
          throw full('prices');
        }
        const body = { model, price, currency: currencyOf(own, price !== null, named), by };
        return [{ type: 'budget.priced', body }];
      },
      answer: ({ own, state, time }) => budgetObject(own, state, time),
    },
  },

  routes(app, port) {
    app.get('/v1/budget', async (context) => {
      need(port, context, 'view');
      const read = { op: 'plugin.read', plugin: 'budget', verb: 'show', body: null } as const;
      return context.json((await inTime(port.request(read, context.get('by'), null))) as object);
    });
    const write = async (context: Context<ApiEnv>, verb: string, body: unknown): Promise<object> => {
      const operation = { op: 'plugin.write', plugin: 'budget', verb, body } as const;
      const answer = port.request(operation, context.get('by'), context.get('correlation'));
      return (await inTime(answer)) as object;
    };
    app.post('/v1/budget/set', async (context) => {
      need(port, context, 'operate');
      return context.json(await write(context, 'set', await jsonBody(context, setBody)));
    });
    app.post('/v1/budget/price', async (context) => {
      need(port, context, 'operate');
      return context.json(await write(context, 'price', await jsonBody(context, priceBody)));
    });
  },
};

const flagOf = (of: (typeof DIMENSIONS)[number]): string =>
  ({ tokens: 'tokens N', seconds: 'time D', money: 'money AMOUNT' })[of];

/** The limit as a command names it. */
const typed = (scope: EventBody<'budget.set'>['scope'], state: View['state']): string =>
  scope.kind === 'model'
    ? `model ${scope.model}`
    : scope.kind === 'member'
      ? `member ${state.members.byPeer.get(scope.member)?.name ?? scope.member}`
      : scope.kind;

/** That a limit was reached is logged once for each time that it is. */
function reached(
  own: BudgetState,
  { scope, limit, spent, until }: ReturnType<typeof standingOf>,
  session: string | null,
  time: number,
): PluginCommand[] {
  if (spent.calls === 0 || reachedOf(limit, spent) === null) return [];
  const since = session === null ? (until ?? time) - 86_400_000 : 0;
  return [
    {
      object: reachedKey(scope, session),
      // A limit that was changed, and changed back, may be reached anew without anything more being taken.
      step: `reached ${since} ${own.changes} ${JSON.stringify(limit)}`,
      event: { type: 'budget.reached', body: { scope, session, since, limit, spent: poolOf(spent) } },
    },
  ];
}

const poolOf = (spent: Spent): Pool => ({
  tokens: spent.tokens,
  seconds: amountOf(spent, 'seconds'),
  money: spent.money,
});

/** The limit as it is to be; null: it is so already. */
function setOf(
  { own, state }: View,
  { scope: kind, name, currency: named, ...asked }: z.infer<typeof setBody>,
): Omit<EventBody<'budget.set'>, 'by'> | null {
  const scope = scopeOf(kind, name, state);
  const before = own.limits.get(scopeKey(scope))?.limit ?? { tokens: null, seconds: null, money: null };
  const limit = Object.fromEntries(
    DIMENSIONS.map((of) => [of, asked[of] === undefined ? before[of] : asked[of]]),
  ) as Pool;
  if (JSON.stringify(limit) === JSON.stringify(before)) return null;
  if (!own.limits.has(scopeKey(scope)) && own.limits.size >= budgetNamesMax) throw full('limits');
  const none = DIMENSIONS.every((of) => limit[of] === null);
  const names = asked.money !== undefined && asked.money !== null;
  return { scope, limit: none ? null : limit, currency: currencyOf(own, names, named) };
}

function scopeOf(
  kind: z.infer<typeof setBody>['scope'],
  name: string | null,
  { members }: View['state'],
): EventBody<'budget.set'>['scope'] {
  if (kind === 'day' || kind === 'session') {
    if (name === null) return { kind };
    throw new SuperfleetError('SF_USAGE', `the limit of a ${kind} has no name`, {
      expected: kind,
      got: name,
    });
  }
  if (name === null) {
    throw new SuperfleetError('SF_USAGE', `a limit of a ${kind} names it`, {
      expected: `${kind} and a name`,
      got: kind,
    });
  }
  if (kind === 'model') {
    const model = modelName.safeParse(name);
    if (model.success) return { kind, model: model.data };
    throw new SuperfleetError('SF_USAGE', 'there is no model of such a name', {
      expected: model.error.issues[0]!.message,
      got: name,
    });
  }
  const member = resolveMember(members, name);
  if (member !== null) return { kind, member: member.peer };
  throw new SuperfleetError('SF_NOT_FOUND', `there is no member ${name}`, { hint: 'mesh-hub node list' });
}

/** One currency for all sums: another one can be named when no sum of the old is left. */
function currencyOf(own: BudgetState, names: boolean, named: string | null): string | null {
  if (!names) return own.currency;
  const inUse = own.prices.size > 0 || [...own.limits.values()].some(({ limit }) => limit.money !== null);
  const known = own.currency;
  if (known !== null && (named === null || named === known || inUse)) {
    if (named === null || named === known) return known;
    throw new SuperfleetError('SF_CONFLICT', `sums here are in ${known}`, {
      expected: known,
      got: named,
      hint: 'remove limits of money and prices first, or name the same currency',
    });
  }
  if (named !== null) return named;
  throw new SuperfleetError('SF_USAGE', 'a sum of money names its currency', {
    expected: 'an amount such as 5EUR',
    got: 'no currency',
  });
}

const full = (what: string): SuperfleetError =>
  new SuperfleetError('SF_FULL', `there are ${budgetNamesMax} ${what} already`, {
    hint: 'remove one that is not needed',
  });
