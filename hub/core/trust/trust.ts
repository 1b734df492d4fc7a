import type { Actor } from '../../../ledger/lines/events.ts';
import { activeMembers, type MemberRecord, resolveMember } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { isTrusted, lotOf, trustedAfter, trustRecord } from '../../../ledger/state/trust.ts';
import type { NodeObject, TrustObject } from '../../../node/api/objects.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { nodeObject } from '../answers/views.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import { draw, endLease } from '../lifecycle.ts';
import { quarantineWords } from '../placement/fit.ts';
import type { Operation } from '../types.ts';
import { mustVerify } from './agree.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** A result of a trusted member is verified at least so often, however long its record. */
const samplingFloor = 0.1;

/**
 * Of the parties that the owner rule allows, those that may verify a result of this executor (design §6): a new member is checked
 * by the founder or a trusted member. Where nobody of these could ever be asked, as long as the mesh has nobody who is trusted
 * and the founder's machine takes no work, any other party is better than none; what it says makes nobody trusted.
 */
export function vouching(ctx: FounderContext, executor: string, parties: MemberRecord[]): MemberRecord[] {
  const trust = ctx.state.trust;
  const able = parties.filter(({ quarantined }) => quarantined === undefined);
  if (isTrusted(trust, executor)) return able;
  const trusted = able.filter((member) => isTrusted(trust, member.peer) && takesWork(ctx, member));
  return trusted.length > 0 ? trusted : able;
}

/** A machine that was drained, or told to offer no slots, never verifies: nobody waits for it. */
export const takesWork = (ctx: FounderContext, { peer, eligible }: MemberRecord): boolean =>
  eligible && ctx.live.get(peer)?.capacity?.slots !== 0;

/** Its word was proved wrong: it is given nothing more, and what it holds goes elsewhere. The founder's own machine is the operator's. */
export function quarantine(
  ctx: FounderContext,
  peer: string,
  of: { task: string; attempt: number },
  why: string,
): void {
  const member = ctx.state.members.byPeer.get(peer);
  if (member === undefined || member.quarantined !== undefined || peer === ctx.state.mesh.founder) return;
  // One that has left before it was found out may come back; who was revoked does not.
  if (member.standing !== 'active' && member.standing !== 'left') return;
  const { task, attempt } = of;
  ctx.append({ type: 'member.quarantined', body: { peer, task, attempt, why: why.slice(0, 512) } });
  ctx.fleet += 1;
  ctx.again.stale = true;
  const detail = 'the member was quarantined';
  for (const key of [...(ctx.live.get(peer)?.leases ?? [])]) {
    const lease = ctx.leases.get(key);
    if (lease !== undefined)
      endLease(ctx, lease, { fault: 'person', reason: 'refused', detail, cancel: 'superseded' });
  }
}

/** A verifier found the accepted result invalid: where its word counts, the executor's was proved wrong. */
export function foundInvalid(
  ctx: FounderContext,
  verifier: LiveLease,
  executor: string,
  detail: string | null,
): void {
  if (!isTrusted(ctx.state.trust, verifier.member)) return;
  const { task, attempt } = verifier.lease;
  const name = ctx.member(verifier.member)?.name ?? verifier.member;
  const why = `${name} found a result of it invalid: ${detail ?? 'no detail'}`;
  quarantine(ctx, executor, { task, attempt }, why);
}

/**
 * Whether the accepted result is to be verified, by a lot that is drawn once and logged: null, or why it was left out. Only where the
 * operator switched sampling on, of members with a long valid record, and never where the task asks to be verified.
 */
export function leftOut(ctx: FounderContext, task: TaskRecord): string | null {
  const { accepted, id, correlation } = task;
  if (accepted === null || mustVerify(task)) return null;
  const trust = ctx.state.trust;
  const { member, attempt } = accepted;
  if (lotOf(trust, id, attempt) === null) {
    const { valid } = trustRecord(trust, member);
    if (!trust.sampling || member === trust.founder || !isTrusted(trust, member)) return null;
    const probability = samplingProbability(valid);
    const verify = draw(ctx) < probability;
    const body = { task: id, attempt, correlation, member, valid, probability, verify };
    ctx.append({ type: 'task.sampled', body });
  }
  if (lotOf(trust, id, attempt)?.verify !== false) return null;
  const name = ctx.state.members.byPeer.get(member)?.name ?? member;
  return `unverified: not drawn for verification, which is by sample for ${name} after its ${trustRecord(trust, member).valid} valid results in a row`;
}

/** How often results of a member with so many valid ones in a row are verified. */
export const samplingProbability = (valid: number): number =>
  Math.max(samplingFloor, 1 / Math.max(1, valid - trustedAfter + 1));

/** Why this member is not asked to verify what another does; null: it may be. Of a party by the owner rule. */
export function barredFromVerifying(
  ctx: FounderContext,
  executor: string,
  member: MemberRecord,
  parties: MemberRecord[],
): string | null {
  if (member.quarantined !== undefined) return quarantineWords(member.quarantined);
  if (parties.includes(member) || !member.roles.includes('worker')) return null;
  // The founder's word counts: what keeps it away is told by whoever asks further.
  if (isTrusted(ctx.state.trust, member.peer)) return null;
  const { valid } = trustRecord(ctx.state.trust, member.peer);
  const whose = ctx.state.members.byPeer.get(executor)?.name ?? executor;
  return `is not trusted yet (${valid} of ${trustedAfter} valid results in a row), and ${whose} is not either`;
}

/** A person's word: quarantine ends; `vouched`: it counts as one with a long valid record. */
export function trustMember(
  ctx: FounderContext,
  by: Actor,
  { member: which, vouched }: Of<'member.trust'>,
): NodeObject {
  const member = resolveMember(ctx.state.members, which);
  if (member === null)
    throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${which}`, {
      hint: 'mesh-hub node list',
    });
  const trusted = isTrusted(ctx.state.trust, member.peer);
  if (member.quarantined !== undefined || (vouched && !trusted)) {
    ctx.append({ type: 'member.trusted', body: { peer: member.peer, vouched, by } });
    ctx.fleet += 1;
    ctx.again.stale = true;
  }
  return nodeObject(ctx, member);
}

export function setSampling(ctx: FounderContext, by: Actor, on: boolean): TrustObject {
  if (ctx.state.trust.sampling !== on) ctx.append({ type: 'trust.sampling', body: { on, by } });
  return showTrust(ctx);
}

/** What the log says of the trust in each member. */
export function showTrust(ctx: FounderContext): TrustObject {
  const trust = ctx.state.trust;
  const active = activeMembers(ctx.state.members);
  return {
    sampling: trust.sampling,
    trustedAfter,
    members: active.map(({ peer, name, quarantined }) => {
      const { valid, invalid, quarantined: since } = trustRecord(trust, peer);
      const trusted = isTrusted(trust, peer);
      const founder = peer === trust.founder;
      const sampled = trust.sampling && trusted && !founder;
      return {
        id: peer,
        name,
        founder,
        trusted,
        valid,
        invalid,
        /** How often its next result is verified. */
        verifies: sampled ? samplingProbability(valid) : 1,
        quarantined:
          quarantined === undefined || since === null
            ? null
            : { since, task: quarantined.task, why: quarantined.why },
      };
    }),
  };
}
