import type { MemberRecord } from '../../ledger/state/members.ts';
import type { FounderContext } from './context.ts';
import { labelsOf, mismatch, unavailable } from './fit.ts';
import { Heap } from './heap.ts';
import { freeSlots, type LiveMember, type MemberWatch } from './live-member.ts';
import { declinedByOwner } from './owner-terms.ts';
import { defaultNamesSenders } from './policy-default.ts';
import type { Bucket, BucketWatch, Need } from './queue.ts';

/** Which of a profile's members goes first: the less loaded, then the one that waited longest. */
interface Mark {
  load: number;
  since: number;
}
const lighter = (one: Mark, other: Mark): boolean =>
  one.load === other.load ? one.since < other.since : one.load < other.load;

/** Members between which no task that waits can tell, but for their load. */
export interface Profile {
  key: string;
  /** Any of them. */
  sample: string;
  members: Set<string>;
  /** Those with a free slot. */
  free: number;
  /** The same in their order; what a member is no more is skipped. */
  order: Heap<Standing, Mark>;
  /** Buckets whose tasks its members can execute. */
  buckets: Set<Bucket>;
}

/** A member's place in its profile as it was last looked at; an older one counts no more. */
interface Standing {
  peer: string;
  profile: Profile;
  mark: Mark;
  free: boolean;
}

/** Members looked at in one profile before it is passed over: those that a single task may not be given to come first there at worst. */
const TRIES_MAX = 64;
/** Profiles compared for one task: the best of so many is near enough to the best. */
const PROFILES_MAX = 64;
/** Members looked at again with each tick, whatever was told of them. */
const LOOKED_AGAIN = 16;

const NONE: readonly string[] = [];

/**
 * Members that can be given something now, by what they are like, and which queued tasks they fit; so that a decision looks
 * neither at all tasks nor at all members. Profiles stand to members as HTCondor's autoclusters do to jobs: members that have
 * the same of everything that a task can ask for are compared by load only.
 */
export class Pool implements MemberWatch, BucketWatch {
  readonly #profiles = new Map<string, Profile>();
  readonly #standing = new Map<string, Standing>();
  readonly #changed = new Set<string>();
  readonly #loaded = new Set<string>();
  /** By bucket: profiles that it fits and that have somebody free. */
  readonly #open = new Map<Bucket, Set<Profile>>();
  readonly #fitting = new Map<Bucket, Set<Profile>>();
  /** Buckets pinned to one member, by its name or id as it was asked for. */
  readonly #pinned = new Map<string, Set<Bucket>>();
  /** Members with a free slot that hold a repository. */
  readonly #holders = new Map<string, Set<string>>();
  readonly #holding = new Map<string, readonly string[]>();
  /** Members with a free slot, in no order. */
  readonly free: string[] = [];
  /** Where each of them stands in it. */
  readonly #listed = new Map<string, number>();
  /** Buckets that may be given out: something has changed for them since none of their tasks could be. */
  readonly ready = new Set<Bucket>();
  /** Rises whenever a member gets a free slot, or may do more than before. */
  news = 0;
  #made: Bucket[] = [];
  #stale = false;
  #labelsVersion = 0;
  #again: Iterator<string> = [][Symbol.iterator]();

  changed(peer: string): void {
    this.#changed.add(peer);
  }

  loaded(peer: string): void {
    this.#loaded.add(peer);
  }

  made(bucket: Bucket): void {
    this.#fitting.set(bucket, new Set());
    this.#open.set(bucket, new Set());
    const { on } = bucket.need;
    if (on !== null) this.#pinned.set(on, (this.#pinned.get(on) ?? new Set()).add(bucket));
    this.#made.push(bucket);
  }

