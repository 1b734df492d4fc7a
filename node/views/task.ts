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
import { TERMINAL_STATES } from '../../protocol/task.ts';
import type { Party, TaskDetail, TaskObject } from '../api/objects.ts';

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
    confidence: converged?.confidence ?? confidenceOf(task),
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
  const { accepted, verification, converged } = task;
  if (converged?.state !== 'delivered' || accepted === null) return null;
  const by = converged.verified ? verification?.member : accepted.member;
  const member = members.byPeer.get(by ?? '');
  if (member?.quarantined === undefined) return null;
  const { name, quarantined } = member;
  const rests = converged.verified ? `only ${name} verified it` : `nobody verified what ${name} made`;
  return `${rests}, which is in quarantine: ${quarantined.why}`;
}

export function taskView(state: Known, task: TaskRecord): TaskAnswer {
  const { accepted, verification, converged, lastEnd } = task;
  const failed = accepted === null ? lastEnd : null;
  return {
    ...taskObject(state, task),
    rerunOf: task.rerunOf,
    doubt: doubtOf(state, task),
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
