import type { MemberRecord } from '../../ledger/state/members.ts';
import type { AttemptRecord, TaskRecord } from '../../ledger/state/task-record.ts';
import type {
  MeshObject,
  NodeObject,
  NodeState,
  Party,
  TaskDetail,
  TaskObject,
} from '../../node/api/objects.ts';
import { CONFIDENCE, TERMINAL_STATES } from '../../protocol/task.ts';
import type { FounderContext } from './context.ts';
import { labelsOf, unavailable } from './fit.ts';
import { lagOf } from './replicas.ts';

/** The task with all that a person or program may want of it: the contract's fields, and what more is known. */
export interface TaskAnswer extends TaskDetail {
  /** Blobs of the signed receipt and verification. */
  envelope: string | null;
  verification: { digest: string; envelope: string; passed: boolean; detail: string | null } | null;
  rerunOf: string | null;
  applied: TaskRecord['applied'];
  /** The newest attempts, both roles, oldest first. */
  history: AttemptRecord[];
}

const party = (ctx: FounderContext, peer: string | null): Party | null =>
  peer === null ? null : { id: peer, name: ctx.state.members.byPeer.get(peer)?.name ?? null };

/** The contract's fields. Null is what is not known or does not apply. */
export function taskObject(ctx: FounderContext, task: TaskRecord): TaskObject {
  const { accepted, verification, converged, spec } = task;
  const open = task.attempts.findLast((attempt) => attempt.end === null);
  const running = open?.role === 'execute' ? open.member : null;
  const verifying = open?.role === 'verify' ? open.member : null;
  const ended = TERMINAL_STATES.has(task.state);
  const last = ended ? task.lastEnd : null;
  const commit = accepted?.commit ?? null;
  return {
    id: task.id,
    kind: spec.kind,
    state: task.state,
    reason: converged?.reason ?? null,
    verified: converged?.verified ?? task.state === 'verified',
    confidence: converged?.confidence ?? confidenceSoFar(task),
    executor: party(ctx, accepted?.member ?? running ?? last?.member ?? null),
    verifier: party(ctx, verification?.member ?? verifying),
    sameOwner: verification?.sameOwner ?? null,
    attempts: task.executions,
    base: spec.repository?.base ?? null,
    branch: commit === null ? null : `mesh/${task.id}`,
    commit,
    exitCode: accepted?.exitCode ?? last?.exitCode ?? null,
    receipt: accepted?.receipt ?? last?.receipt ?? null,
    submitter: task.by,
    correlation: task.correlation,
    submittedAt: task.submittedAt,
    finishedAt: task.finishedAt,
  };
}

/** A result nobody else has looked at is a proposal; without a result there is nothing to be confident of. */
function confidenceSoFar(task: TaskRecord): number | null {
  if (task.accepted === null) return null;
  if (task.state === 'verified') return CONFIDENCE.verified;
  return task.spec.checks.length === 0 ? CONFIDENCE.noChecks : CONFIDENCE.ownChecks;
}

export function taskView(ctx: FounderContext, task: TaskRecord): TaskAnswer {
  const { accepted, verification, converged, lastEnd } = task;
  const failed = accepted === null ? lastEnd : null;
  return {
    ...taskObject(ctx, task),
    detail: converged?.detail ?? lastEnd?.detail ?? null,
    spec: task.spec,
    bundle: accepted?.bundle ?? null,
    baseBundle: (task.spec.repository && ctx.state.repositories.get(task.spec.repository.base)) ?? null,
    log: accepted?.log ?? failed?.log ?? null,
    artifacts: accepted?.artifacts ?? [],
    checksChanged: accepted?.checksChanged ?? [],
    envelope: accepted?.envelope ?? failed?.envelope ?? null,
    verification:
      verification === null
        ? null
        : {
            digest: verification.verification,
            envelope: verification.envelope,
            passed: verification.passed,
            detail: verification.detail,
          },
    rerunOf: task.rerunOf,
    applied: task.applied,
    // A copy: the answer waits for the disk while the record goes on.
    history: task.attempts.map((attempt) => ({ ...attempt })),
  };
}

function nodeState(ctx: FounderContext, member: MemberRecord): NodeState {
  const live = ctx.live.get(member.peer);
  if (member.standing === 'revoked') return 'revoked';
  if (live === undefined || live.session === null) return 'offline';
  if (!member.eligible) return 'draining';
  return live.capacity?.ownerPaused || ctx.state.mesh.paused ? 'paused' : 'online';
}

/** One machine as members of the mesh see it. Figures are of its newest hello; 0 slots: none was heard yet. */
export function nodeObject(ctx: FounderContext, member: MemberRecord): NodeObject {
  const live = ctx.live.get(member.peer);
  const capacity = live?.capacity ?? null;
  return {
    id: member.peer,
    name: member.name,
    owner: member.owner,
    roles: member.roles,
    state: nodeState(ctx, member),
    code: null,
    slots: { used: (live?.leases.size ?? 0) + (live?.stopping.size ?? 0), total: capacity?.slots ?? 0 },
    models: capacity?.models ?? [],
    tools: capacity?.tools ?? {},
    labels: labelsOf(member, live, ctx.labelsGiven(member.peer)),
    limits: capacity?.limits ?? null,
    policy: capacity?.policy ?? null,
    work: member.standing === 'active' ? (unavailable(member, live) ?? 'takes tasks') : null,
    lag: lagOf(ctx, member),
  };
}

/** Members, and those revoked; who left or was refused is in the log only. */
export function nodeObjects(ctx: FounderContext): NodeObject[] {
  const shown = [...ctx.state.members.byPeer.values()].filter(
    ({ standing }) => standing === 'active' || standing === 'revoked',
  );
  return shown.map((member) => nodeObject(ctx, member));
}

/** `size` and `root` are of the newest durable checkpoint; root is empty until there was one. */
export function meshObject(ctx: FounderContext): MeshObject {
  const { mesh, members, tasks } = ctx.state;
  const active = [...members.byPeer.values()].filter((member) => member.standing === 'active');
  const online = active.filter((member) => (ctx.live.get(member.peer)?.session ?? null) !== null);
  let total = 0;
  for (const member of online) total += ctx.live.get(member.peer)?.capacity?.slots ?? 0;
  let running = 0;
  for (const lease of ctx.leases.values()) if (lease.role === 'execute') running += 1;
  let executed = 0;
  for (const { role } of ctx.leases.values()) if (role === 'verify') executed += 1;
  const awaiting = ctx.unverified.size + ctx.parked.size + executed;
  return {
    mesh: ctx.mesh,
    name: mesh.genesis?.name ?? '',
    epoch: ctx.epoch,
    founder: mesh.founder ?? '',
    size: ctx.durable === null ? mesh.size : ctx.durable.index + 1,
    root: ctx.durable?.root ?? '',
    paused: mesh.paused,
    nodes: { online: online.length, total: active.length },
    slots: { used: ctx.leases.size, total },
    queue: {
      queued: ctx.queue.size,
      running: Math.max(running, tasks.open.size - ctx.queue.size - awaiting),
    },
    warnings: [],
  };
}
