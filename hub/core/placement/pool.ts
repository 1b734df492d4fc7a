import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { FounderContext } from '../context.ts';
import { freeSlots, type LiveMember, type MemberWatch } from '../members/live-member.ts';
import { defaultNamesSenders } from '../members/policy-default.ts';
import type { Bucket, BucketWatch, Need } from '../queue/queue.ts';
import { mismatch, score, unavailable } from './fit.ts';
import { Holders } from './holders.ts';
import { declinedByOwner } from './owner-terms.ts';
import { anywhere, Profile, profileKey, type Standing } from './profile.ts';

/** Profiles compared for one task: the best of so many is near enough to the best. */
const PROFILES_MAX = 64;
/** Members looked at again with each tick, whatever was told of them. */
const LOOKED_AGAIN = 16;

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
  /** Of members with a free slot. */
  readonly #holders = new Holders();
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
  holding(repository: string): Iterable<string> {
    return this.#holders.of(repository);
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
        const peer = profile.first(will);
        if (peer !== null) yield { peer, preferred };
      }
    }
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
      this.#holders.set(peer);
      return;
    }
    let profile = this.#profiles.get(key);
    if (profile === undefined) {
      profile = new Profile(key, peer, this.#standing);
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
    const mark = { load: score(live, null, ctx.state.mesh.founder), since: live.assignedAt };
    this.#holders.set(peer, free ? live.repositories : undefined);
    const same = before?.free === free && before.mark.load === mark.load && before.mark.since === mark.since;
    if (same && before.profile === profile) return;
    const standing = { peer, profile, mark, free };
    this.#standing.set(peer, standing);
    this.#list(peer, free);
    if (before?.free === true && before.profile === profile) profile.free -= 1;
    if (free) {
      profile.enter(standing);
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

/** Why a member can never execute what is asked as it is now, and as its owner has it; null: it can. */
export const unfit = (
  ctx: FounderContext,
  need: Need,
  live: LiveMember | undefined,
  member: MemberRecord,
): string | null =>
  mismatch(need, member, live, ctx.labelsGiven(member.peer), ctx.lentTo(member.peer)) ??
  declinedByOwner(ctx, need, live);
