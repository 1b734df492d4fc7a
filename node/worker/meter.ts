import {
  type Allowance,
  costOf,
  type Pool,
  type Price,
  type Usage,
  type UsageRow,
  usageRowsMax,
} from '../../protocol/usage.ts';
import type { Brain } from '../brain/types.ts';

/** Whom a call is made to. */
export interface Asked {
  brain: Pick<Brain, 'name' | 'place'>;
  model: string;
}

/** What a request took that was sent, answered or not. */
export interface CallSpent {
  promptTokens: number;
  generatedTokens: number;
  /** The server did not count: this machine did, by length. */
  estimated: boolean;
  ms: number;
}

/** Why a call may not be made; `others`: to another model it might. */
export interface Refused {
  why: string;
  others: boolean;
}

/**
 * What models were asked for one attempt, held against its allowance before each call. A call is made as long as its prompt fits into
 * what is left, so the sum passes the allowance by what one answer is, at most.
 */
export class Meter {
  readonly #allowance: Allowance | null;
  readonly #told: (usage: Usage) => void;
  readonly #rows: UsageRow[] = [];
  #short: Usage['short'];

  /** `told` hears all of it after each call. */
  constructor(allowance: Allowance | undefined, told: (usage: Usage) => void = () => {}) {
    this.#allowance = allowance ?? null;
    this.#told = told;
  }

  get usage(): Usage {
    const rows = this.#rows.map((row) => ({ ...row, ms: Math.round(row.ms) }));
    return this.#short === undefined ? { rows } : { rows, short: this.#short };
  }

  /** Answers what is to be logged of it: of each call to a cloud; else null. */
  note({ brain, model }: Asked, spent: CallSpent): string | null {
    this.#short = undefined;
    const row = this.#rowOf(brain, model);
    row.calls += 1;
    row.promptTokens += spent.promptTokens;
    row.generatedTokens += spent.generatedTokens;
    row.estimated += spent.estimated ? 1 : 0;
    row.ms += spent.ms;
    this.#told(this.usage);
    if (brain.place !== 'cloud') return null;
    const price = this.#priceOf(model);
    const cost = price === null ? 0 : costOf(price, spent.promptTokens, spent.generatedTokens);
    const counted = spent.estimated ? 'about ' : '';
    return `a cloud was asked: ${brain.name}, ${model}, ${counted}${spent.promptTokens} + ${spent.generatedTokens} tokens, ${(cost / 1e6).toFixed(6)} of the budget's money`;
  }

  #priceOf(model: string): Price | null {
    const prices = this.#allowance?.prices ?? {};
    return Object.hasOwn(prices, model) ? prices[model]! : null;
  }

  /** Null: a call whose prompt takes so many tokens may be made. */
  mayAsk({ brain, model }: Asked, promptTokens: number): Refused | null {
    const allowance = this.#allowance;
    if (brain.place === 'cloud') {
      const refused = this.#mayPay(model, promptTokens);
      if (refused !== null) return refused;
    }
    if (allowance === null) return null;
    const own = Object.hasOwn(allowance.models, model) ? allowance.models[model]! : null;
    const all = this.#fits(allowance, this.#rows, promptTokens, null);
    if (all !== null) return { why: all, others: false };
    const rows = this.#rows.filter((row) => row.model === model);
    const alone = own === null ? null : this.#fits(own, rows, promptTokens, model);
    return alone === null ? null : { why: alone, others: true };
  }

  #fits(pool: Pool, rows: readonly UsageRow[], promptTokens: number, model: string | null): string | null {
    const whose = model === null ? 'the budget of this attempt' : `what this attempt may ask of ${model}`;
    const tokens = rows.reduce((sum, row) => sum + row.promptTokens + row.generatedTokens, 0);
    if (pool.tokens !== null && tokens + promptTokens > pool.tokens) {
      this.#short = { model, of: 'tokens', needs: promptTokens };
      return `${whose} is ${pool.tokens} tokens: ${tokens} are spent, and the next call takes about ${promptTokens}`;
    }
    const seconds = Math.ceil(rows.reduce((sum, row) => sum + row.ms, 0) / 1000);
    if (pool.seconds !== null && seconds >= pool.seconds) {
      this.#short = { model, of: 'seconds', needs: 1 };
      return `${whose} is ${pool.seconds} s of answers, which are spent`;
    }
    return null;
  }

  #mayPay(model: string, promptTokens: number): Refused | null {
    const { money = null } = this.#allowance ?? {};
    const price = this.#priceOf(model);
    if (money === null) return { why: 'no budget of money is set, so no cloud is asked', others: true };
    if (price === null) return { why: `${model} has no price, so it is not asked`, others: true };
    let paid = 0;
    for (const row of this.#rows) {
      const of = row.place === 'cloud' ? this.#priceOf(row.model) : null;
      if (of !== null) paid += costOf(of, row.promptTokens, row.generatedTokens);
    }
    const needs = costOf(price, promptTokens, 0);
    if (paid + Math.max(1, needs) <= money) return null;
    this.#short = { model: null, of: 'money', needs };
    return {
      why: `the money for this attempt is ${money} millionths: ${paid} are spent, and ${model} takes about ${needs} more`,
      others: true,
    };
  }

  #rowOf(brain: Asked['brain'], model: string): UsageRow {
    const found = this.#rows.find(
      (row) => row.model === model && row.brain === brain.name && row.place === brain.place,
    );
    if (found !== undefined) return found;
    // The last row takes what has no room of its own: a few models are asked, and none is lost.
    if (this.#rows.length >= usageRowsMax) return this.#rows.at(-1)!;
    const row: UsageRow = {
      brain: brain.name,
      place: brain.place,
      model,
      calls: 0,
      promptTokens: 0,
      generatedTokens: 0,
      estimated: 0,
      ms: 0,
    };
    this.#rows.push(row);
    return row;
  }
}
