import { activeMembers, type MemberRecord } from '../../../ledger/state/members.ts';
import type { MeshObject, NodeObject, NodeState } from '../../../node/api/objects.ts';
import { memberFacts, meshFacts, shownMembers } from '../../../node/views/mesh.ts';
import type { FounderContext } from '../context.ts';
import { lagOf } from '../members/replicas.ts';
import { labelsOf, quarantineWords, unavailable } from '../placement/fit.ts';

function nodeState(ctx: FounderContext, member: MemberRecord): NodeState {
  const live = ctx.live.get(member.peer);
  if (member.standing === 'revoked') return 'revoked';
  if (live === undefined || live.session === null) return 'offline';
  if (!member.eligible) return 'draining';
  if (ctx.state.mesh.draining === true) return 'draining';
  return live.capacity?.ownerPaused || ctx.state.mesh.paused ? 'paused' : 'online';
}

/** One machine as members of the mesh see it. Figures are of its newest hello; 0 slots: none was heard yet. */
export function nodeObject(ctx: FounderContext, member: MemberRecord): NodeObject {
  const live = ctx.live.get(member.peer);
  const capacity = live?.capacity ?? null;
  return {
    ...memberFacts(member),
    state: nodeState(ctx, member),
    slots: { used: (live?.leases.size ?? 0) + (live?.stopping.size ?? 0), total: capacity?.slots ?? 0 },
    models: capacity?.models ?? [],
    tools: capacity?.tools ?? {},
    labels: labelsOf(member, live, ctx.labelsGiven(member.peer)),
    limits: capacity?.limits ?? null,
    policy: capacity?.policy ?? null,
    work: member.standing === 'active' ? (unavailable(member, live) ?? 'takes tasks') : null,
    ...(member.quarantined === undefined ? {} : { quarantined: quarantineWords(member.quarantined) }),
    lag: lagOf(ctx, member),
  };
}

/** Members, and those revoked. */
export const nodeObjects = (ctx: FounderContext): NodeObject[] =>
  shownMembers(ctx.state.members).map((member) => nodeObject(ctx, member));

/** `size` and `root` are of the newest durable checkpoint; root is empty until there was one. */
export function meshObject(ctx: FounderContext): MeshObject {
  const { mesh, members } = ctx.state;
  const active = activeMembers(members);
  const online = active.filter((member) => (ctx.live.get(member.peer)?.session ?? null) !== null);
  let total = 0;
  for (const member of online) total += ctx.live.get(member.peer)?.capacity?.slots ?? 0;
  let running = 0;
  for (const lease of ctx.leases.values()) if (lease.role === 'execute') running += 1;
  return {
    ...meshFacts(ctx.mesh, ctx.state),
    epoch: ctx.epoch,
    size: ctx.durable === null ? mesh.size : ctx.durable.index + 1,
    root: ctx.durable?.root ?? '',
    nodes: { online: online.length, total: active.length },
    slots: { used: ctx.leases.size, total },
    queue: { queued: ctx.queue.size + ctx.asking.size + ctx.held.size, running },
    warnings: [],
  };
}