  gone(bucket: Bucket): void {
    for (const profile of this.#fitting.get(bucket) ?? []) profile.buckets.delete(bucket);
    this.#fitting.delete(bucket);
    this.#open.delete(bucket);
    this.ready.delete(bucket);
    const { on } = bucket.need;
    const pinned = on === null ? undefined : this.#pinned.get(on);
    pinned?.delete(bucket);
    if (on !== null && pinned?.size === 0) this.#pinned.delete(on);
  }

  stirred(bucket: Bucket): void {
    this.ready.add(bucket);
  }

  /** Takes up what has changed since the last call. `ticking`: some members are looked at again besides. */
  refresh(ctx: FounderContext, ticking: boolean): void {
    // What one member may do hangs on what others were given: labels of the operator's, models lent.
    const { labelsVersion } = ctx;
    if (this.#stale || this.#labelsVersion !== labelsVersion) {
      this.#labelsVersion = labelsVersion;
      this.#clear(ctx);
    }
    if (ticking) this.#lookAgain(ctx);
    for (const peer of this.#changed) this.#reprofile(ctx, peer);
    for (const peer of this.#loaded) {
      if (!this.#changed.has(peer)) this.#reload(ctx, peer);
    }
    this.#changed.clear();
    this.#loaded.clear();
    const made = this.#made;
    this.#made = [];
    for (const bucket of made) {
      if (!this.#fitting.has(bucket)) continue;
      for (const profile of this.#profiles.values()) this.#match(ctx, bucket, profile);
    }
  }

  /** Everything is looked at anew with the next `refresh`. */
  forget(): void {
    this.#stale = true;
  }

  #clear(ctx: FounderContext): void {
    this.#stale = false;
    this.#profiles.clear();
    this.#standing.clear();
    this.#listed.clear();
    this.free.length = 0;
    this.#made = [...ctx.queue.buckets.values()];
    for (const bucket of this.#made) {
      this.#fitting.set(bucket, new Set());
      this.#open.set(bucket, new Set());
    }
    for (const peer of ctx.live.keys()) this.#changed.add(peer);
  }

  /** Whether any member that fits the bucket has a free slot; of one that is pinned to a member it is not known. */
  isOpen(bucket: Bucket): boolean {
    return bucket.need.on !== null || (this.#open.get(bucket)?.size ?? 0) > 0;
  }

  /** Members that could take tasks of the bucket were they free, but for those named. */
  countFitting(bucket: Bucket, but: ReadonlySet<string>): number {
    let count = 0;
    for (const { members } of this.#fitting.get(bucket) ?? []) {
      count += members.size;
      for (const peer of but) if (members.has(peer)) count -= 1;
    }
    return count;
  }

  /** Members with a free slot that hold the repository. */
  *holding(repository: string): Generator<string> {
    yield* this.#holders.get(repository) ?? [];
  }

  /** Whether the member's profile fits the bucket. */
  fits(bucket: Bucket, peer: string): boolean {
    const profile = this.#standing.get(peer)?.profile;
    return profile?.buckets.has(bucket) === true;
  }

  /** Of each profile that fits the first member that will do, beginning with profiles that `prefer` says. */
  *candidates(
    bucket: Bucket,
    prefer: (sample: string) => boolean,
    will: (peer: string) => boolean,
  ): Generator<{ peer: string; preferred: boolean }> {
    let looked = 0;
    const open = [...(this.#open.get(bucket) ?? [])];
    for (const preferred of [true, false]) {
      for (const profile of open) {
        if (prefer(profile.sample) !== preferred) continue;
        if (looked >= PROFILES_MAX) return;
        looked += 1;
        const peer = this.#first(profile, will);
        if (peer !== null) yield { peer, preferred };
      }
    }
  }

  #first(profile: Profile, will: (peer: string) => boolean): string | null {
    const passed: { key: Mark; item: Standing }[] = [];
    let found: string | null = null;
    for (let tries = 0; tries < TRIES_MAX; ) {
      const top = profile.order.peek();
      if (top === undefined) break;
      const { item } = top;
      if (this.#standing.get(item.peer) !== item) {
        profile.order.pop();
        continue;
      }
      if (will(item.peer)) {
        found = item.peer;
        break;
      }
      tries += 1;
      passed.push(profile.order.pop()!);
    }
    for (const { key, item } of passed) profile.order.push(key, item);
    return found;
  }

  #lookAgain(ctx: FounderContext): void {
    for (let looked = 0; looked < LOOKED_AGAIN; looked += 1) {
      const next = this.#again.next();
      if (next.done === true) {
        this.#again = ctx.live.keys();
        return;
      }
      this.#changed.add(next.value);
    }
  }

  #reprofile(ctx: FounderContext, peer: string): void {
    const member = ctx.member(peer);
    const live = ctx.live.get(peer);
    const here = member !== null && live !== undefined && unavailable(member, live) === null;
    const key = here ? profileKey(ctx, member, live) : null;
    const standing = this.#standing.get(peer);
    if (standing !== undefined && standing.profile.key !== key) this.#leave(peer, standing);
    if (key === null) {
      this.#hold(peer, NONE);
      return;
    }
    let profile = this.#profiles.get(key);
    if (profile === undefined) {
      profile = {
        key,
        sample: peer,
        members: new Set(),
        free: 0,
        order: new Heap(lighter),
        buckets: new Set(),
      };
      this.#profiles.set(key, profile);
      this.#tellApart(ctx);
      profile.members.add(peer);
      for (const bucket of ctx.queue.buckets.values()) this.#match(ctx, bucket, profile);
    } else profile.members.add(peer);
    this.#stand(ctx, peer, live!, profile);
    // What its profile does not tell of it may have changed.
    if (!this.#standing.get(peer)!.free) return;
    for (const bucket of profile.buckets) this.ready.add(bucket);
    this.#readyPinned(ctx, peer);
  }

  #readyPinned(ctx: FounderContext, peer: string): void {
    const name = ctx.member(peer)?.name;
    for (const on of name === undefined ? [peer] : [peer, name]) {
      for (const bucket of this.#pinned.get(on) ?? []) this.ready.add(bucket);
    }
  }

  #reload(ctx: FounderContext, peer: string): void {
    const standing = this.#standing.get(peer);
    const live = ctx.live.get(peer);
    if (standing !== undefined && live !== undefined) this.#stand(ctx, peer, live, standing.profile);
  }

  #stand(ctx: FounderContext, peer: string, live: LiveMember, profile: Profile): void {
    const before = this.#standing.get(peer);
    const free = freeSlots(live) > 0;
    const mark = { load: loadOf(ctx, live), since: live.assignedAt };
    this.#hold(peer, free ? live.repositories : NONE);
    const same = before?.free === free && before.mark.load === mark.load && before.mark.since === mark.since;
    if (same && before.profile === profile) return;
    const standing = { peer, profile, mark, free };
    this.#standing.set(peer, standing);
    this.#list(peer, free);
    if (before?.free === true && before.profile === profile) profile.free -= 1;
    if (free) {
      profile.free += 1;
      profile.order.push(mark, standing);
      // Some that count no more are popped on the way; where they are many, the rest is sorted anew.
      if (profile.order.size > 2 * profile.free + 64) this.#sort(profile);
      this.news += 1;
    }
    for (const bucket of profile.buckets) {
      this.#opened(bucket, profile);
      if (free) this.ready.add(bucket);
    }
    if (free) this.#readyPinned(ctx, peer);
  }

  #list(peer: string, free: boolean): void {
    const at = this.#listed.get(peer);
    if (free === (at !== undefined)) return;
    if (free) {
      this.#listed.set(peer, this.free.length);
      this.free.push(peer);
      return;
    }
    const last = this.free.pop()!;
    this.#listed.delete(peer);
    if (last === peer) return;
    this.free[at!] = last;
    this.#listed.set(last, at!);
  }

  #sort(profile: Profile): void {
    profile.order = new Heap(lighter);
    for (const peer of profile.members) {
      const standing = this.#standing.get(peer);
      if (standing?.free === true) profile.order.push(standing.mark, standing);
    }
  }

  #leave(peer: string, { profile, free }: Standing): void {
    this.#standing.delete(peer);
    this.#list(peer, false);
    profile.members.delete(peer);
    if (free) profile.free -= 1;
    if (profile.members.size === 0) {
      this.#profiles.delete(profile.key);
      for (const bucket of profile.buckets) {
        this.#fitting.get(bucket)?.delete(profile);
        this.#open.get(bucket)?.delete(profile);
      }
      return;
    }
    if (profile.sample === peer) profile.sample = profile.members.values().next().value!;
    for (const bucket of profile.buckets) this.#opened(bucket, profile);
  }

