import type { Instance, MemberHello } from '../../../protocol/session.ts';
import { callMs, clashShownMs, clockApartMs } from '../config.ts';
import type { FounderContext, Rival } from '../context.ts';
import type { LiveMember } from './live-member.ts';

/**
 * Two machines with one identity, which is what a cloned disk makes. A newer session of the same process, or of the same
 * data folder on the same running system (one process at a time holds its lock), is a reconnect or a restart: the newest
 * wins. One from elsewhere is kept waiting while the open session is asked whether it lives. If it answers, it stays: its
 * work is under way, and a copy made later should not end it. Else the machine was reborn elsewhere, and the new one is in.
 */
export function isElsewhere(live: LiveMember, hello: MemberHello): boolean {
  const { instance } = live;
  // Older releases say nothing of themselves: their newest session wins, as it always did.
  if (live.session === null || instance === null || hello.instance === undefined) return false;
  return hello.instance.process !== instance.process && hello.instance.place !== instance.place;
}

/** Asks the open session whether it lives; the newer one waits. At most one waits. */
export function challenge(ctx: FounderContext, live: LiveMember, rival: Omit<Rival, 'until'>): void {
  if (live.rival !== null) refuse(ctx, live, live.rival);
  live.rival = { ...rival, until: ctx.now + callMs };
  ctx.send(live.peer, { type: 'call' });
}

/** The open session has spoken: who waits is another machine with its identity. */
export function refuseRival(ctx: FounderContext, live: LiveMember): void {
  if (live.rival === null) return;
  refuse(ctx, live, live.rival);
  live.rival = null;
}

function refuse(ctx: FounderContext, live: LiveMember, { session, hello, address }: Rival): void {
  live.clash = { where: placeWords(hello.instance, address), at: ctx.now };
  const keeper = placeWords(live.instance, live.address);
  ctx.emit({
    type: 'close',
    after: 0,
    peer: live.peer,
    session,
    code: 'SF_CONFLICT',
    message: `this identity works for the mesh on another machine, ${keeper}, which keeps it`,
    disconnect: true,
  });
}

/** For the operator; null where no other machine showed itself of late. */
export function clashWarning(ctx: FounderContext, live: LiveMember | undefined, name: string): string | null {
  if (live === undefined || live.clash === null || ctx.now - live.clash.at > clashShownMs) return null;
  const keeper = placeWords(live.instance, live.address);
  return `two machines have the identity of ${name}: ${keeper} keeps it, ${live.clash.where} is refused; there, join anew with an empty data folder: mesh-node join TOKEN --dir PATH`;
}

function placeWords(instance: Instance | null | undefined, address: string | null): string {
  const host = instance?.host ?? 'a host without a name';
  return address === null ? host : `${host} (${address})`;
}

/** What a member's wall clock says, for the operator: nothing is decided by it. */
export function clockOf(ctx: FounderContext, live: LiveMember, time: number | undefined): void {
  if (time !== undefined) live.aheadMs = Math.round(time - ctx.clock.time);
}

/** For the operator; null where the clocks agree, or the member is not heard. */
export function clockWarning(live: LiveMember | undefined, name: string): string | null {
  if (live === undefined || live.session === null || live.aheadMs === null) return null;
  const apartMs = Math.abs(live.aheadMs);
  if (apartMs <= clockApartMs) return null;
  const side = live.aheadMs > 0 ? 'ahead of' : 'behind';
  return `the clock of ${name} is ${wordsOf(apartMs)} ${side} the founder's: set the one that is wrong (timedatectl set-ntp true); leases and receipts do not depend on it, the expiry of invites is by the founder's`;
}

/** Such as `2 h 5 min`. */
function wordsOf(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return [hours > 0 ? `${hours} h` : '', rest > 0 || hours === 0 ? `${rest} min` : '']
    .filter(Boolean)
    .join(' ');
}
