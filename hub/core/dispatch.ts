import type { MemberRecord } from '../../ledger/state/members.ts';
import { isHalted } from '../../ledger/state/mesh.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { assign } from './assign.ts';
import { noteHeld, ringHasRoom } from './capacity.ts';
import { type FounderContext, freeSlots, type LiveMember } from './context.ts';
import { endOverdue } from './deadlines.ts';
import { mismatch, score, unavailable } from './fit.ts';
import { releaseHeld } from './holds.ts';
import { converge, settle } from './lifecycle.ts';
import { declinedByOwner } from './owner-terms.ts';
import { type Bucket, type Need, needOf, type Queued } from './queue.ts';
import { starved } from './replicas.ts';
import { offersModel } from './requirements.ts';
import { giveToVerifiers } from './verifiers.ts';

/**
 * Gives out what can be given now: results to verifiers first, since they free what waits for them, then tasks,
 * the first submitted first. Called after every input that may have changed something, and by the tick.
 */
export function dispatch(ctx: FounderContext, ticking: boolean): void {
  endOverdue(ctx);
  releaseHeld(ctx);
  ctx.queue.wake(ctx.now);
  if (isHalted(ctx.state.mesh) || ctx.now < ctx.settledAt || starved(ctx)) return;
  giveToVerifiers(ctx, ticking);
  giveUpUnfit(ctx);
  if (ctx.queue.buckets.size === 0) {
    noteHeld(ctx, false);
    return;
  }
  const full = new Set<Bucket>();
  while (ringHasRoom(ctx) && anyRoom(ctx)) {
    const next = firstFitting(ctx, full);
    if (next === null) {
      noteHeld(ctx, false);
      return;
    }
    const [queued, live] = next;
    ctx.queue.remove(queued.id);
    const task = ctx.task(queued.id);
    // Frozen since it was queued: it goes aside, so that it holds up no other.
    if (ctx.plugins.park(ctx, task) !== null) settle(ctx, task);
    else assign(ctx, task, live, 'execute');
  }
  // A look at what could run costs as much as a decision: the tick is soon enough for it.
  if (ticking && !ringHasRoom(ctx) && anyRoom(ctx)) noteHeld(ctx, firstFitting(ctx, full) !== null);
}

function anyRoom(ctx: FounderContext): boolean {
  for (const live of ctx.live.values()) if (live.session !== null && freeSlots(live) > 0) return true;
  return false;
}

/** The earliest task that some member can take now. Buckets that nobody fits are skipped until the fleet changes. */
function firstFitting(ctx: FounderContext, full: Set<Bucket>): [Queued, LiveMember] | null {
  let best: [Queued, LiveMember] | null = null;
  for (const bucket of ctx.queue.buckets.values()) {
    if (bucket.barrenIn === ctx.fleet || full.has(bucket)) continue;
    const head = ctx.queue.head(bucket);
    if (head === null || (best !== null && head.number > best[0].number)) continue;
    const live = chooseExecutor(ctx, bucket, head);
    if (live !== null) best = [head, live];
    else full.add(bucket);
  }
  return best;
}

function chooseExecutor(ctx: FounderContext, bucket: Bucket, queued: Queued): LiveMember | null {
  if (bucket.need.secrets.some((name) => !ctx.secrets.has(name))) return null;
  const able = fitting(ctx, bucket);
  if (able.length === 0) {
    bucket.barrenIn = ctx.fleet;
    return null;
  }
  const task = ctx.task(queued.id);
  const fits = able.filter(({ peer }) => ctx.plugins.hold(ctx, task, peer) === null);
  const fresh = fits.filter((live) => !bucket.need.avoid.includes(live.peer));
  const anyway = ctx.now >= (fresh.length === 0 ? queued.sameMemberAt : queued.anyMemberAt);
  const repository = task.spec.repository?.id ?? null;
  const founder = ctx.state.mesh.founder;
  // A machine with the model itself goes before one that would ask another's.
  const own = ({ capacity }: LiveMember): boolean => capacity !== null && offersModel(bucket.need, capacity);
  const first = (members: LiveMember[]): LiveMember | null =>
    (bucket.need.model === null ? null : best(members.filter(own), repository, founder)) ??
    best(members, repository, founder);
  return first(fresh) ?? (anyway ? first(fits) : null);
}

/** Members online now that can execute what a bucket asks, busy ones among them. */
function fitting(ctx: FounderContext, { need }: Pick<Bucket, 'need'>): LiveMember[] {
  const fits: LiveMember[] = [];
  for (const live of ctx.live.values()) {
    const member = ctx.member(live.peer);
    if (member === null || unavailable(member, live) !== null) continue;
    if (unfit(ctx, need, live, member) === null) fits.push(live);
  }
  return fits;
}

const unfit = (
  ctx: FounderContext,
  need: Need,
  live: LiveMember | undefined,
  member: MemberRecord,
): string | null =>
  mismatch(need, member, live, ctx.labelsGiven(member.peer), ctx.lentTo(member.peer)) ??
  declinedByOwner(ctx, need, live);

function best(members: LiveMember[], repository: string | null, founder: string | null): LiveMember | null {
  let chosen: { live: LiveMember; score: number } | null = null;
  for (const live of members) {
    if (freeSlots(live) <= 0) continue;
    const mark = score(live, repository, founder);
    const tie = chosen !== null && mark === chosen.score;
    const earlier = tie && live.assignedAt < chosen!.live.assignedAt;
    if (chosen === null || mark < chosen.score || earlier) chosen = { live, score: mark };
  }
  return chosen?.live ?? null;
}

/**
 * Ends queued tasks for which every machine that is asked for lacks something, and says what. A member that may come
 * back within its grace, or has not had the time to since the founder started, is waited for.
 */
export function giveUpUnfit(ctx: FounderContext): void {
  for (const id of ctx.troubled) {
    const task = ctx.task(id);
    const outlook = task.state === 'queued' ? outlookOf(ctx, task) : 'gone';
    if (outlook === 'gone') ctx.troubled.delete(id);
    if (outlook !== 'hopeless') continue;
    ctx.troubled.delete(id);
    const lacking = task.attempts.findLast(
      ({ end }) => end?.kind === 'ended' && end.reason === 'environment',
    );
    const end = lacking?.end?.kind === 'ended' ? lacking.end : task.lastEnd;
    const { detail = null, exitCode = null, receipt = null } = end ?? {};
    converge(ctx, task, { state: 'failed', reason: 'environment', detail, exitCode, receipt });
  }
}

/** `hopeless`: members fit, all of them lack what it needs. `hopeful`: one does not, or may still come. */
function outlookOf(ctx: FounderContext, task: TaskRecord): 'hopeful' | 'hopeless' {
  const need = needOf(task);
  let lacking = false;
  for (const member of ctx.state.members.byPeer.values()) {
    if (member.standing !== 'active' || !member.roles.includes('worker')) continue;
    const live = ctx.live.get(member.peer);
    if (unfit(ctx, { ...need, unfit: [] }, live, member) !== null) continue;
    if (need.unfit.includes(member.peer)) {
      lacking = true;
      continue;
    }
    const awaitedUntil = live?.awaitedUntil ?? ctx.startedAt + ctx.config.leaseMs;
    const online = live !== undefined && live.session !== null;
    const rests = online && live.backOff?.until != null;
    if (online ? rests || unavailable(member, live) === null : ctx.now < awaitedUntil) return 'hopeful';
  }
  return lacking ? 'hopeless' : 'hopeful';
}
