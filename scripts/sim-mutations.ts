import type { Mutation } from '../test/sim/mutations.ts';
import { type Outcome, plantAll } from '../test/sim/plant.ts';

/** Plants the bugs and prints who caught each, and by which seed. False: one was not caught, or something was found where none was. */
export async function showMutations(mutations: readonly Mutation[], seedsMax: number): Promise<boolean> {
  console.log(`| planted | caught by | seeds | s |\n|---|---|---|---|`);
  const outcomes = await plantAll(mutations, seedsMax, ({ mutation, caught, seconds }) => {
    const by = caught === null ? '-' : caught.checker;
    const seeds = caught === null ? `none of ${seedsMax}` : caught.seeds;
    console.log(`| ${mutation.name} | ${by} | ${seeds} | ${seconds.toFixed(0)} |`);
  });
  const wrong = outcomes.filter(isWrong);
  for (const { mutation, caught } of wrong)
    console.log(`${mutation.name}: ${caught === null ? 'not caught' : caught.message}`);
  const planted = outcomes.filter(({ mutation }) => mutation.patches.length > 0);
  console.log(`${planted.filter(({ caught }) => caught !== null).length} of ${planted.length} caught`);
  return wrong.length === 0;
}

/** What is planted is found, and nothing else; words that do not run are no bug. */
const isWrong = ({ mutation, caught }: Outcome): boolean =>
  (mutation.patches.length === 0) !== (caught === null) || caught?.checker === 'core (ReferenceError)';
