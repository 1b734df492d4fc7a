import type { Actor } from '../../../ledger/lines/events.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { AttemptRole } from '../../../protocol/session.ts';
import { type Asked, declined, longestMs } from '../../../protocol/terms.ts';
import type { FounderContext } from '../context.ts';
import type { LiveMember } from '../members/live-member.ts';
import { declinedByMesh } from '../members/policy-default.ts';

/** What of a task the owner of a machine may decline. */
export interface OwnersAsk {
  taskKind: string;
  by: Actor;
  /**
   * How long an attempt may take by its time-outs, in ms; 0 for a verification, which is short where its checks are, unless it is
   * to run the command itself.
   */
  longestMs: number;
}

export const ownersAskOf = (
  { spec, by, schedule }: Pick<TaskRecord, 'spec' | 'by' | 'schedule'>,
  role: AttemptRole,
): OwnersAsk => ({
  taskKind: spec.kind,
  by,
  longestMs: role === 'execute' || schedule?.replicas !== undefined ? longestMs(spec) : 0,
});

/** Whoever sent a task as owners name him: a member by its name, an account of the founder's machine by that. */
export function senderOf(ctx: FounderContext, by: Actor): string | null {
  if (by.kind === 'local') return by.user;
  const peer = by.kind === 'peer' ? by.peer : ctx.state.mesh.founder;
  return (peer === null ? undefined : ctx.state.members.byPeer.get(peer)?.name) ?? null;
}

/**
 * Why the owner of a machine, or the mesh's default, does not let it be given this, as its capacity says; null: it may be. A machine whose clock
 * says that its hours end before the time-outs do is not given what could be cut off; it refuses that besides.
 */
export function declinedByOwner(
  ctx: FounderContext,
  ask: OwnersAsk,
  live: LiveMember | undefined,
): string | null {
  const capacity = live?.capacity ?? null;
  if (live === undefined || capacity === null) return null;
  const { accepts, worksUntil } = capacity;
  const asked: Asked = { kind: ask.taskKind, sender: senderOf(ctx, ask.by) };
  const words = declinedByMesh(ctx, asked, live) ?? declined(accepts, asked);
  if (words !== null) return words;
  if (worksUntil === undefined) return null;
  const leftMs = worksUntil - (ctx.clock.time + (live.aheadMs ?? 0));
  if (leftMs <= 0 || ask.longestMs <= leftMs) return null;
  const minutes = (ms: number): number => Math.ceil(ms / 60_000);
  return `works for ${minutes(leftMs)} min more, and the time-outs of the task add up to ${minutes(ask.longestMs)} min`;
}