  #match(ctx: FounderContext, bucket: Bucket, profile: Profile): void {
    const live = ctx.live.get(profile.sample);
    const member = ctx.member(profile.sample);
    if (live === undefined || member === null) return;
    if (bucket.need.on !== null || unfit(ctx, anywhere(bucket.need), live, member) !== null) return;
    profile.buckets.add(bucket);
    this.#fitting.get(bucket)?.add(profile);
    this.#opened(bucket, profile);
    if (profile.free > 0) this.ready.add(bucket);
  }

  #opened(bucket: Bucket, profile: Profile): void {
    const open = this.#open.get(bucket);
    if (profile.free > 0) open?.add(profile);
    else open?.delete(profile);
  }

  #hold(peer: string, repositories: readonly string[]): void {
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

  /** Where no owner asks who sent a task, or how long it may take, tasks that differ in this alone stand in one line. */
  #tellApart(ctx: FounderContext): void {
    let [bySender, byLength] = [defaultNamesSenders(ctx), false];
    for (const { sample } of this.#profiles.values()) {
      const capacity = ctx.live.get(sample)?.capacity;
      bySender ||= capacity?.accepts?.submitters !== undefined;
      byLength ||= capacity?.worksUntil !== undefined;
    }
    ctx.queue.tellApart({ bySender, byLength });
  }
}

