import type { Schedule } from '../../protocol/schedule.ts';
import type { AttemptRole, GoalStart, ResultBlob } from '../../protocol/session.ts';
import {
  CONFIDENCE,
  type FailureReason,
  type Fault,
  type TaskSpec,
  type TaskState,
} from '../../protocol/task.ts';
import type { Actor, EventBody } from '../lines/events.ts';

/** Attempts remembered of one task; older closed ones are in the log only. Pauses can make any number. */
export const attemptsKeptMax = 64;

/** How an attempt was closed. */
export type AttemptEnd =
  | { kind: 'executed'; at: number }
  | { kind: 'verified'; at: number; passed: boolean }
  | {
      kind: 'ended';
      at: number;
      fault: Fault;
      reason: FailureReason;
      detail: string | null;
      exitCode: number | null;
      receipt: string | null;
      envelope: string | null;
      log: ResultBlob | null;
    };

/** One lease of a task to one member. `end` null: the lease is open. */
export interface AttemptRecord {
  number: number;
  role: AttemptRole;
  member: string;
  epoch: number;
  nonce: string;
  assignedAt: number;
  startedAt: number | null;
  end: AttemptEnd | null;
  /** A late result of this attempt is in the log; at most one is. */
  evidence: { receipt: string | null; envelope: string | null; why: string } | null;
  /** It verifies again what had been delivered: the member in quarantine whose word that rested on. @default it does not */
  of?: string;
}

/** What came of verifying a delivered result again. */
export type Reverified = Omit<EventBody<'task.reverified'>, 'task' | 'correlation' | 'receipt'> & {
  at: number;
};

/** The one accepted result. */
export type AcceptedResult = Omit<EventBody<'task.executed'>, 'task' | 'correlation'> & {
  member: string;
  at: number;
  /** The model that made it is not sure of it. @default false */
  lowConfidence?: true;
};
export type VerificationRecord = Omit<EventBody<'task.verified'>, 'task' | 'correlation'> & {
  member: string;
  at: number;
};

/** What a model asked in an attempt, and what a person said to it. */
export interface Question {
  attempt: number;
  text: string;
  at: number;
  answer: { text: string; by: Actor; at: number } | null;
}

/** A task as the log tells it. Times are those of the entries: informational, never decided upon. */
export interface TaskRecord {
  id: string;
  /** Submissions before it: the order of lists and of the queue. */
  number: number;
  correlation: string;
  spec: TaskSpec;
  by: Actor;
  rerunOf: string | null;
  state: TaskState;
  submittedAt: number;
  finishedAt: number | null;
  attempts: AttemptRecord[];
  /** Attempts ever made, of both roles; the next has the number `attemptCount + 1`. */
  attemptCount: number;
  /** Those of them that executed: the task's `attempts` in the outside contract. */
  executions: number;
  retriesUsed: number;
  /** Executions ended by a fault of the machine. */
  machineFaults: number;
  /** Verifications that ended without a word on the receipt, through a fault of the machine. */
  verifierFaults: number;
  /** Members whose execution or verification failed here, in order; they are tried last. */
  avoid: string[];
  /** Of these, the ones that lack what the task needs; they are not tried again. */
  unfit: string[];
  /** The last execution that ended without an accepted result. */
  lastEnd: (AttemptEnd & { kind: 'ended'; member: string }) | null;
  accepted: AcceptedResult | null;
  verification: VerificationRecord | null;
  cancelledBy: Actor | null;
  /** What models asked about it, oldest first; of these only the last may wait for its answer. @default nothing */
  questions?: Question[];
  /** What it begins with, of the task that it continues. @default the base */
  continues?: GoalStart;
  /** When and where it may run. @default at any time, anywhere */
  schedule?: Schedule;
  /** Attempts whose models refused it, oldest first. @default none */
  rejections?: { attempt: number; model: string }[];
  /** Checks that said both red and green of the same files, by attempt, oldest first. @default none */
  flaky?: { attempt: number; checks: number[] }[];
  /** What was done of the goal in the newest attempt that went no further. @default nothing */
  partial?: Omit<GoalStart, 'task'> & { attempt: number };
  /** The newest attempt whose model was not sure of what it did. @default none */
  doubted?: number;
  /** Words of machines that ran its command themselves, about the accepted result, but for the deciding one. @default none */
  replicas?: { attempt: number; member: string; agrees: boolean; detail: string | null }[];
  /** What came of verifying it again after it was delivered, the newest. @default it was not */
  reverified?: Reverified;
  converged: EventBody<'task.converged'> | null;
  applied: { commit: string; by: Actor; at: number } | null;
}

/** Attempts of a task whose lease is open: at most one of each role. */
export const openAttempt = (task: TaskRecord, role: AttemptRole): AttemptRecord | null =>
  task.attempts.find((attempt) => attempt.end === null && attempt.role === role) ?? null;

export const findAttempt = (task: TaskRecord, number: number): AttemptRecord | null =>
  task.attempts.find((attempt) => attempt.number === number) ?? null;

/** The question that a task waits to have answered, once the attempt that asked it has ended; null: it asks nothing. */
export function openQuestion(task: TaskRecord): Question | null {
  const last = task.questions?.at(-1);
  return last === undefined || last.answer !== null ? null : last;
}

/** Attempts of which it is remembered that a check was flaky. */
export const flakyKeptMax = 16;

/** Places of the checks that were seen to be flaky, in order. */
export const flakyChecks = ({ flaky = [] }: Pick<TaskRecord, 'flaky'>): number[] =>
  [...new Set(flaky.flatMap(({ checks }) => checks))].sort((a, b) => a - b);

/** How far the task's accepted result may be relied on, by convention (`CONFIDENCE`); null: there is none. */
export function confidenceOf({ state, spec, accepted, flaky = [] }: TaskRecord): number | null {
  if (accepted === null) return null;
  if (state === 'verified')
    return accepted.lowConfidence ? CONFIDENCE.verifiedLowConfidence : CONFIDENCE.verified;
  return spec.checks.length === flakyChecks({ flaky }).length ? CONFIDENCE.noChecks : CONFIDENCE.ownChecks;
}
