import { type Memory, recalledFor } from '../../ledger/state/memory.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import {
  type AttemptRecord,
  confidenceOf,
  flakyChecks,
  openQuestion,
  type Question,
  type TaskRecord,
} from '../../ledger/state/task-record.ts';
import { CONFIDENCE, TERMINAL_STATES } from '../../protocol/task.ts';
import type { Party, ReplicasObject, ReverifiedObject, TaskDetail, TaskObject } from '../api/objects.ts';

/** What a task's names and bundles are looked up in. */
type Known = Pick<MeshState, 'members' | 'repositories' | 'plugins'>;

/** The task with all that a person or program may want of it: the contract's fields, and what more is known. */
export interface TaskAnswer extends TaskDetail {
  /** Blobs of the signed receipt and verification. */
  envelope: string | null;
  verification: { digest: string; envelope: string; passed: boolean; detail: string | null } | null;
  /** What models asked about it, oldest first. */
  questions: Question[];
  remembered: string[] | null;
  rerunOf: string | null;
  applied: TaskRecord['applied'];
  /** The newest attempts, both roles, oldest first. */
  history: AttemptRecord[];
}

const party = (state: Known, peer: string | null): Party | null =>
  peer === null ? null : { id: peer, name: state.members.byPeer.get(peer)?.name ?? null };

/** The contract's fields. Null is what is not known or does not apply. */
export function taskObject(state: Known, task: TaskRecord): TaskObject {
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
    confidence: confidenceNow(task),
    executor: party(state, accepted?.member ?? running ?? last?.member ?? null),
    verifier: party(state, verification?.member ?? verifying),
    sameOwner: verification?.sameOwner ?? null,
    attempts: task.executions,
    base: spec.repository?.base ?? null,
    branch: commit === null ? null : `mesh/${task.id}`,
    commit,
    exitCode: accepted?.exitCode ?? last?.exitCode ?? null,
    receipt: accepted?.receipt ?? last?.receipt ?? null,
    submitter: task.by,
    rerunOf: task.rerunOf,
    correlation: task.correlation,
    submittedAt: task.submittedAt,
    finishedAt: task.finishedAt,
    question: ended ? null : (openQuestion(task)?.text ?? null),
  };
}

/** Of a goal under way, or that is remembered itself. */
function recalledOf({ plugins }: Known, { by, id, spec }: TaskRecord): string[] | null {
  const memory = plugins.get('memory') as Memory | undefined;
  if (spec.kind !== 'code' || memory === undefined) return null;
  return recalledFor(memory, id, by)?.slice() ?? null;
}

/**
 * Why a delivered result may not be what it seems: the one machine whose word it rests on is in quarantine now. Null: no reason is
 * known, or there is no result.
 */
export function doubtOf({ members }: Pick<MeshState, 'members'>, task: TaskRecord): string | null {
  const { accepted, converged, reverified } = task;
  if (converged?.state !== 'delivered' || accepted === null) return null;
  const nameOf = (peer: string | null): string => members.byPeer.get(peer ?? '')?.name ?? peer ?? '';
  const isQuarantined = (peer: string): boolean => members.byPeer.get(peer)?.quarantined !== undefined;
  if (reverified?.outcome === 'contradicted' && !isQuarantined(reverified.by!)) {
    const found = reverified.detail ?? 'no detail';
    return `${nameOf(reverified.by)} verified it again, and it did not pass: ${found}`;
  }
  const by = restsOn({ members }, task);
  const member = by === null ? undefined : members.byPeer.get(by);
  if (member?.quarantined === undefined) return null;
  const { name, quarantined } = member;
  const rests = converged.verified ? `only ${name} verified it` : `nobody verified what ${name} made`;
  const tried =
    reverified?.outcome === 'unavailable' ? `; it could not be verified again: ${reverified.detail}` : '';
  return `${rests}, which is in quarantine: ${quarantined.why}${tried}`;
}

