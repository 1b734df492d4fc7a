import type { EventBody } from '../../../ledger/lines/events.ts';
import type { MemberRecord } from '../../../ledger/state/members.ts';
import { findMember } from '../../../node/views/mesh.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import type { FounderContext } from '../context.ts';
import type { LiveMember } from './live-member.ts';

/** The invite with which one machine takes the place of this member: once, as what that one is. */
export function replacing(
  ctx: FounderContext,
  invite: EventBody<'invite.created'>,
  nameOrPeer: string,
): EventBody<'invite.created'> {
  const { peer, roles, labels, owner, policy } = findMember(ctx.state.members, nameOrPeer);
  if (peer === ctx.state.mesh.founder) {
    throw new SuperfleetError('SF_CONFLICT', 'the founder cannot be replaced by an invite', {
      expected: 'another machine than the founder',
      got: nameOrPeer,
      hint: 'a founder moves with its data folder: stop it, move the folder, start it there',
    });
  }
  return {
    ...invite,
    uses: 1,
    roles,
    labels,
    owner,
    ...(policy === undefined ? {} : { policy }),
    replaces: peer,
  };
}

/**
 * The member whose place is taken now. One that is online keeps it: whoever has the token must not be able to push a
 * machine aside that works.
 */
export function requireReplaceable(ctx: FounderContext, peer: string): MemberRecord {
  const member = ctx.state.members.byPeer.get(peer)!;
  const live = ctx.live.get(peer);
  if ((live?.session ?? null) === null) {
    if (member.standing === 'active') requireMissed(ctx, member.name, live);
    return member;
  }
  throw new SuperfleetError('SF_CONFLICT', `${member.name} is online: a machine that works is not replaced`, {
    expected: `${member.name} stopped, wiped or off the network`,
    got: 'it answers',
    hint: `stop it there (mesh-node stop), or shut it out first (mesh-hub node revoke ${member.name}), then join again`,
  });
}

/** Just after a start everybody is offline to the founder: a machine that works has a lease's time to come back. */
function requireMissed(ctx: FounderContext, name: string, live: LiveMember | undefined): void {
  const heard = (live?.capacity ?? null) !== null;
  const until = live?.awaitedUntil ?? ctx.startedAt + ctx.config.leaseMs;
  if (heard || ctx.now >= until) return;
  const seconds = Math.ceil((until - ctx.now) / 1000);
  throw new SuperfleetError('SF_CONFLICT', `${name} may be on its way back: the founder has just started`, {
    expected: `${name} still offline a moment after the founder's start`,
    got: `${seconds} s are left of it`,
    hint: `join again in ${seconds} s`,
  });
}
