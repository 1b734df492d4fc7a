import type { Grammar } from '../../node/cli/parse.ts';
import { usageError } from '../../node/cli/usage-errors.ts';
import * as v from '../../node/cli/values.ts';

/** A sum as typed; null: `none`. */
export interface Money {
  /** In millionths. */
  amount: number;
  currency: string;
}

export type BudgetScopeWord = 'day' | 'session' | 'model' | 'member';
const SCOPES = ['day', 'session', 'model', 'member'] as const;

export type BudgetCommand =
  | { verb: 'budget show' }
  | {
      verb: 'budget set';
      scope: BudgetScopeWord;
      name: string | null;
      /** null: no limit; undefined: as it is. */
      tokens?: number | null;
      seconds?: number | null;
      money?: Money | null;
    }
  | { verb: 'budget price'; model: string; price: { in: Money; out: Money } | null };

const amountMax = 2 ** 46;

/** Or `none`, which stays a word here: a parser of options takes null for nothing. */
const orNone =
  <T>(read: (text: string) => T) =>
  (text: string): T | 'none' =>
    text === 'none' ? 'none' : read(text);
const nullOf = <T>(value: T | 'none'): T | null => (value === 'none' ? null : value);

/** `5EUR 0.25USD`: at most six places. */
const money =
  (what: string) =>
  (text: string): Money => {
    const [, whole = '', part = '', currency = ''] = /^(\d{1,7})(?:\.(\d{1,6}))?([A-Z]{3})$/.exec(text) ?? [];
    if (currency === '') {
      throw usageError(`${what} is not of the form asked for`, {
        expected: 'an amount with its currency, such as 5EUR or 0.25USD',
        got: text,
      });
    }
    return { amount: Number(whole) * 1_000_000 + Number(part.padEnd(6, '0')), currency };
  };

/** Adds `budget …` to the grammar of `mesh-hub`. */
export function addBudgetGrammar<C>(grammar: Grammar<C | BudgetCommand>): void {
  grammar.group('budget', 'what models may be asked for: limits, prices, and what was taken');
  grammar.leaf('budget', {
    usage: 'show',
    summary: 'limits, what was taken today, what is kept for attempts that run, and prices',
    examples: ['mesh-hub budget show'],
    read: () => ({ verb: 'budget show' }),
  });
  grammar.leaf('budget', {
    usage: 'set <scope> [name]',
    summary: 'limit a day (UTC), each task (session), a model or a member in a day; what is not named stays',
    about:
      'Limits what models may be asked for: all of a day (UTC), each task (session), in a day one model or one member. ' +
      'What is not named stays as it is; "none" takes a limit away. Money is counted for clouds; what is local costs nothing.',
    options: [
      v.option(
        '--tokens <n>',
        'tokens of prompts and answers together, or none',
        orNone(v.integer('--tokens', 0, amountMax)),
      ),
      v.option(
        '--time <duration>',
        'time in which answers are waited for, or none',
        orNone(v.duration('--time')),
      ),
      v.option('--money <amount>', 'such as 5EUR, or none', orNone(money('--money'))),
    ],
    examples: ['mesh-hub budget set day --tokens 5000000', 'mesh-hub budget set member lab-07 --time 4h'],
    read: ({ operands, options }) => {
      const scope = v.oneOf('the scope', SCOPES)(operands[0] ?? '');
      const name = operands[1] ?? null;
      if ((scope === 'model' || scope === 'member') !== (name !== null)) {
        throw usageError('a limit of a model or member names it, the others name nothing', {
          expected: 'day, session, model NAME or member NODE',
          got: operands.join(' '),
        });
      }
      const {
        tokens,
        time,
        money: sum,
      } = options as {
        tokens?: number | 'none';
        time?: number | 'none';
        money?: Money | 'none';
      };
      if (tokens === undefined && time === undefined && sum === undefined) {
        throw usageError('no limit is named', {
          expected: '--tokens, --time or --money',
          got: 'none of them',
          hint: 'mesh-hub budget show says what there is',
        });
      }
      return {
        verb: 'budget set',
        scope,
        name,
        ...(tokens === undefined ? {} : { tokens: nullOf(tokens) }),
        ...(time === undefined ? {} : { seconds: time === 'none' ? null : Math.ceil(time / 1000) }),
        ...(sum === undefined ? {} : { money: nullOf(sum) }),
      };
    },
  });
  grammar.leaf('budget', {
    usage: 'price <model>',
    summary: 'what a million tokens of a model in a cloud cost; one without a price is not asked',
    options: [
      v.option('--in <amount>', 'of prompts, such as 3EUR', money('--in')),
      v.option('--out <amount>', 'of answers', money('--out')),
      v.option('--none', 'it has no price any more'),
    ],
    examples: ['mesh-hub budget price big-1 --in 3EUR --out 15EUR'],
    read: ({ operands, options }) => {
      const model = v.model(operands[0] ?? '');
      const { in: read, out: written, none } = options as { in?: Money; out?: Money; none?: boolean };
      if (none === true && read === undefined && written === undefined) {
        return { verb: 'budget price', model, price: null };
      }
      if (
        none === true ||
        read === undefined ||
        written === undefined ||
        read.currency !== written.currency
      ) {
        throw usageError('a price is of prompts and of answers, in one currency', {
          expected: '--in and --out, or --none',
          got: [read && '--in', written && '--out', none && '--none'].filter(Boolean).join(' ') || 'neither',
        });
      }
      return { verb: 'budget price', model, price: { in: read, out: written } };
    },
  });
}
