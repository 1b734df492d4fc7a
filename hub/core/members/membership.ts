import type { Actor, EventBody } from '../../../ledger/lines/events.ts';
import { type MemberRecord, resolveMember } from '../../../ledger/state/members.ts';
import type { NodeObject } from '../../../node/api/objects.ts';
import { findMember, formerMember } from '../../../node/views/mesh.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { invitesMax, membersMax } from '../../../protocol/limits.ts';
import { priorityOf } from '../../../protocol/schedule.ts';
import type { FailureReason, Fault } from '../../../protocol/task.ts';
import { nodeObject } from '../answers/views.ts';
import type { FounderContext } from '../context.ts';
import { endLease, settle } from '../lifecycle.ts';
import type { Operation } from '../types.ts';
import { countSuccess } from './back-off.ts';
import type { LiveMember } from './live-member.ts';
import { replacing, requireReplaceable } from './replace.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** Makes an invite known by the hash of its secret. */
export function createInvite(ctx: FounderContext, by: Actor, operation: Of<'invite.create'>): object {
  const { invite: asked, replace } = operation;
  const invite = replace === undefined ? asked : replacing(ctx, asked, replace);
  const { invites } = ctx.state;
  if (invites.has(invite.invite)) throw new SuperfleetError('SF_EXISTS', 'there is such an invite already');
  const live = [...invites.values()].filter((one) => one.expiresAt > ctx.clock.time);
  if (live.length >= invitesMax) {
    throw new SuperfleetError('SF_FULL', 'too many invites are live', { expected: `at most ${invitesMax}` });
  }
  ctx.append({ type: 'invite.created', body: { ...invite, by } });
  const { expiresAt, uses, roles, labels, owner, policy = null } = invite;
  return { expiresAt, uses, roles, labels, owner, policy };
}

/**
 * Lets a machine in, by an invite or a person's word. A member that asks again is answered with what it is, and
 * uses nothing up. A name that no person chose may get a suffix; the answer says so. One that a person chose and that is
 * taken is `SF_EXISTS`. One that takes another's place gets its name, and the other is shut out with the same step.
 */
export function admit(ctx: FounderContext, by: Actor, operation: Of<'member.admit'>): NodeObject {
  const { peer, via } = operation;
  const known = ctx.state.members.byPeer.get(peer);
  if (known?.standing === 'active') return nodeObject(ctx, known);
  if (known?.standing === 'revoked') {
    throw new SuperfleetError('SF_REVOKED', 'this machine was revoked, and its key is refused for good');
  }
  if (known?.standing === 'rejected' && via.kind === 'invite' && by.kind !== 'local') {
    throw new SuperfleetError('SF_REJECTED', 'a person refused this machine', {
      hint: 'the operator may approve it',
    });
  }
  const grant =
    via.kind === 'invite'
      ? usableInvite(ctx, via.secretHash)
      : { roles: via.roles, labels: {}, owner: null, policy: undefined, replaces: undefined };
  // Those who have a name are those who are members now.
  if (ctx.state.members.byName.size >= membersMax) {
    throw new SuperfleetError('SF_FULL', 'the mesh has no room for another member', {
      expected: `at most ${membersMax}`,
    });
  }
  const replaced = grant.replaces === undefined ? null : requireReplaceable(ctx, grant.replaces);
  if (replaced === null && operation.exact === true) requireFreeName(ctx, operation.name);
  if (replaced?.standing === 'active') shutOut(ctx, by, replaced, peer);
  const name = freeName(ctx, replaced?.name ?? operation.name);
  const body: EventBody<'member.admitted'> = {
    peer,
    name,
    owner: grant.owner ?? operation.owner ?? name,
    roles: grant.roles,
    labels: grant.labels,
    ...(grant.policy === undefined ? {} : { policy: grant.policy }),
    via:
      via.kind === 'invite'
        ? { kind: 'invite', invite: via.secretHash }
        : { kind: 'approval', code: via.code },
    by,
  };
  ctx.append({ type: 'member.admitted', body });
  if (name !== operation.name) ctx.tellName(peer);
  changed(ctx, []);
  return nodeObject(ctx, findMember(ctx.state.members, peer));
}

