import type { RepositoryBundle } from '../../protocol/task.ts';
import type { KnownEntry } from '../lines/entry.ts';
import { StateError } from './errors.ts';
import { loadPairs, type Reducer, savePairs } from './reducer.ts';

/** Commit → the bundle that gives it to whoever has its prerequisites; all prerequisites are keys too. */
export type Repositories = Map<string, RepositoryBundle>;

export const repositoriesReducer: Reducer<Repositories> = {
  name: 'repositories',
  version: 1,
  initial: () => new Map(),
  reduce(state, entry: KnownEntry) {
    if (entry.type !== 'task.submitted' || entry.body.bundle === null) return state;
    const { bundle } = entry.body;
    const missing = bundle.prerequisites.find((commit) => !state.has(commit));
    if (missing !== undefined) throw new StateError(entry, `no bundle gives the prerequisite ${missing}`);
    // A bundle that rests on nothing may shorten a chain; no other may replace one, so that no cycle can arise.
    if (!state.has(bundle.commit) || bundle.prerequisites.length === 0) state.set(bundle.commit, bundle);
    return state;
  },
  save: savePairs,
  load: (saved) => loadPairs<RepositoryBundle>(saved),
};

/**
 * The bundles that lead to `commit`, oldest first, or null where it is unknown or where more than `max` would be
 * needed.
 */
export function bundleChain(state: Repositories, commit: string, max: number): RepositoryBundle[] | null {
  const chain: RepositoryBundle[] = [];
  const seen = new Set<string>();
  // Depth first with an explicit stack: a chain may be longer than the call stack.
  const stack = [{ commit, entered: false }];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const bundle = state.get(top.commit);
    if (bundle === undefined) return null;
    if (top.entered) {
      chain.push(bundle);
      if (chain.length > max) return null;
    } else if (!seen.has(top.commit)) {
      seen.add(top.commit);
      stack.push({ commit: top.commit, entered: true });
      for (const prerequisite of bundle.prerequisites) stack.push({ commit: prerequisite, entered: false });
    }
  }
  return chain;
}
