import type { IndexStore } from './index-store.ts';
import type { Log } from './log.ts';
import { defaultBounds, type StateBounds } from './state/reducer.ts';
import {
  applyEntry,
  initialState,
  knownEntry,
  loadState,
  type MeshState,
  type SavedState,
  saveState,
} from './state/state.ts';

/** The name and the form under which the whole state of a mesh is kept; each part has its reducer's version besides. */
const KEPT = 'mesh';
const KEPT_VERSION = 1;

/** The state of a mesh as its log tells it. */
export interface Replayed {
  state: MeshState;
  /** Entries that a kept state spared the replay; 0 where there was none that fits this log and this program. */
  kept: number;
}

/**
 * The state after all durable entries: from the state that was kept beside the log, where its checkpoint is one of this
 * log, and from the beginning otherwise. Either way gives the same state (promise 9). Throws `SF_LOG_DAMAGED` where an
 * entry cannot follow what is before it.
 */
export async function replayLog(
  log: Log,
  index: IndexStore,
  bounds: StateBounds = defaultBounds,
): Promise<Replayed> {
  const kept = await index.loadState(KEPT, KEPT_VERSION);
  const loaded = kept === null ? null : loadState(kept.state as SavedState, bounds);
  const state = loaded?.mesh.size === kept?.size && loaded !== null ? loaded : initialState(bounds);
  const from = state.mesh.size;
  for await (const entry of log.entries(from)) applyEntry(state, entry, knownEntry(entry));
  return { state, kept: from };
}

/**
 * Keeps a state for the next start. It must be of exactly the durable entries; one that is ahead of its log, as after a
 * failed append, is not kept and the result is false.
 */
export async function keepState(log: Log, index: IndexStore, state: MeshState): Promise<boolean> {
  if (state.mesh.size !== log.size) return false;
  await index.saveState(KEPT, KEPT_VERSION, log.checkpoint, saveState(state));
  return true;
}