/** Expiry is judged here, by the founder's wall clock: the one decision that rests on one (design §5). */
function usableInvite(ctx: FounderContext, hash: string) {
  const invite = ctx.state.invites.get(hash);
  if (invite === undefined) {
    throw new SuperfleetError('SF_INVITE', 'this invite is used up, or this founder never made it', {
      expected: 'an invite with a use left',
      hint: 'ask the operator for a new one: mesh-hub invite, with --uses N for N machines',
    });
  }
  if (invite.expiresAt <= ctx.clock.time) {
    throw new SuperfleetError('SF_INVITE', 'the invite has expired', {
      expected: `before ${new Date(invite.expiresAt).toISOString()}`,
      hint: 'ask the operator for a new one',
    });
  }
  return invite;
}

function requireFreeName(ctx: FounderContext, name: string): void {
  const holder = ctx.state.members.byName.get(name);
  if (holder === undefined) return;
  const online = (ctx.live.get(holder)?.session ?? null) !== null;
  throw new SuperfleetError('SF_EXISTS', `the name ${name} is taken by another machine of this mesh`, {
    expected: 'a name that no member has',
    got: `${name}, which is ${holder} (${online ? 'online' : 'offline'})`,
    hint: `choose another with --name, or rename that one on the founder: mesh-hub node rename ${name} NEW-NAME`,
  });
}

/** The name, or with the first free suffix `-2`, `-3` …; at most 63 characters. */
function freeName(ctx: FounderContext, name: string): string {
  const { byName } = ctx.state.members;
  let free = name;
  for (let count = 2; byName.has(free); count += 1) {
    const suffix = `-${count}`;
    free = name.slice(0, 63 - suffix.length) + suffix;
  }
  return free;
}

export function reject(ctx: FounderContext, by: Actor, { peer, name }: Of<'member.reject'>): object {
  if (ctx.member(peer) !== null) {
    throw new SuperfleetError('SF_CONFLICT', `${peer} is a member`, { hint: 'revoke it instead' });
  }
  if (ctx.state.members.byPeer.get(peer)?.standing !== 'revoked') {
    ctx.append({ type: 'member.rejected', body: { peer, name, by } });
  }
  return { id: peer, name };
}

/** Draining lets what runs go on and gives nothing new. Who makes it eligible says besides that its faults are mended. */
export function setEligible(ctx: FounderContext, by: Actor, operation: Of<'member.eligible'>): NodeObject {
  const member = requireMember(ctx, operation.member);
  const { eligible, deadlineMs } = operation;
  const evictAt = deadlineMs === undefined ? undefined : Math.floor(ctx.clock.time) + deadlineMs;
  // Drained again with a deadline, or without, it is that which counts.
  if (member.eligible !== eligible || (!eligible && member.evictAt !== evictAt)) {
    const deadline = evictAt === undefined ? {} : { evictAt };
    ctx.append({ type: 'member.eligibility', body: { peer: member.peer, eligible, ...deadline, by } });
    ctx.fleet += 1;
  }
  if (eligible) countSuccess(ctx, member.peer);
  return nodeObject(ctx, member);
}

/** Takes away what still runs on a drained member after its deadline: neither the task's fault nor the machine's. */
export function evictDrained(ctx: FounderContext, { peer, leases }: LiveMember): void {
  const evictAt = ctx.member(peer)?.evictAt;
  if (evictAt === undefined || ctx.clock.time < evictAt || leases.size === 0) return;
  for (const key of [...leases]) {
    const lease = ctx.leases.get(key)!;
    // What has ended and is only being fetched is no work any more.
    if (lease.pending !== null) continue;
    const detail = 'the machine is drained, and its deadline has passed';
    endLease(ctx, lease, { fault: 'person', reason: 'refused', detail, cancel: 'superseded' });
  }
}

/** Another name for a member, from now on: its old one is free. It is told, at once or when it comes back. */
export function rename(ctx: FounderContext, by: Actor, operation: Of<'member.rename'>): NodeObject {
  const { name } = operation;
  const member = requireMember(ctx, operation.member);
  if (member.name === name) return nodeObject(ctx, member);
  requireFreeName(ctx, name);
  ctx.append({ type: 'member.renamed', body: { peer: member.peer, name, by } });
  ctx.tellName(member.peer);
  // Owners may accept what it sends by its name.
  ctx.pool.forget();
  changed(ctx, []);
  return nodeObject(ctx, member);
}

