/** A promise that did not hold. `checker`: which one found it, by the number of the promise and a word or two. */
export class Violation extends Error {
  readonly checker: string;

  constructor(checker: string, why: string, options: ErrorOptions = {}) {
    super(why, options);
    this.checker = checker;
  }
}

/** Who found it: for what the cores threw themselves, the error's own name. */
export const checkerOf = (error: unknown): string =>
  error instanceof Violation ? error.checker : `core (${error instanceof Error ? error.name : 'unknown'})`;
