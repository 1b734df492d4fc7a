import { isDeepStrictEqual } from 'node:util';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { EventBody } from '../../ledger/lines/events.ts';
import type { DurableLog } from '../../ledger/log/durable-log.ts';
import type { Base } from '../../ledger/snapshots/snapshot.ts';
import { applyEntry, initialState, type MeshState, parsedEntry } from '../../ledger/state/state.ts';
import { SuperfleetError } from '../../protocol/errors.ts';

type Said = EventBody<'log.snapshot'>;

/**
 * The state that a copy of the log gives. One that began at a snapshot is the word of whoever sent it, until an entry under
 * a signed root names it, or the log has been replayed from its first entry.
 */
export class Replayed {
  #state: MeshState = initialState();
  /** What the state was taken from, until the log has named it. */
  #unnamed: Said | null = null;
  /** There is a state at all: not where it began at one that is not right. */
  #has = true;

  get state(): MeshState {
    return this.#state;
  }

  /** It is what the log's entries give. */
  get isProved(): boolean {
    return this.#has && this.#unnamed === null;
  }

  beginAt({ state, body }: Base): void {
    this.#state = state ?? initialState();
    this.#has = state !== null;
    this.#unnamed = body;
  }

  /**
   * Applies entries that follow. Where the log names another state than the one it began at, or cannot follow it, there is no
   * state any more, and the answer is why.
   */
  take(entries: Iterable<Entry>): SuperfleetError | null {
    for (const entry of entries) {
      if (!this.#has) return null;
      const taken = this.#unnamed;
      if (taken === null) applyEntry(this.#state, entry, parsedEntry(entry));
      else if (!this.#follows(entry, taken)) {
        this.#has = false;
        this.#state = initialState();
        return differs(taken);
      }
    }
    return null;
  }

  /** The state from all of the log, which must begin at entry 0; whoever appends meanwhile calls `take` as always. */
  async replay(log: DurableLog): Promise<void> {
    this.#has = false;
    const state = initialState();
    for (let next = 0; next < log.size; ) {
      for await (const entry of log.entries(next)) {
        applyEntry(state, entry, parsedEntry(entry));
        next = entry.index + 1;
      }
    }
    this.#state = state;
    this.#has = true;
    this.#unnamed = null;
  }

  /** Applies an entry to a state that the log has not named yet. */
  #follows(entry: Entry, taken: Said): boolean {
    try {
      applyEntry(this.#state, entry, parsedEntry(entry));
    } catch {
      return false;
    }
    const said = entry.type === 'log.snapshot' ? (entry.body as Said) : null;
    if (said?.size !== taken.size) return true;
    const isSame = isDeepStrictEqual(said, taken);
    if (isSame) this.#unnamed = null;
    return isSame;
  }
}

const differs = ({ size }: Said): SuperfleetError =>
  new SuperfleetError(
    'SF_NOT_PROVED',
    `the state at entry ${size}, which this replica was sent, is not the one that the log names`,
    {
      hint:
        'The state was thrown away and is made from the first entry on when all entries are here. ' +
        'Whoever sent it lies, or its disk is damaged: mesh-hub ledger verify, there.',
    },
  );
