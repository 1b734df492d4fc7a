import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { FounderContext } from '../context.ts';
import type { LiveMember } from '../members/live-member.ts';
import { Heap } from '../queue/heap.ts';
import type { Bucket, Need } from '../queue/queue.ts';
import { labelsOf } from './fit.ts';

/** Which of a profile's members goes first: the less loaded, then the one that waited longest. */
interface Mark {
  load: number;
  since: number;
}
const lighter = (one: Mark, other: Mark): boolean =>
  one.load === other.load ? one.since < other.since : one.load < other.load;

/** A member's place in its profile as it was last looked at; an older one counts no more. */
export interface Standing {
  peer: string;
  profile: Profile;
  mark: Mark;
  free: boolean;
}

/** Members looked at in one profile before it is passed over: those that a single task may not be given to come first there at worst. */
const TRIES_MAX = 64;

/** Members between which no task that waits can tell, but for their load. */
export class Profile {
  readonly key: string;
  /** Any of them. */
  sample: string;
  readonly members = new Set<string>();
  /** Those with a free slot. */
  free = 0;
  /** Buckets whose tasks its members can execute. */
  readonly buckets = new Set<Bucket>();
  readonly #standing: ReadonlyMap<string, Standing>;
  /** Those with a free slot in their order; what a member is no more is skipped. */
  #order = new Heap<Standing, Mark>(lighter);

  /** `standing`: how each member stands now. */
  constructor(key: string, sample: string, standing: ReadonlyMap<string, Standing>) {
    this.key = key;
    this.sample = sample;
    this.#standing = standing;
  }

  /** Takes one with a free slot into the order, as it stands now. */
  enter(standing: Standing): void {
    this.free += 1;
    this.#order.push(standing.mark, standing);
    // Some that count no more are popped on the way; where they are many, the rest is sorted anew.
    if (this.#order.size > 2 * this.free + 64) this.#sort();
  }

  /** The first in the order that will do; null: none of those looked at. */
  first(will: (peer: string) => boolean): string | null {
    const passed: { key: Mark; item: Standing }[] = [];
    let found: string | null = null;
    for (let tries = 0; tries < TRIES_MAX; ) {
      const top = this.#order.peek();
      if (top === undefined) break;
      const { item } = top;
      if (this.#standing.get(item.peer) !== item) {
        this.#order.pop();
        continue;
      }
      if (will(item.peer)) {
        found = item.peer;
        break;
      }
      tries += 1;
      passed.push(this.#order.pop()!);
    }
    for (const { key, item } of passed) this.#order.push(key, item);
    return found;
  }

  #sort(): void {
    this.#order = new Heap(lighter);
    for (const peer of this.members) {
      const standing = this.#standing.get(peer);
      if (standing?.free === true) this.#order.push(standing.mark, standing);
    }
  }
}

/**
 * Everything of a member that a task can ask for. What changes all the time (free disk) is asked of the member itself when it is
 * its turn.
 */
export function profileKey(ctx: FounderContext, member: MemberRecord, live: LiveMember): string {
  const { capacity, features, aheadMs } = live;
  const { diskFreeBytes: _, slots: __, labels: ___, bar: ____, policy: _____, lends, ...rest } = capacity!;
  const labels = Object.entries(labelsOf(member, live, ctx.labelsGiven(member.peer))).sort();
  // Whoever lends models is lent others' only.
  const lender = lends === undefined ? null : member.peer;
  return JSON.stringify([rest, features, labels, lender, rest.worksUntil === undefined ? null : aheadMs]);
}

/** What of a need is told by a profile; free disk is not. */
export function anywhere(need: Need): Need {
  const { diskBytes: _, ...machine } = need.machine;
  return { ...need, on: null, unfit: [], machine };
}
