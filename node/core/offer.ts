import type { Assignment, Capacity } from '../../protocol/session.ts';
import { declined, longestMs } from '../../protocol/terms.ts';
import { POLICY_DETAIL, type StoppedWhy } from './attempts.ts';
import type { Clock, MemberRestored } from './types.ts';

/** Why an assignment is not begun, as the founder is told. */
interface Refusal {
  why: StoppedWhy;
  detail: string;
}

/** What a machine offers the mesh now, and what it does not begin, whatever the founder knows of that. */
export class Offer {
  capacity: Capacity;
  ownerPaused: boolean;
  /** Why the owner's policy lets nothing run now; null: it does. */
  bar: string | null;
  meshPaused = false;
  shutdown = false;

  constructor(restored: MemberRestored) {
    this.capacity = restored.capacity;
    this.ownerPaused = restored.ownerPaused;
    this.bar = restored.bar ?? null;
  }

  /** As the founder is told. */
  get told(): Capacity {
    const stopped = this.ownerPaused || this.shutdown;
    const bar = stopped || this.bar === null ? {} : { bar: this.bar };
    return { ...this.capacity, ownerPaused: stopped || this.bar !== null, ...bar };
  }

  /** Why this is not begun while so many slots are taken; null: it may be. */
  refusal(assignment: Assignment, busy: number, clock: Clock): Refusal | null {
    return this.#closed(busy) ?? this.#declines(assignment, clock);
  }

  /** Why nothing more may be started here; null: it may. */
  #closed(busy: number): Refusal | null {
    if (this.shutdown) return { why: 'shutdown', detail: 'this machine is being stopped' };
    if (this.ownerPaused) return { why: 'owner', detail: 'the owner has paused this machine' };
    if (this.bar !== null) return { why: 'owner', detail: POLICY_DETAIL };
    if (this.meshPaused) return { why: 'paused', detail: 'the mesh is paused' };
    if (this.capacity.sandbox === null) return { why: 'refused', detail: 'there is no working sandbox here' };
    if (busy >= this.capacity.slots) return { why: 'refused', detail: 'no slot is free' };
    return null;
  }

  /** What its owner does not accept. */
  #declines({ spec, role, sender, verify }: Assignment, clock: Clock): Refusal | null {
    const { accepts, worksUntil } = this.capacity;
    const words = declined(accepts, { kind: spec.kind, sender: sender ?? null });
    if (words !== null) return { why: 'refused', detail: `this machine ${words}` };
    const runs = role === 'execute' || verify?.replica !== undefined;
    if (worksUntil === undefined || !runs || clock.time >= worksUntil) return null;
    if (clock.time + longestMs(spec) <= worksUntil) return null;
    return {
      why: 'owner',
      detail: 'its time-outs reach past the hours in which its owner lets this machine work',
    };
  }
}
