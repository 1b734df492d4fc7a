import type { BudgetObject, BudgetSum } from '../../node/api/objects.ts';
import { cell, table } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { BudgetCommand } from './budget-grammar.ts';

/** `budget show|set|price`. */
export async function runBudget(command: BudgetCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'budget show':
      show(session, await client.get<BudgetObject>('/v1/budget'), budgetText);
      return EXIT.ok;
    case 'budget set': {
      const { verb: _, money, ...rest } = command;
      const sum = money === undefined ? {} : money === null ? { money } : named(money.amount, money.currency);
      show(session, await client.post<BudgetObject>('/v1/budget/set', { ...rest, ...sum }), budgetText);
      return EXIT.ok;
    }
    case 'budget price': {
      const { model, price } = command;
      const body =
        price === null
          ? { model, price }
          : { model, price: { in: price.in.amount, out: price.out.amount }, currency: price.in.currency };
      show(session, await client.post<BudgetObject>('/v1/budget/price', body), budgetText);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

const named = (money: number, currency: string): object => ({ money, currency });

function budgetText({ currency, day, until, limits, prices, today }: BudgetObject): string {
  const money = (amount: number | null): string =>
    amount === null ? '-' : `${sum(amount)}${currency === null ? '' : ` ${currency}`}`;
  const counts = (of: BudgetSum): string[] => [`${of.tokens}`, `${of.seconds} s`, money(of.money)];
  const parts: string[] = [];
  if (limits.length === 0) parts.push('no limits: mesh-hub budget set day --tokens N');
  else {
    const rows = limits.flatMap(({ scope, name, limit, spent, reserved, left }) => {
      const whose = name === null ? scope : `${scope} ${name}`;
      const bounds = (['tokens', 'seconds', 'money'] as const).filter((of) => limit[of] !== null);
      return bounds.map((of) => {
        const told = (value: number | null | undefined): string =>
          of === 'money' ? money(value ?? null) : cell(value ?? null);
        return [cell(whose), of, told(limit[of]), told(spent?.[of]), told(reserved?.[of]), told(left?.[of])];
      });
    });
    parts.push(table(['limit of', 'in', 'at most', 'spent', 'kept', 'left'], rows));
    parts.push(
      `days are of UTC; this one, ${day}, ends ${new Date(until).toISOString().replace('.000Z', 'Z')}`,
    );
  }
  const lines = [
    ['today', ...counts(today.spent)],
    ...today.models.map(({ name, spent }) => [`model ${cell(name)}`, ...counts(spent)]),
    ...today.members.map(({ name, spent }) => [`member ${cell(name)}`, ...counts(spent)]),
  ];
  parts.push('', table(['spent', 'tokens', 'answering', 'money'], lines));
  const { estimated, calls } = today.spent;
  if (estimated > 0) parts.push(`${estimated} of ${calls} calls are estimated: their servers did not count`);
  if (today.lost > 0) {
    const attempts = today.lost === 1 ? 'an attempt' : `${today.lost} attempts`;
    parts.push(
      `${attempts} under a limit lost: what was taken after the last word of the machine is not known`,
    );
  }
  if (prices.length > 0) {
    const rows = prices.map(({ model, in: read, out }) => [cell(model), money(read), money(out)]);
    parts.push('', table(['price of a million', 'prompts', 'answers'], rows));
  }
  return parts.join('\n');
}

/** Millionths as a sum, no more places than it has, and at least two. */
const sum = (amount: number): string => (amount / 1e6).toFixed(6).replace(/0{1,4}$/, '');