/**
 * The member on whose word alone a delivered result rests: who verified it, or who made it where nobody did. One that it was
 * verified again by counts in its place, unless that one is in quarantine itself. Null: there is no result, or a word against it.
 */
export function restsOn({ members }: Pick<MeshState, 'members'>, task: TaskRecord): string | null {
  const { accepted, verification, converged, reverified } = task;
  if (converged?.state !== 'delivered' || accepted === null) return null;
  let first = converged.verified ? (verification?.member ?? null) : accepted.member;
  // Others who came to the same vouch for it as well.
  const well = (peer: string): boolean => members.byPeer.get(peer)?.quarantined === undefined;
  if (first !== null && !well(first) && converged.verified)
    first = task.replicas?.find(({ member, agrees }) => agrees && well(member))?.member ?? first;
  if (reverified === undefined || reverified.by === null) return first;
  if (members.byPeer.get(reverified.by)?.quarantined !== undefined) return reverified.by;
  return reverified.outcome === 'confirmed' ? reverified.by : null;
}

/** What came of verifying it again, for people; null: it was not. */
export function reverifiedOf(state: Known, { reverified }: TaskRecord): ReverifiedObject | null {
  if (reverified === undefined) return null;
  const { outcome, of, by, sameOwner, detail, verification, envelope, at } = reverified;
  return {
    outcome,
    of: party(state, of)!,
    by: party(state, by),
    sameOwner,
    detail,
    verification,
    envelope,
    at,
  };
}

/** Which machines ran its command and came to the same, the executor among them; null: nobody asked for that. */
function replicasOf(state: Known, task: TaskRecord): ReplicasObject | null {
  const { accepted, replicas = [], schedule, verification } = task;
  if (schedule?.replicas === undefined) return null;
  const decided = verification === null ? [] : [{ ...verification, agrees: verification.passed }];
  const said = [...replicas, ...decided].map(({ member, agrees, detail }) => ({
    ...party(state, member)!,
    agrees,
    detail: agrees ? null : detail,
  }));
  const agreed = (accepted === null ? 0 : 1) + said.filter(({ agrees }) => agrees).length;
  return { wanted: schedule.replicas, agreed, others: said };
}

/** What is shown of it: a result that somebody found wrong since is worth no more than an unverified one. */
function confidenceNow(task: TaskRecord): number | null {
  const said = task.converged?.confidence ?? confidenceOf(task);
  if (task.reverified?.outcome !== 'contradicted' || said === null) return said;
  return Math.min(said, CONFIDENCE.ownChecks);
}

export function taskView(state: Known, task: TaskRecord): TaskAnswer {
  const { accepted, verification, converged, lastEnd } = task;
  const failed = accepted === null ? lastEnd : null;
  return {
    ...taskObject(state, task),
    rerunOf: task.rerunOf,
    doubt: doubtOf(state, task),
    reverified: reverifiedOf(state, task),
    replicas: replicasOf(state, task),
    detail: (converged === null ? lastEnd?.detail : converged.detail) ?? null,
    spec: task.spec,
    bundle: accepted?.bundle ?? null,
    baseBundle: (task.spec.repository && state.repositories.get(task.spec.repository.base)) ?? null,
    log: accepted?.log ?? failed?.log ?? null,
    artifacts: accepted?.artifacts ?? [],
    checksChanged: accepted?.checksChanged ?? [],
    flaky: flakyChecks(task).map((at) => task.spec.checks[at] ?? ''),
    schedule: task.schedule === undefined ? null : { ...task.schedule },
    continues: task.continues === undefined ? null : { ...task.continues },
    partial: task.partial === undefined ? null : { ...task.partial },
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
    questions: (task.questions ?? []).map((question) => ({ ...question })),
    remembered: recalledOf(state, task),
    applied: task.applied,
    // A copy: the answer waits for the disk while the record goes on.
    history: task.attempts.map((attempt) => ({ ...attempt })),
  };
}
