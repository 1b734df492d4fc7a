import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { isTrusted } from '../../../ledger/state/trust.ts';
import { verifierFaultsMax, verifierWaitMs } from '../config.ts';
import type { FounderContext, Waiting } from '../context.ts';
import { deliver, draw } from '../lifecycle.ts';
import { freeSlots, type LiveMember } from '../members/live-member.ts';
import { assign } from '../placement/assign.ts';
import { ringHasRoom } from '../placement/capacity.ts';
import { unavailable, verifierMismatch } from '../placement/fit.ts';
import { declinedByOwner, ownersAskOf } from '../placement/owner-terms.ts';
import { apart, mustVerify, replicaMismatch, secretMissing } from './agree.ts';
import { leftOut, takesWork, vouching } from './trust.ts';

/** Gives executed results to verifiers, and delivers unverified those that no other party can verify. */
export function giveToVerifiers(ctx: FounderContext, ticking: boolean): void {
  if (ctx.parkedIn !== ctx.fleet) {
    for (const id of ctx.parked) ctx.unverified.set(id, { aloneSince: null, aloneIn: 0, retryAt: ctx.now });
    ctx.parked.clear();
    ctx.parkedIn = ctx.fleet;
  }
  const { news } = ctx.pool;
  for (const [id, waiting] of ctx.unverified) {
    // Nobody has got free since all of them were busy.
    if (!ticking && waiting.seen === news && waiting.aloneIn === ctx.fleet) continue;
    // While nobody can be had, only the tick and a change of the fleet are news.
    const noNews = !ticking && waiting.aloneSince !== null && waiting.aloneIn === ctx.fleet;
    if (ctx.now >= waiting.retryAt && !noNews) giveToVerifier(ctx, ctx.task(id), waiting);
  }
}

function giveToVerifier(ctx: FounderContext, task: TaskRecord, waiting: Waiting): void {
  const unchecked = leftOut(ctx, task);
  if (unchecked !== null) {
    deliver(ctx, task, unchecked);
    return;
  }
  const quick = secretMissing(ctx, task) === null ? quickly(ctx, task) : 'busy';
  if (quick === 'busy') {
    waiting.aloneSince = null;
    waiting.seen = ctx.pool.news;
    waiting.aloneIn = ctx.fleet;
    return;
  }
  if (quick !== null) {
    ctx.unverified.delete(task.id);
    assign(ctx, task, quick, 'verify');
    return;
  }
  const parties = verifierParties(ctx, task);
  const verdict = noParty(task, parties);
  if (verdict !== null) {
    if (mustVerify(task)) park(ctx, task);
    else deliver(ctx, task, verdict);
    return;
  }
  const ready = parties.flatMap((member) => {
    const live = ctx.live.get(member.peer);
    return live !== undefined && unavailable(member, live) === null ? [live] : [];
  });
  if (ready.length === 0) {
    waitForParty(ctx, task, waiting);
    return;
  }
  waiting.aloneSince = null;
  const verifier = ringHasRoom(ctx) ? drawVerifier(ctx, task, ready) : null;
  if (verifier === null) {
    waiting.seen = ctx.pool.news;
    waiting.aloneIn = ctx.fleet;
    return;
  }
  ctx.unverified.delete(task.id);
  assign(ctx, task, verifier, 'verify');
}

/** Members looked at for one result before all of them are. */
const LOOKED_MAX = 32;

/**
 * Without a look at all members: one that may verify the result, drawn from those with a free slot so that each is as likely
 * as any other; or `busy`: some may, and none of them is free. Null: few looks do not tell.
 */
function quickly(ctx: FounderContext, task: TaskRecord): LiveMember | 'busy' | null {
  const executor = executorOf(ctx, task);
  if (executor === null || task.verifierFaults > 0) return null;
  if (task.schedule?.replicas !== undefined) return null;
  const { trust } = ctx.state;
  const owners = ownersOf(ctx);
  const ask = ownersAskOf(task, 'verify');
  const able = (peer: string): MemberRecord | null => {
    const member = ctx.member(peer);
    if (member === null || !member.roles.includes('worker') || member.quarantined !== undefined) return null;
    const live = ctx.live.get(peer);
    if (verifierMismatch(task, executor, owners, member, live) !== null) return null;
    return declinedByOwner(ctx, ask, live) === null ? member : null;
  };
  // As `vouching` has it.
  const byTrusted = !isTrusted(trust, executor.peer) && hasTrusted(ctx, able);
  const ready = (peer: string): LiveMember | null => {
    if (task.avoid.includes(peer) || (byTrusted && !isTrusted(trust, peer))) return null;
    const live = ctx.live.get(peer);
    const member = live === undefined ? null : able(peer);
    return member !== null && unavailable(member, live) === null ? live! : null;
  };
  const drawn = ringHasRoom(ctx) ? drawFree(ctx, ready) : 'none';
  if (drawn !== 'none') return drawn;
  let looked = 0;
  for (const peer of byTrusted ? trustedPeers(ctx) : ctx.live.keys()) {
    if (ready(peer) !== null) return 'busy';
    looked += 1;
    if (looked >= LOOKED_MAX) return null;
  }
  return null;
}

