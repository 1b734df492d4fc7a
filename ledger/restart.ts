import type { DurableLog } from './durable-log.ts';
import type { Entry } from './entry.ts';
import type { EventBody } from './events.ts';
import type { ScanOptions, ScanStart } from './scan.ts';
import { differing, type Snapshot, stateDigests } from './snapshot.ts';
import { announcedSize } from './snapshot-announced.ts';
import { findSnapshot, type PassedOver } from './snapshot-find.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { defaultBounds, type StateBounds } from './state/reducer.ts';
import { applyEntry, initialState, type MeshState, parsedEntry } from './state/state.ts';
import type { LogStorage } from './storage.ts';

/** A log that is open, and the state that its durable entries give. */
export interface Restarted<L> {
  log: L;
  state: MeshState;
  /** Entries that a snapshot spared: they were neither read nor replayed. */
  spared: number;
  /** Snapshots that do not hold, the newest first: a crash may leave one, and so may a log that was put back. */
  passedOver: PassedOver[];
  /** Where the log says another thing of a state than its entries give: this program or the one that wrote it is wrong. */
  contradictions: string[];
}

/** To be given to the log that is opened. */
export interface RestartAt {
  from: ScanStart | null;
  onBatch: NonNullable<ScanOptions['onBatch']>;
}

/**
 * Opens a log at its newest snapshot that holds, and replays what follows as it is read; without one, all of it. Either
 * way gives the same state (promise 9). A snapshot that the log speaks against is removed and the one before taken. Throws
 * what `open` throws, and `SF_LOG_DAMAGED` where an entry cannot follow what is before it.
 */
export async function restart<L extends DurableLog>(
  storage: LogStorage,
  store: SnapshotStore,
  open: (at: RestartAt) => Promise<L>,
  bounds: StateBounds = defaultBounds,
): Promise<Restarted<L>> {
  const contradictions: string[] = [];
  for (;;) {
    const { found, passedOver } = await findSnapshot(storage, store, { bounds });
    const spared = found?.body.size ?? 0;
    // Else the newest that the log speaks of is the one that was found.
    const unknown = found === null || passedOver.length > 0;
    const announced = unknown ? await announcedSize(storage) : null;
    const replay = new Replay(found, initialState(bounds), announced);
    const log = await open({ from: found, onBatch: (entries) => replay.take(entries) });
    const wrong = replay.contradictions();
    contradictions.push(...wrong.values());
    if (found === null || !wrong.has(spared)) {
      return { log, state: replay.state, spared, passedOver, contradictions };
    }
    await log.close();
    await store.remove(spared);
  }
}

/** Applies entries, and holds against the log's word what the states are that it speaks of. */
class Replay {
  readonly state: MeshState;
  /** By size: what there was. */
  readonly #states = new Map<number, EventBody<'log.snapshot'>['reducers']>();
  /** By size: what the log says. */
  readonly #said = new Map<number, EventBody<'log.snapshot'>>();
  readonly #compareAt: number | null;

  constructor(found: Snapshot | null, nothing: MeshState, compareAt: number | null) {
    this.state = found?.state ?? nothing;
    this.#compareAt = compareAt;
    if (found !== null) this.#states.set(found.body.size, found.body.reducers);
  }

  take(entries: readonly Entry[]): void {
    for (const entry of entries) {
      applyEntry(this.state, entry, parsedEntry(entry));
      const { size } = this.state.mesh;
      if (size === this.#compareAt) this.#states.set(size, stateDigests(this.state));
      if (entry.type !== 'log.snapshot') continue;
      const said = entry.body as EventBody<'log.snapshot'>;
      if (this.#states.has(said.size)) this.#said.set(said.size, said);
    }
  }

  /** By size. */
  contradictions(): Map<number, string> {
    const wrong = new Map<number, string>();
    for (const [size, { reducers }] of this.#said) {
      const names = differing(reducers, this.#states.get(size)!);
      if (names.length === 0) continue;
      wrong.set(size, `the state of ${names.join(', ')} at entry ${size} is not what the log says it was`);
    }
    return wrong;
  }
}
