import * as assert from 'uvu/assert';
import type { LogEvent } from '../../ledger/lines/events.ts';
import type { Appended, Log } from '../../ledger/log/log.ts';
import { Frontier, leafHash } from '../../ledger/proofs/merkle.ts';

/**
 * What somebody outside the log handed to it and was told by it, over all its lives: the record that every log that is
 * opened later is held against.
 */
export class Outside {
  /** Body of each entry in JSON, by index; what a recovery did not find is taken off. */
  readonly #bodies: string[] = [];
  /** Root by size, as acknowledged. */
  readonly #acknowledged = new Map<number, string>();
  #life = 0;
  /** Appends that were refused after they had been taken. */
  refused = 0;

  /** Entries that somebody was told are durable. */
  get size(): number {
    return Math.max(0, ...this.#acknowledged.keys());
  }

  /** Appends and notes what is acknowledged, unless that comes from a log that is dead by then. */
  append(log: Log, events: readonly LogEvent[], time: number): Appended {
    const appended = log.append(events, time, 1);
    for (const [at, { body }] of events.entries()) {
      this.#bodies[appended.first + at] = JSON.stringify(body);
    }
    const life = this.#life;
    appended.durable.then(
      ({ size, root }) => {
        if (life !== this.#life) return;
        assert.ok(size > appended.last, `a checkpoint of size ${size} for entry ${appended.last}`);
        assert.ok(log.size >= size);
        this.#acknowledged.set(size, root);
      },
      () => {
        if (life === this.#life) this.refused += 1;
      },
    );
    return appended;
  }

  /** The process is no more; what it still says, nobody hears. */
  dies(): void {
    this.#life += 1;
  }

  /** A log that shows these entries vouches for them: from here on they count as acknowledged. */
  trusts(log: Log): void {
    this.#acknowledged.set(log.size, log.checkpoint.root);
  }

  /**
   * Fails unless the log is an exact prefix of what was appended, without a gap, with every acknowledged entry under the
   * root it was acknowledged with (promises 1, 2 and 4), and times that never fall (promise 11).
   */
  async holds(log: Log): Promise<void> {
    assert.ok(log.size >= this.size, `${log.size} entries, ${this.size} were acknowledged`);
    const frontier = new Frontier();
    let time = 0;
    for await (const entry of log.entries()) {
      assert.is(entry.index, frontier.size, 'a gap');
      assert.ok(entry.time >= time, `time ${entry.time} after ${time}`);
      time = entry.time;
      if (entry.index > 0) assert.is(JSON.stringify(entry.body), this.#bodies[entry.index]);
      frontier.append(leafHash(JSON.stringify(entry)));
      const root = this.#acknowledged.get(frontier.size);
      if (root !== undefined) assert.is(frontier.root().toString('hex'), root, `root at ${frontier.size}`);
    }
    assert.is(frontier.size, log.size);
    assert.is(frontier.root().toString('hex'), log.checkpoint.root);
    assert.is(log.next, log.size);
    this.#bodies.length = log.size;
  }
}
