import { SuperfleetError } from '../../protocol/errors.ts';
import type { Entry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import { differing, type Snapshot, stateDigests } from '../snapshots/snapshot.ts';
import { announcedSize } from '../snapshots/snapshot-announced.ts';
import { findSnapshot, type PassedOver } from '../snapshots/snapshot-find.ts';
import type { SnapshotStore } from '../snapshots/snapshot-store.ts';
import { defaultBounds, type StateBounds } from '../state/reducer.ts';
import { applyEntry, initialState, type MeshState, parsedEntry } from '../state/state.ts';
import type { LogStorage } from '../storage/storage.ts';
import { openBase, startAt } from './beginning.ts';
import type { ChainState } from './chain.ts';
import type { DurableLog } from './durable-log.ts';
import type { ScanOptions, ScanStart } from './scan.ts';

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
  begins: ChainState | null;
  onBatch: NonNullable<ScanOptions['onBatch']>;
}

/**
 * Opens a log at its newest snapshot that holds, and replays what follows as it is read; without one, all of it. Either
 * way gives the same state (promise 9). A snapshot that the log speaks against is removed and the one before taken. Throws
 * what `open` throws, and `SF_LOG_DAMAGED` where an entry cannot follow what is before it.
 *
 * A log that begins at the snapshot in `base` is opened there, if the log itself says that its state is the right one: else
 * there is nothing that the state could be replayed from (`SF_NOT_PROVED`).
 */
export async function restart<L extends DurableLog>(
  storage: LogStorage,
  store: SnapshotStore,
  open: (at: RestartAt) => Promise<L>,
  bounds: StateBounds = defaultBounds,
  base?: SnapshotStore,
): Promise<Restarted<L>> {
  const begun = base === undefined ? null : await openBase(base, undefined, bounds);
  const begins = begun?.chain ?? null;
  const first = begun?.body.size ?? 0;
  const contradictions: string[] = [];
  for (;;) {
    const newest = await findSnapshot(storage, store, { first, bounds });
    const { passedOver } = newest;
    // What is replayed changes the state: each time from the file.
    const begin =
      newest.found === null && base !== undefined ? await openBase(base, undefined, bounds) : null;
    if (begin?.state === null) throw unproved(first, undefined);
    const found = newest.found ?? (begin && { ...begin, ...startAt(begin.chain), state: begin.state });
    const spared = found?.body.size ?? 0;
    // Else the newest that the log speaks of is the one that was found.
    const unknown = found === null || passedOver.length > 0;
    const announced = unknown ? await announcedSize(storage) : null;
    const replay = new Replay(found, initialState(bounds), announced);
    const log = await open({ from: found, begins, onBatch: (entries) => replay.take(entries) });
    const wrong = replay.contradictions();
    if (begin !== null && (wrong.has(first) || !replay.saidOf(first))) {
      await log.close();
      throw unproved(first, wrong.get(first));
    }
    contradictions.push(...wrong.values());
    if (found === null || !wrong.has(spared)) {
      return { log, state: replay.state, spared, passedOver, contradictions };
    }
    await log.close();
    await store.remove(spared);
  }
}

const unproved = (first: number, wrong: string | undefined): SuperfleetError =>
  new SuperfleetError(
    'SF_NOT_PROVED',
    wrong ?? `nothing in the log says what the state at entry ${first} was`,
    {
      expected: `an entry log.snapshot that names the state at entry ${first}, from which this log begins`,
      hint: `start it as a replica until it has fetched the entries before ${first}`,
    },
  );

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

  /** The log says what the state was there. */
  saidOf(size: number): boolean {
    return this.#said.has(size);
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
