import { z } from 'zod';
import { count } from './ids.ts';

/** What models were asked for an attempt and what that took, and how much of it an attempt may take. */

/** Rows of one attempt: a model of a brain each; what comes after them is added to the last. */
export const usageRowsMax = 16;
/** Models that have a limit or a price. */
export const budgetNamesMax = 64;

/** Of one sum: far above what a day holds, and many of them stay below 2^53. */
export const amountMax = 2 ** 46;
const amount = count.max(amountMax);
const name = z.string().min(1).max(128);

const rowShape = {
  /** As its receipt names it, such as `ollama`. */
  brain: name,
  /** Who read the prompts: a server of this machine's, another member, or somebody else for money. */
  place: z.enum(['local', 'mesh', 'cloud']),
  model: name,
  /** Requests that were sent, answered or broken off. */
  calls: amount,
  promptTokens: amount,
  generatedTokens: amount,
  /** Of these calls, those whose server did not count: their tokens are estimated from their length. */
  estimated: amount,
  /** Time in which answers were waited for. */
  ms: amount,
};
export const usageRow = z.object(rowShape);
export type UsageRow = z.infer<typeof usageRow>;

export const DIMENSIONS = ['tokens', 'seconds', 'money'] as const;
export type Dimension = (typeof DIMENSIONS)[number];

const shortShape = {
  /** The model whose own limit it was; null: another. */
  model: name.nullable(),
  of: z.enum(DIMENSIONS),
  /** What the call that was not made would have taken, as far as can be told before it is made. */
  needs: amount,
};

/** All of an attempt so far. */
export const usage = z.object({
  rows: z.array(usageRow).max(usageRowsMax),
  /** For want of what a call was not made. @default every call was made */
  short: z.object(shortShape).optional(),
});
export type Usage = z.infer<typeof usage>;

/** Tokens of prompts and answers together; seconds in which answers were waited for; money in millionths. Null: no bound. */
const poolShape = { tokens: amount.nullable(), seconds: amount.nullable(), money: amount.nullable() };
export const pool = z.object(poolShape);
export type Pool = z.infer<typeof pool>;

/** Millionths of the currency for a million tokens. */
const priceShape = { in: amount, out: amount };
export const price = z.object(priceShape);
export type Price = z.infer<typeof price>;

const models = <T extends z.ZodType>(of: T) =>
  z.record(name, of).refine((all) => Object.keys(all).length <= budgetNamesMax, {
    message: `at most ${budgetNamesMax} models`,
  });

/** What an attempt may take. Without `money` no cloud is asked, nor for a model that has no price. */
export const allowance = z.object({
  ...poolShape,
  /** Of a model with a limit of its own. */
  models: models(pool),
  /** Of models in a cloud; what is local costs nothing. */
  prices: models(price),
});
export type Allowance = z.infer<typeof allowance>;

/** The same as the log has them, where nothing unknown is passed over. */
export const loggedUsage = z.strictObject({
  rows: z.array(z.strictObject(rowShape)).max(usageRowsMax),
  short: z.strictObject(shortShape).nullable(),
});
export const loggedPool = z.strictObject(poolShape);
export const loggedPrice = z.strictObject(priceShape);
export const loggedGrant = z.strictObject({ ...poolShape, models: models(loggedPool) });

const MILLION = 1_000_000n;

/** What so many tokens cost, in millionths, rounded up. */
export function costOf(of: Price, promptTokens: number, generatedTokens: number): number {
  const parts = BigInt(of.in) * BigInt(promptTokens) + BigInt(of.out) * BigInt(generatedTokens);
  const cost = (parts + MILLION - 1n) / MILLION;
  return Number(cost < BigInt(2 ** 46) ? cost : BigInt(2 ** 46));
}
