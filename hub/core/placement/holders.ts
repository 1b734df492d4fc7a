const NONE: readonly string[] = [];

/** Which members hold a repository, of those that were named. */
export class Holders {
  readonly #holders = new Map<string, Set<string>>();
  readonly #holding = new Map<string, readonly string[]>();

  /** Members that hold the repository. */
  *of(repository: string): Generator<string> {
    yield* this.#holders.get(repository) ?? [];
  }

  /** From now on the member holds these and no others; the same list as before is taken for unchanged. */
  set(peer: string, repositories: readonly string[] = NONE): void {
    const before = this.#holding.get(peer) ?? NONE;
    if (before === repositories) return;
    for (const repository of before) {
      const holders = this.#holders.get(repository);
      holders?.delete(peer);
      if (holders?.size === 0) this.#holders.delete(repository);
    }
    for (const repository of repositories) {
      this.#holders.set(repository, (this.#holders.get(repository) ?? new Set()).add(peer));
    }
    if (repositories.length === 0) this.#holding.delete(peer);
    else this.#holding.set(peer, repositories);
  }
}