/** Cancels its leases at once, closes its connections, and refuses its key for good. */
export function revoke(
  ctx: FounderContext,
  by: Actor,
  { member: which, reason }: Of<'member.revoke'>,
): NodeObject {
  const member = requireMember(ctx, which);
  requireNotFounder(ctx, member.peer);
  ctx.append({ type: 'member.revoked', body: { peer: member.peer, reason, by } });
  depart(ctx, member.peer, 'the member was revoked', 'SF_REVOKED');
  return nodeObject(ctx, member);
}

/** Another machine takes its place: what it held is lost and goes elsewhere. */
function shutOut(ctx: FounderContext, by: Actor, { peer }: MemberRecord, successor: string): void {
  ctx.append({ type: 'member.revoked', body: { peer, reason: `replaced by ${successor}`, by } });
  depart(ctx, peer, 'the machine was replaced', 'SF_REVOKED', { fault: 'machine', reason: 'lost' });
}

/** A member goes by itself, or the operator lets it go; it may be admitted again. */
export function leave(ctx: FounderContext, by: Actor, { peer }: Of<'member.leave'>): object {
  const member = requireMember(ctx, peer);
  requireNotFounder(ctx, member.peer);
  ctx.append({ type: 'member.left', body: { peer: member.peer, by } });
  depart(ctx, member.peer, 'the member left the mesh', 'SF_REFUSED');
  return { id: member.peer, name: member.name };
}

function depart(
  ctx: FounderContext,
  peer: string,
  detail: string,
  code: string,
  ending: { fault: Fault; reason: FailureReason } = { fault: 'person', reason: 'refused' },
): void {
  ctx.fleet += 1;
  const live = ctx.live.get(peer);
  if (live !== undefined) {
    for (const key of [...live.leases]) {
      const lease = ctx.leases.get(key)!;
      endLease(ctx, lease, { ...ending, detail, cancel: 'revoked' });
    }
    if (live.session !== null) {
      ctx.emit({ type: 'close', after: 0, peer, session: live.session, code, message: detail });
    }
    if (live.rival !== null) {
      ctx.emit({ type: 'close', after: 0, peer, session: live.rival.session, code, message: detail });
    }
    ctx.live.delete(peer);
  }
  for (const [key, late] of ctx.late) if (late.peer === peer) ctx.late.delete(key);
  changed(ctx, [peer]);
}

const changed = (ctx: FounderContext, removed: string[]): void => {
  ctx.fleet += 1;
  ctx.memberSince = ctx.state.mesh.size;
  ctx.emit({ type: 'membership', after: 0, removed });
};

function requireMember(ctx: FounderContext, nameOrPeer: string) {
  const member = resolveMember(ctx.state.members, nameOrPeer);
  if (member !== null) return member;
  const former = ctx.state.members.byPeer.get(nameOrPeer) ?? formerMember(ctx.state.members, nameOrPeer);
  if (former !== null && former.standing !== 'rejected') {
    throw new SuperfleetError('SF_CONFLICT', `${former.name} is no member any more`, {
      expected: 'a member',
      got: former.standing,
      hint: 'mesh-hub node list',
    });
  }
  throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${nameOrPeer}`, {
    hint: 'mesh-hub node list',
  });
}

function requireNotFounder(ctx: FounderContext, peer: string): void {
  if (peer !== ctx.state.mesh.founder) return;
  throw new SuperfleetError('SF_CONFLICT', 'the founder cannot leave its own mesh', {
    hint: 'to end the mesh: mesh-node leave on the other machines, then mesh-hub stop here',
  });
}

export function setSecret(ctx: FounderContext, by: Actor, name: string): object {
  ctx.append({ type: 'secret.set', body: { name, by } });
  return { name };
}

export function removeSecret(ctx: FounderContext, by: Actor, name: string): object {
  if (!ctx.state.secrets.has(name)) throw new SuperfleetError('SF_NOT_FOUND', `there is no secret ${name}`);
  ctx.append({ type: 'secret.removed', body: { name, by } });
  return { name };
}

/** Every open task once, after a start: what a crash cut off between two entries is done now. Whoever goes first enters its group first. */
export function settleAll(ctx: FounderContext): void {
  const open = [...ctx.state.tasks.open].map((id) => ctx.task(id));
  open.sort((one, other) => priorityOf(other.schedule) - priorityOf(one.schedule));
  for (const task of open) settle(ctx, task);
}