/** What of a need is told by a profile; free disk is not. */
function anywhere(need: Need): Need {
  const { diskBytes: _, ...machine } = need.machine;
  return { ...need, on: null, unfit: [], machine };
}

/** Smaller is better. The founder's machine has a mesh to run besides, and where another is as good, that one is taken. */
function loadOf(ctx: FounderContext, live: LiveMember): number {
  const slots = live.capacity?.slots ?? 1;
  return (slots - freeSlots(live) + 1) / slots + (live.peer === ctx.state.mesh.founder ? 0.375 : 0);
}

/** Why a member can never execute what is asked as it is now, and as its owner has it; null: it can. */
export const unfit = (
  ctx: FounderContext,
  need: Need,
  live: LiveMember | undefined,
  member: MemberRecord,
): string | null =>
  mismatch(need, member, live, ctx.labelsGiven(member.peer), ctx.lentTo(member.peer)) ??
  declinedByOwner(ctx, need, live);

/**
 * Everything of a member that a task can ask for. What changes all the time (free disk) is asked of the member itself when it is
 * its turn.
 */
function profileKey(ctx: FounderContext, member: MemberRecord, live: LiveMember): string {
  const { capacity, features, aheadMs } = live;
  const { diskFreeBytes: _, slots: __, labels: ___, bar: ____, policy: _____, lends, ...rest } = capacity!;
  const labels = Object.entries(labelsOf(member, live, ctx.labelsGiven(member.peer))).sort();
  // Whoever lends models is lent others' only.
  const lender = lends === undefined ? null : member.peer;
  return JSON.stringify([rest, features, labels, lender, rest.worksUntil === undefined ? null : aheadMs]);
}
