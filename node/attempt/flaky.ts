import type { AttemptFacts } from './context.ts';

/**
 * When a red check is not believed at once: in a goal, where it was green before the work; in a verification, since its executor
 * says that it is green.
 */
export interface Doubt {
  of: 'goal' | 'verification';
  /** What is judged; null: the base, which nothing changed. */
  commit: string | null;
  /** A goal's: places of the checks that were green before the work. */
  greenBefore: ReadonlySet<number>;
  /** Places of those that were looked at again in this attempt: each is once, unless it was found to be flaky. */
  looked: Set<number>;
}

/** The check, run once more on a tree that was put back first; answers its exit code. */
export interface Again {
  onResult(): Promise<number>;
  onBase(): Promise<number>;
  said(words: string): Promise<void>;
}

/**
 * What a check that was red says when it is asked again: on the same files, and, where it was green on the base, there. Two runs at
 * most. `green`: it gives both answers on the result; `baseRed`: on the base. Either is noted in `facts`.
 */
export async function secondAnswer(
  index: number,
  facts: AttemptFacts,
  { of, greenBefore, looked }: Doubt,
  again: Again,
): Promise<'red' | 'green' | 'baseRed'> {
  const known = facts.checksFlaky.includes(index);
  const asked = of === 'verification' || known || (greenBefore.has(index) && !looked.has(index));
  if (!asked) return 'red';
  looked.add(index);
  await again.said('is red where it was green before: it is run again on the same files');
  if ((await again.onResult()) === 0) {
    if (!known) facts.checksFlaky.push(index);
    await again.said('is flaky: red, then green on the same files. It proves nothing.');
    return 'green';
  }
  if (known || !greenBefore.has(index)) return 'red';
  await again.said('is red again: it is run on the base, where it was green');
  if ((await again.onBase()) === 0) return 'red';
  facts.checksFlaky.push(index);
  await again.said('is flaky: green, then red on the base. It proves nothing.');
  return 'baseRed';
}
