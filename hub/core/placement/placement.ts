import { resolveMember } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FounderContext } from '../context.ts';
import { freeSlots, type LiveMember } from '../members/live-member.ts';
import type { Bucket, Queued, Rank } from '../queue/queue.ts';
import { score, unavailable } from './fit.ts';
import { unfit } from './pool.ts';
import { offersModel } from './requirements.ts';
import { countIn } from './spread.ts';

/** A task that can be given out now, and to whom. */
export interface Placement {
  task: TaskRecord;
  live: LiveMember;
  rank: Rank;
}

/** Submitters of one bucket looked at where what a plugin says holds back the tasks of those before. */
const SUBMITTERS_MAX = 8;
/** Members that hold the repository already, looked at besides the best of each profile. */
const HOLDERS_MAX = 16;
/** How many more attempts of a name a place may have than the emptiest, before it is taken all the same. */
const UNEVEN_MAX = 8;

/**
 * Finds a member for the first task of a bucket, or, where a plugin holds that one, for the first of another submitter. Where there is none, notes when it is worth looking again: when somebody gets
 * free, which the pool tells; at a time; or, where a plugin or a secret holds it, with every step.
 */
export function placeFirst(ctx: FounderContext, bucket: Bucket): Placement | null {
  if (bucket.need.secrets.some((name) => !ctx.secrets.has(name))) {
    ctx.later.set(bucket, 0);
    return null;
  }
  let looked = 0;
  for (const { queued, rank } of ctx.queue.heads(bucket)) {
    looked += 1;
    const task = ctx.task(queued.id);
    const search = new Search(ctx, bucket, task);
    const live = search.find(queued);
    if (live !== null) return { task, live, rank };
    if (!search.held) return null;
    ctx.later.set(bucket, 0);
    if (looked >= SUBMITTERS_MAX) return null;
  }
  return null;
}

/** The search for an executor of one task. */
class Search {
  /** Somebody would do, were it not for a plugin. */
  held = false;
  readonly #ctx: FounderContext;
  readonly #bucket: Bucket;
  readonly #task: TaskRecord;
  readonly #unfit: ReadonlySet<string>;
  readonly #failed: ReadonlySet<string>;

  constructor(ctx: FounderContext, bucket: Bucket, task: TaskRecord) {
    this.#ctx = ctx;
    this.#bucket = bucket;
    this.#task = task;
    this.#unfit = new Set(bucket.need.unfit);
    this.#failed = new Set([...bucket.need.avoid, ...bucket.need.unfit]);
  }

  /** Those that failed it come last, and not before their time. */
  find({ sameMemberAt, anyMemberAt }: Queued): LiveMember | null {
    const fresh = this.#best(this.#failed);
    if (fresh !== null || this.#failed.size === this.#unfit.size) return fresh;
    const at = this.#others() ? anyMemberAt : sameMemberAt;
    if (this.#ctx.now >= at) return this.#best(this.#unfit);
    this.#ctx.later.set(this.#bucket, at);
    this.#ctx.alarms.add(at);
    return null;
  }

  /** Whether there is anybody, busy or not, that has not failed it. */
  #others(): boolean {
    const { on } = this.#bucket.need;
    if (on === null) return this.#ctx.pool.countFitting(this.#bucket, this.#failed) > 0;
    const peer = resolveMember(this.#ctx.state.members, on)?.peer;
    return peer !== undefined && !this.#failed.has(peer);
  }

  #best(but: ReadonlySet<string>): LiveMember | null {
    const { spread } = this.#bucket.need;
    if (spread === null) return this.#bestWhere((peer) => this.#will(peer, but));
    const count = (peer: string): number => countIn(this.#ctx, spread, peer);
    const most = spread.strict ? 0 : UNEVEN_MAX;
    let least = Number.POSITIVE_INFINITY;
    for (let allowed = 0; allowed <= most; allowed += 1) {
      const found = this.#bestWhere((peer) => {
        const running = count(peer);
        least = Math.min(least, running);
        return running <= allowed && this.#will(peer, but);
      });
      if (found !== null) return found;
      if (least === Number.POSITIVE_INFINITY) return null;
      // Where all of them have some, it is the emptiest that is filled first.
      allowed = Math.max(allowed, least - 1);
    }
    return spread.strict ? null : this.#bestWhere((peer) => this.#will(peer, but));
  }

  /** The best of those that will do: with the model itself, else with the repository, else with the least to do. */
  #bestWhere(will: (peer: string) => boolean): LiveMember | null {
    const ctx = this.#ctx;
    const repository = this.#task.spec.repository?.id ?? null;
    let best: { live: LiveMember; own: boolean; score: number } | null = null;
    const look = (peer: string, own: boolean): void => {
      const live = ctx.live.get(peer)!;
      const mark = score(live, repository, ctx.state.mesh.founder);
      const equal = best !== null && own === best.own && mark === best.score;
      const better =
        best === null ||
        (own !== best.own ? own : equal ? live.assignedAt < best.live.assignedAt : mark < best.score);
      if (better) best = { live, own, score: mark };
    };
    for (const peer of this.#holders(repository)) if (will(peer)) look(peer, this.#own(peer));
    for (const { peer, preferred } of this.#candidates(will)) look(peer, preferred);
    return (best as { live: LiveMember } | null)?.live ?? null;
  }

  *#candidates(will: (peer: string) => boolean): Generator<{ peer: string; preferred: boolean }> {
    const { on } = this.#bucket.need;
    if (on === null) {
      yield* this.#ctx.pool.candidates(this.#bucket, (sample) => this.#own(sample), will);
      return;
    }
    const peer = resolveMember(this.#ctx.state.members, on)?.peer;
    if (peer !== undefined && will(peer)) yield { peer, preferred: this.#own(peer) };
  }

  *#holders(repository: string | null): Generator<string> {
    const { pool } = this.#ctx;
    if (repository === null || this.#bucket.need.on !== null) return;
    let looked = 0;
    for (const peer of pool.holding(repository)) {
      if (pool.fits(this.#bucket, peer)) yield peer;
      looked += 1;
      if (looked >= HOLDERS_MAX) return;
    }
  }

  /** A machine with the model itself goes before one that would ask another's. */
  #own(peer: string): boolean {
    const capacity = this.#ctx.live.get(peer)?.capacity ?? null;
    return capacity !== null && offersModel(this.#bucket.need, capacity);
  }

  /** Whether it can be given to this member now: asked of the member itself, whatever the index said. */
  #will(peer: string, but: ReadonlySet<string>): boolean {
    const ctx = this.#ctx;
    if (but.has(peer)) return false;
    const member = ctx.member(peer);
    const live = ctx.live.get(peer);
    if (member === null || live === undefined || freeSlots(live) <= 0) return false;
    if (unavailable(member, live) !== null) return false;
    if (unfit(ctx, { ...this.#bucket.need, unfit: [] }, live, member) !== null) return false;
    if (ctx.plugins.hold(ctx, this.#task, peer) === null) return true;
    this.held = true;
    return false;
  }
}