/** One of those with a free slot; `none` of them will do; null: few looks do not tell. */
function drawFree(
  ctx: FounderContext,
  ready: (peer: string) => LiveMember | null,
): LiveMember | 'none' | null {
  const { free } = ctx.pool;
  const will = (peer: string): LiveMember | null => {
    const live = ready(peer);
    return live !== null && freeSlots(live) > 0 ? live : null;
  };
  if (free.length <= LOOKED_MAX) {
    const all = free.flatMap((peer) => will(peer) ?? []);
    return all.length === 0 ? 'none' : all[Math.floor(draw(ctx) * all.length)]!;
  }
  for (let looked = 0; looked < LOOKED_MAX; looked += 1) {
    const live = will(free[Math.floor(draw(ctx) * free.length)]!);
    if (live !== null) return live;
  }
  return null;
}

function* trustedPeers({ state }: FounderContext): Generator<string> {
  const { trust } = state;
  if (trust.founder !== null) yield trust.founder;
  for (const peer of trust.members.keys()) if (peer !== trust.founder && isTrusted(trust, peer)) yield peer;
}

/** Whether anybody who is trusted may ever verify it, free or not. */
function hasTrusted(ctx: FounderContext, able: (peer: string) => MemberRecord | null): boolean {
  for (const peer of trustedPeers(ctx)) {
    const member = able(peer);
    if (member !== null && takesWork(ctx, member)) return true;
  }
  return false;
}

/** Only a change of the fleet can help it: it is not looked at before. */
function park(ctx: FounderContext, task: TaskRecord): void {
  ctx.unverified.delete(task.id);
  ctx.parked.add(task.id);
}

/** Members that may verify this result, online or not. */
export function verifierParties(ctx: FounderContext, task: TaskRecord): MemberRecord[] {
  const executor = executorOf(ctx, task);
  if (executor === null) return [];
  const owners = ownersOf(ctx);
  const ask = ownersAskOf(task, 'verify');
  const parties: MemberRecord[] = [];
  for (const member of ctx.state.members.byPeer.values()) {
    if (member.standing !== 'active' || !member.roles.includes('worker')) continue;
    const live = ctx.live.get(member.peer);
    const unfit =
      verifierMismatch(task, executor, owners, member, live) ??
      replicaMismatch(ctx, task, member) ??
      declinedByOwner(ctx, ask, live);
    if (unfit === null) parties.push(member);
  }
  return vouching(ctx, executor.peer, parties);
}

/** Who executed the accepted result, also where it is a member no more. */
export function executorOf(ctx: FounderContext, task: TaskRecord): { peer: string; owner: string } | null {
  return ctx.state.members.byPeer.get(task.accepted?.member ?? '') ?? null;
}

/** How many owners the mesh has (outside contract, owner rule). */
export function ownersOf(ctx: FounderContext): number {
  if (ctx.owners.in === ctx.membersVersion) return ctx.owners.count;
  const owners = new Set<string>();
  for (const member of ctx.state.members.byPeer.values()) {
    if (member.standing === 'active') owners.add(member.owner);
  }
  ctx.owners = { in: ctx.membersVersion, count: owners.size };
  return owners.size;
}

/** Why this result can be verified by nobody, for good; null: somebody may. */
export function noParty(task: TaskRecord, parties: MemberRecord[]): string | null {
  if (parties.length === 0) return 'unverified: the mesh has no other party that may verify it';
  if (task.verifierFaults < verifierFaultsMax) return null;
  return `unverified: ${task.verifierFaults} verifiers ended without a word on it`;
}

/** Somebody may verify it and cannot be had now: a bounded wait, unless only a verified result will do. */
function waitForParty(ctx: FounderContext, task: TaskRecord, waiting: Waiting): void {
  if (mustVerify(task)) {
    park(ctx, task);
    return;
  }
  waiting.aloneSince ??= ctx.now;
  waiting.aloneIn = ctx.fleet;
  if (ctx.now - waiting.aloneSince < verifierWaitMs) return;
  const seconds = verifierWaitMs / 1000;
  deliver(ctx, task, `unverified: no member that may verify it could be had for ${seconds} s`);
}

/** At random among those with a free slot; those that failed here before only where no other is left. */
function drawVerifier(ctx: FounderContext, task: TaskRecord, ready: LiveMember[]): LiveMember | null {
  const fresh = ready.filter((live) => !task.avoid.includes(live.peer));
  const free = apart(
    ctx,
    task,
    (fresh.length > 0 ? fresh : ready).filter((live) => freeSlots(live) > 0),
  );
  return free[Math.floor(draw(ctx) * free.length)] ?? null;
}
