import type { Actor } from '../../../ledger/lines/events.ts';
import type { Overview, UnreachedObject } from '../../../node/api/objects.ts';
import { meshObject } from '../answers/views.ts';
import type { FounderContext } from '../context.ts';
import { endLease, settle } from '../lifecycle.ts';
import type { LiveMember } from './live-member.ts';

/** A member that was told to stop what it runs, and has not said that all of it is gone. */
export interface Stopping {
  /** Leases that were open at the pause, and whose end it has not told. */
  keys: Set<string>;
  /** By then (monotonic) it has stopped by itself: it has had no word from here for a whole lease. */
  until: number;
}

/**
 * The kill switch: nothing is given out or delivered, everything that runs is told to stop, and goes back to the queue. With
 * `drain` what runs may finish; where everything was stopped already that stays so.
 */
export function pause(ctx: FounderContext, by: Actor, drain = false): object {
  const { mesh } = ctx.state;
  if (drain) {
    if (!mesh.paused && mesh.draining !== true) ctx.append({ type: 'mesh.draining', body: { by } });
  } else if (!mesh.paused) {
    ctx.append({ type: 'mesh.paused', body: { by } });
    for (const { peer } of ctx.live.values()) ctx.send(peer, { type: 'pause' });
    for (const lease of [...ctx.leases.values()]) {
      // What has ended and is only being fetched is no work any more.
      if (lease.pending !== null) continue;
      noteStopping(ctx, lease.member, lease.key);
      endLease(ctx, lease, {
        fault: 'person',
        reason: 'refused',
        detail: 'the mesh was paused',
        cancel: 'paused',
      });
    }
  }
  return meshObject(ctx);
}

export function resume(ctx: FounderContext, by: Actor): object {
  const { mesh } = ctx.state;
  const { paused } = mesh;
  if (paused || mesh.draining === true) {
    ctx.append({ type: 'mesh.resumed', body: { by } });
    ctx.fleet += 1;
    // Nobody was asked meanwhile: who could not be had before may be there now, or soon.
    for (const waiting of ctx.unverified.values()) waiting.aloneSince = null;
  }
  if (paused) {
    for (const { peer } of ctx.live.values()) ctx.send(peer, { type: 'resume' });
    // What came in meanwhile was kept back.
    for (const id of [...ctx.state.tasks.open]) settle(ctx, ctx.task(id));
  }
  return meshObject(ctx);
}

function noteStopping(ctx: FounderContext, peer: string, key: string): void {
  const live = ctx.liveMember(peer);
  const until = Math.max(live.heardAt, live.leasedAt, live.assignedAt) + ctx.config.leaseMs;
  const stopping = ctx.pausing.get(peer) ?? { keys: new Set(), until };
  // What an earlier pause still waits for says nothing of what was begun since.
  stopping.until = Math.max(stopping.until, until);
  stopping.keys.add(key);
  ctx.pausing.set(peer, stopping);
}

/** A member says that this attempt is gone, or that it does not have it. */
export function noteGone(ctx: FounderContext, peer: string, key: string): void {
  const stopping = ctx.pausing.get(peer);
  if (stopping?.keys.delete(key) === true && stopping.keys.size === 0) ctx.pausing.delete(peer);
}

/** It has come back and holds no more than this. */
export function noteHolds(ctx: FounderContext, { peer }: LiveMember, held: ReadonlySet<string>): void {
  for (const key of ctx.pausing.get(peer)?.keys ?? []) if (!held.has(key)) noteGone(ctx, peer, key);
}

/** Members that may still run what the pause stopped, those that take longest first. */
export function unreachedOf(ctx: FounderContext): UnreachedObject[] {
  const unreached: UnreachedObject[] = [];
  for (const [peer, { keys, until }] of ctx.pausing) {
    if (ctx.now >= until) {
      ctx.pausing.delete(peer);
      continue;
    }
    const name = ctx.state.members.byPeer.get(peer)?.name ?? peer;
    unreached.push({ id: peer, name, attempts: keys.size, within: Math.ceil(until - ctx.now) });
  }
  return unreached.sort((a, b) => b.within - a.within);
}

export const unreachedNeeds = (ctx: FounderContext): Overview['needs'] =>
  unreachedOf(ctx).map(({ name, attempts, within }) => ({
    what: `${name} has not said that it stopped ${attempts === 1 ? '1 attempt' : `${attempts} attempts`}: it stops by itself within ${Math.ceil(within / 1000)} s`,
    command: null,
  }));
