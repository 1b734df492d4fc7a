import { SuperfleetError } from '../../protocol/errors.ts';
import type { EventBody } from '../lines/events.ts';
import { LineFault } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import { openBase, startAt } from '../log/beginning.ts';
import { Chain, checkSignature } from '../log/chain.ts';
import { LogDamagedError } from '../log/damage.ts';
import { Offsets } from '../log/offsets.ts';
import { defaultBounds, type StateBounds } from '../state/reducer.ts';
import { applyEntry, initialState, parsedEntry } from '../state/state.ts';
import type { LogStorage } from '../storage/storage.ts';
import { encodeSnapshot, type Snapshot } from './snapshot.ts';
import { findSnapshot } from './snapshot-find.ts';
import { pruneSnapshots, type SnapshotStore } from './snapshot-store.ts';

export interface MakeSnapshotOptions {
  storage: LogStorage;
  store: SnapshotStore;
  /** Mesh id. */
  mesh: string;
  /** Of a durable checkpoint of the log: what is written after it is not looked at. */
  size: number;
  /** Where the snapshot is that the log begins at. @default it begins at entry 0 */
  base?: SnapshotStore;
  /** @default `defaultBounds` */
  bounds?: StateBounds;
}

/**
 * Follows the log from the newest snapshot that holds to a checkpoint, writes the snapshot of it, synced, and removes those
 * that it makes needless. Reads the segments only, so another process may be appending. Returns the body of the entry
 * that is to say so. Throws `SF_LOG_DAMAGED` where the log does not lead to that checkpoint.
 */
export async function makeSnapshot(options: MakeSnapshotOptions): Promise<EventBody<'log.snapshot'>> {
  const { storage, store, mesh, size, bounds = defaultBounds } = options;
  const begun = options.base === undefined ? null : await openBase(options.base, mesh, bounds);
  const first = begun?.body.size ?? 0;
  const { found } = await findSnapshot(storage, store, { mesh, sizeMax: size, first, bounds });
  if (found === null && begun?.state === null) {
    throw new SuperfleetError('SF_NOT_PROVED', 'the state at which the log begins is kept differently here');
  }
  const from = found ?? (begun && { ...begun, ...startAt(begun.chain), state: begun.state! });
  const follower = new Follower(storage, from, initialState(bounds));
  await follower.follow(size);
  const { body, file } = encodeSnapshot(follower.settled(mesh, size));
  await store.write(size, file);
  await pruneSnapshots(store, size);
  return body;
}

/** Reads a log on from where a snapshot ends, checks every line, and reduces it. */
class Follower {
  readonly #storage: LogStorage;
  readonly #chain: Chain;
  readonly #offsets: Offsets;
  readonly #state: Snapshot['state'];
  #genesisLine: string | null;
  /** Right after the last checkpoint. */
  #place: Snapshot['place'];

  constructor(storage: LogStorage, from: Snapshot | null, nothing: Snapshot['state']) {
    this.#storage = storage;
    this.#chain = new Chain('deferred', from?.chain);
    this.#offsets = from?.offsets ?? new Offsets();
    this.#state = from?.state ?? nothing;
    this.#genesisLine = from?.genesisLine ?? null;
    this.#place = from?.place ?? { segment: 0, offset: 0 };
  }

  /** Up to the first checkpoint of at least this size, or the end of the log. */
  async follow(size: number): Promise<void> {
    const chain = this.#chain;
    const segments = new Set(await this.#storage.list());
    while (chain.next < size && segments.has(this.#place.segment)) {
      await this.#followSegment(size);
      if (chain.next >= size || !segments.has(chain.next)) return;
      if (chain.pending > 0 || chain.next === this.#place.segment) throw this.#damaged('no checkpoint');
      this.#place = { segment: chain.next, offset: 0 };
    }
  }

  /** What `follow` came to; it must be the checkpoint of this size, signed by the key that had to sign it. */
  settled(mesh: string, size: number): Omit<Snapshot, 'body'> {
    const { settled } = this.#chain;
    const found = settled.checkpoint?.size ?? 0;
    if (settled.meshId !== mesh) throw this.#damaged(`mesh ${settled.meshId} where mesh ${mesh} must be`);
    if (found !== size)
      throw this.#damaged(`a checkpoint of size ${found} where one of size ${size} must come`);
    this.#faultless(() => checkSignature(settled));
    return {
      chain: settled,
      genesisLine: this.#genesisLine!,
      place: this.#place,
      offsets: this.#offsets,
      state: this.#state,
    };
  }

  async #followSegment(size: number): Promise<void> {
    const { segment, offset: begin } = this.#place;
    const file = await this.#storage.open(segment, 'read');
    try {
      for await (const { lines } of lineRuns(file, begin)) {
        for (const { line, offset } of lines) {
          const isCheckpoint = this.#faultless(() => this.#take(line), offset);
          if (!isCheckpoint) continue;
          this.#place = { segment, offset: offset + line.length + 1 };
          if (this.#chain.next >= size) return;
        }
      }
    } finally {
      await file.close();
    }
  }

  /** True for a checkpoint. */
  #take(line: Buffer): boolean {
    const first = this.#chain.next - this.#chain.pending;
    const parsed = this.#chain.push(line);
    if (parsed.kind === 'checkpoint') {
      this.#offsets.add({ index: first, ...this.#place });
      return true;
    }
    this.#genesisLine ??= line.toString();
    applyEntry(this.#state, parsed.entry, parsedEntry(parsed.entry));
    return false;
  }

  #faultless<T>(check: () => T, offset = this.#place.offset): T {
    try {
      return check();
    } catch (error) {
      throw error instanceof LineFault ? this.#damaged(error.message, offset, error) : error;
    }
  }

  #damaged(why: string, offset = this.#place.offset, cause?: unknown): LogDamagedError {
    const segment = this.#storage.describe(this.#place.segment);
    return new LogDamagedError({ segment, offset, index: this.#chain.next }, why, cause);
  }
}
