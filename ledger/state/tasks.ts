import { questionsMax, replicasMax } from '../../protocol/limits.ts';
import { CONFIDENCE, TERMINAL_STATES } from '../../protocol/task.ts';
import type { KnownEntry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import { IllegalTransition } from './errors.ts';
import type { Reducer } from './reducer.ts';
import {
  type AttemptRecord,
  attemptsKeptMax,
  findAttempt,
  flakyKeptMax,
  openAttempt,
  openQuestion,
  type TaskRecord,
} from './task-record.ts';
import { addTask, endTask, hasArchived, initialTasks, loadTasks, saveTasks, type Tasks } from './task-set.ts';

type Of<T extends KnownEntry['type']> = Extract<KnownEntry, { type: T }>;

/**
 * The state machine of tasks; a step it does not have throws `IllegalTransition` and changes nothing. A task that ended
 * leaves the state when `endedMax` others have ended since. Only evidence, `task.applied` and what comes of verifying it again may
 * come for it then; they change nothing here and are found with the task's other entries. That an id was given to one of these before is not
 * seen: ids are 60 random bits.
 */
export const tasksReducer: Reducer<Tasks> = {
  name: 'tasks',
  version: 3,
  initial: initialTasks,
  reduce(state, entry: KnownEntry) {
    switch (entry.type) {
      case 'task.submitted':
        submitted(state, entry);
        break;
      case 'attempt.assigned':
        assigned(state, entry);
        break;
      case 'attempt.started':
        started(state, entry);
        break;
      case 'attempt.ended':
        ended(state, entry);
        break;
      case 'task.executed':
        executed(state, entry);
        break;
      case 'task.verified':
        verified(state, entry);
        break;
      case 'task.replicated':
        replicated(state, entry);
        break;
      case 'reverification.assigned':
        reassigned(state, entry);
        break;
      case 'reverification.ended':
        reverificationEnded(state, entry);
        break;
      case 'task.reverified':
        reverified(state, entry);
        break;
      case 'task.evidence':
        evidence(state, entry);
        break;
      case 'task.asked':
        asked(state, entry);
        break;
      case 'task.doubted':
        doubted(state, entry);
        break;
      case 'task.flaky':
        flaky(state, entry);
        break;
      case 'task.rejected':
        rejected(state, entry);
        break;
      case 'task.partial':
        partial(state, entry);
        break;
      case 'task.answered':
        answered(state, entry);
        break;
      case 'task.cancelled':
        unfinished(state, entry, entry.body.task).cancelledBy = entry.body.by;
        break;
      case 'task.converged':
        converged(state, entry);
        break;
      case 'task.applied':
        applied(state, entry);
        break;
    }
    return state;
  },
  save: saveTasks,
  load: loadTasks,
};

function submitted(state: Tasks, entry: Of<'task.submitted'>): void {
  const { task: id } = entry.body;
  need(entry, !state.byId.has(id), `there is a task ${id} already`);
  addTask(state, newTask(entry.body, { number: state.count, time: entry.time }));
}

/** A task as its submission makes it. */
export function newTask(
  {
    task: id,
    correlation,
    spec,
    rerunOf,
    continues,
    schedule,
    by,
  }: Omit<EventBody<'task.submitted'>, 'bundle'>,
  { number, time }: { number: number; time: number },
): TaskRecord {
  const task: TaskRecord = {
    id,
    number,
    correlation,
    spec,
    by,
    rerunOf,
    state: 'queued',
    submittedAt: time,
    finishedAt: null,
    attempts: [],
    attemptCount: 0,
    executions: 0,
    retriesUsed: 0,
    machineFaults: 0,
    verifierFaults: 0,
    avoid: [],
    unfit: [],
    lastEnd: null,
    accepted: null,
    verification: null,
    cancelledBy: null,
    converged: null,
    applied: null,
  };
  if (continues !== undefined) task.continues = continues;
  if (schedule !== undefined) task.schedule = schedule;
  return task;
}

function assigned(state: Tasks, entry: Of<'attempt.assigned'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const { attempt: number, role, member, nonce } = entry.body;
  need(entry, number === task.attemptCount + 1, `attempt ${task.attemptCount + 1} is the next one`);
  need(entry, task.cancelledBy === null, 'the task was cancelled');
  if (role === 'execute') {
    need(entry, task.state === 'queued', `the task is ${task.state}, not queued`);
    need(entry, openQuestion(task) === null, 'it waits for an answer');
    task.state = 'assigned';
    task.executions += 1;
  } else {
    need(entry, task.state === 'executed', `the task is ${task.state}, not executed`);
    need(entry, openAttempt(task, 'verify') === null, 'it is being verified already');
    need(entry, task.verification === null, 'it was verified already');
    need(entry, member !== task.accepted!.member, 'the executor may not verify its own result');
  }
  addAttempt(task, entry, { number, role, member, nonce });
}

type Given = Pick<AttemptRecord, 'number' | 'role' | 'member' | 'nonce'>;

function addAttempt(
  task: TaskRecord,
  entry: KnownEntry,
  { number, role, member, nonce }: Given,
  of?: string,
) {
  task.attemptCount = number;
  const attempt: AttemptRecord = {
    number,
    role,
    member,
    epoch: entry.epoch,
    nonce,
    assignedAt: entry.time,
    startedAt: null,
    end: null,
    evidence: null,
  };
  if (of !== undefined) attempt.of = of;
  // An array of just this length: one that is pushed to has room for 16 more, in each of the many tasks that are kept.
  task.attempts = task.attempts.concat([attempt]);
  // Only closed attempts are let go; at most two are open, and those are among the newest.
  if (task.attempts.length > attemptsKeptMax) {
    const oldest = task.attempts.findIndex((kept) => kept.end !== null);
    task.attempts.splice(oldest, 1);
  }
}

function started(state: Tasks, entry: Of<'attempt.started'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.startedAt === null, 'it has started already');
  attempt.startedAt = entry.time;
  if (attempt.role === 'execute') task.state = 'running';
}

function ended(state: Tasks, entry: Of<'attempt.ended'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const { fault, reason, detail, exitCode, receipt, envelope, log } = entry.body;
  const attempt = findAttempt(task, entry.body.attempt);
  need(entry, attempt !== null, `no attempt ${entry.body.attempt} is open`);
  const end = {
    kind: 'ended' as const,
    at: entry.time,
    fault,
    reason,
    detail,
    exitCode,
    receipt,
    envelope,
    log,
  };
  const withdrawn = attempt.end?.kind === 'executed' && task.accepted?.attempt === attempt.number;
  if (withdrawn) {
    // The verifier said no: the accepted result is withdrawn, and the attempt ends as a failure after all.
    need(entry, task.state === 'executed', `the task is ${task.state}, not executed`);
    need(entry, task.verification?.passed === false, 'no verification speaks against the accepted result');
    task.accepted = null;
    task.verification = null;
    delete task.replicas;
  } else {
    need(entry, attempt.end === null, `attempt ${attempt.number} is closed`);
  }
  attempt.end = end;
  if (attempt.role === 'execute') {
    task.state = 'queued';
    task.lastEnd = { ...end, member: attempt.member };
    if (fault === 'task') task.retriesUsed += 1;
    if (fault === 'machine') task.machineFaults += 1;
  } else if (fault !== 'person') {
    task.verifierFaults += 1;
  }
  if (fault !== 'person') blame(state, task, attempt, fault, reason);
}

function blame(
  state: Tasks,
  task: TaskRecord,
  attempt: AttemptRecord,
  fault: 'machine' | 'task',
  reason: string,
): void {
  task.avoid = [...task.avoid.filter((peer) => peer !== attempt.member), attempt.member];
  if (fault === 'machine' && reason === 'environment' && !task.unfit.includes(attempt.member)) {
    task.unfit.push(attempt.member);
  }
  const against = state.blame.get(attempt.member) ?? { machine: 0, task: 0 };
  against[fault] += 1;
  state.blame.set(attempt.member, against);
}

function executed(state: Tasks, entry: Of<'task.executed'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'execute', `attempt ${attempt.number} verifies`);
  need(entry, task.accepted === null, 'a result of it was accepted already');
  const { body, time } = entry;
  attempt.end = { kind: 'executed', at: time };
  // Here and below key by key, in the order of the body: a rest of it is slow, and this is done for every task there was.
  task.accepted = {
    attempt: body.attempt,
    exitCode: body.exitCode,
    commit: body.commit,
    receipt: body.receipt,
    envelope: body.envelope,
    bundle: body.bundle,
    log: body.log,
    artifacts: body.artifacts,
    checksChanged: body.checksChanged,
    member: attempt.member,
    at: time,
  };
  if (task.doubted === attempt.number) task.accepted.lowConfidence = true;
  task.state = 'executed';
}

function verified(state: Tasks, entry: Of<'task.verified'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'verify', `attempt ${attempt.number} executes`);
  need(entry, task.accepted?.receipt === entry.body.receipt, 'it names another receipt');
  const { body, time } = entry;
  attempt.end = { kind: 'verified', at: time, passed: body.passed };
  task.verification = {
    attempt: body.attempt,
    receipt: body.receipt,
    verification: body.verification,
    envelope: body.envelope,
    passed: body.passed,
    sameOwner: body.sameOwner,
    detail: body.detail,
    member: attempt.member,
    at: time,
  };
  const provable = task.accepted.checksChanged.length === 0 && task.flaky === undefined;
  if (body.passed && provable) task.state = 'verified';
}

function replicated(state: Tasks, entry: Of<'task.replicated'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const { attempt: number, receipt, agrees, detail } = entry.body;
  const attempt = open(entry, task, number);
  need(entry, attempt.role === 'verify', `attempt ${number} executes`);
  need(entry, receipt === task.accepted?.receipt, 'it is about another receipt');
  need(entry, task.schedule?.replicas !== undefined, 'nobody asked for replicas');
  const { replicas = [] } = task;
  need(entry, replicas.length < replicasMax, `${replicasMax} machines have spoken`);
  attempt.end = { kind: 'verified', at: entry.time, passed: agrees };
  task.replicas = [...replicas, { attempt: number, member: attempt.member, agrees, detail }];
}

function reassigned(state: Tasks, entry: Of<'reverification.assigned'>): void {
  const task = delivered(state, entry, entry.body.task);
  if (task === null) return;
  const { attempt: number, member, nonce, of } = entry.body;
  const next = task.attemptCount + 1;
  need(entry, number === next, `attempt ${next} is the next one`);
  need(entry, openAttempt(task, 'verify') === null, 'it is being verified already');
  const executor = task.accepted!.member;
  need(entry, member !== executor, 'the executor may not verify its own result');
  need(entry, member !== of, 'it may not say again what it said before');
  addAttempt(task, entry, { number, role: 'verify', member, nonce }, of);
}

function reverificationEnded(state: Tasks, entry: Of<'reverification.ended'>): void {
  const task = delivered(state, entry, entry.body.task);
  if (task === null) return;
  const { fault, reason, detail, attempt: number } = entry.body;
  const attempt = open(entry, task, number);
  const nothing = { exitCode: null, receipt: null, envelope: null, log: null };
  attempt.end = { kind: 'ended', at: entry.time, fault, reason, detail, ...nothing };
}

function reverified(state: Tasks, entry: Of<'task.reverified'>): void {
  const task = delivered(state, entry, entry.body.task);
  if (task === null) return;
  const { outcome, attempt: number, by, of, receipt, verification, envelope, sameOwner, detail } = entry.body;
  need(entry, receipt === task.accepted!.receipt, 'it names another receipt');
  need(entry, (outcome === 'unavailable') === (by === null), 'an outcome is somebody’s word');
  need(entry, (number === null) === (by === null), 'a word is given in an attempt');
  if (number !== null) {
    const attempt = open(entry, task, number);
    need(entry, attempt.member === by && attempt.of === of, 'it was given to another');
    attempt.end = { kind: 'verified', at: entry.time, passed: outcome === 'confirmed' };
  }
  const at = entry.time;
  task.reverified = { of, outcome, attempt: number, by, verification, envelope, sameOwner, detail, at };
}

/** A delivered task with its result; null: it has left the state. */
function delivered(state: Tasks, entry: KnownEntry, id: string): TaskRecord | null {
  const task = known(state, entry, id);
  if (task !== null) need(entry, task.state === 'delivered', `the task is ${task.state}, not delivered`);
  return task;
}

function evidence(state: Tasks, entry: Of<'task.evidence'>): void {
  const task = known(state, entry, entry.body.task);
  const attempt = task === null ? null : findAttempt(task, entry.body.attempt);
  if (attempt === null) return;
  const { receipt, envelope, why } = entry.body;
  attempt.evidence = { receipt, envelope, why };
}

function asked(state: Tasks, entry: Of<'task.asked'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'execute', `attempt ${attempt.number} verifies`);
  need(entry, openQuestion(task) === null, 'it waits for an answer already');
  const { questions = [] } = task;
  need(entry, questions.length < questionsMax, `${questionsMax} questions were asked about it`);
  const question = { attempt: attempt.number, text: entry.body.question, at: entry.time, answer: null };
  task.questions = [...questions, question];
}

function doubted(state: Tasks, entry: Of<'task.doubted'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'execute', `attempt ${attempt.number} verifies`);
  task.doubted = attempt.number;
}

function flaky(state: Tasks, entry: Of<'task.flaky'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const { number } = open(entry, task, entry.body.attempt);
  const { checks } = entry.body;
  need(
    entry,
    checks.every((at) => at < task.spec.checks.length),
    'a check that the task does not have',
  );
  task.flaky = [...(task.flaky ?? []), { attempt: number, checks }].slice(-flakyKeptMax);
}

function rejected(state: Tasks, entry: Of<'task.rejected'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'execute', `attempt ${attempt.number} verifies`);
  const { rejections = [] } = task;
  const { model } = entry.body;
  task.rejections = [...rejections, { attempt: attempt.number, model }].slice(-questionsMax);
}

function partial(state: Tasks, entry: Of<'task.partial'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const attempt = open(entry, task, entry.body.attempt);
  need(entry, attempt.role === 'execute', `attempt ${attempt.number} verifies`);
  const { commit, bundle, left } = entry.body;
  task.partial = { attempt: attempt.number, commit, bundle, left };
}

function answered(state: Tasks, entry: Of<'task.answered'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const question = openQuestion(task);
  need(entry, question !== null, 'it asks nothing');
  const { text, by } = entry.body;
  question.answer = { text, by, at: entry.time };
}

function applied(state: Tasks, entry: Of<'task.applied'>): void {
  const task = known(state, entry, entry.body.task);
  if (task === null) return;
  need(entry, task.state === 'delivered', `the task is ${task.state}, not delivered`);
  task.applied = { commit: entry.body.commit, by: entry.body.by, at: entry.time };
}

function converged(state: Tasks, entry: Of<'task.converged'>): void {
  const task = unfinished(state, entry, entry.body.task);
  const { body } = entry;
  need(
    entry,
    task.attempts.every((attempt) => attempt.end !== null),
    'an attempt of it is open',
  );
  need(entry, body.verified === (task.state === 'verified'), `verified is ${body.verified}`);
  need(entry, body.verified || body.confidence <= CONFIDENCE.ownChecks, unverifiedClaim(body));
  if (body.state === 'delivered') need(entry, task.accepted !== null, 'no result of it was accepted');
  const unsure = task.accepted?.lowConfidence === true;
  need(entry, !unsure || body.confidence <= CONFIDENCE.verifiedLowConfidence, unsureClaim(body));
  if (body.state === 'cancelled') need(entry, task.cancelledBy !== null, 'nobody cancelled it');
  if (body.state === 'failed') need(entry, body.reason !== null, 'a failure has a reason');
  task.state = body.state;
  task.finishedAt = entry.time;
  task.converged = body;
  endTask(state, task.id);
}

const unverifiedClaim = (body: EventBody<'task.converged'>): string =>
  `unverified output claims a confidence of ${body.confidence}`;

const unsureClaim = (body: EventBody<'task.converged'>): string =>
  `a result that its model is not sure of claims a confidence of ${body.confidence}`;

/** Null: it has left the state. */
function known(state: Tasks, entry: KnownEntry, id: string): TaskRecord | null {
  const task = state.byId.get(id) ?? null;
  need(entry, task !== null || hasArchived(state), `there is no task ${id}`);
  return task;
}

function unfinished(state: Tasks, entry: KnownEntry, id: string): TaskRecord {
  const task = known(state, entry, id);
  need(entry, task !== null, `no task ${id} is open`);
  need(entry, !TERMINAL_STATES.has(task.state), `task ${id} has ended: ${task.state}`);
  return task;
}

function open(entry: KnownEntry, task: TaskRecord, number: number): AttemptRecord {
  const attempt = findAttempt(task, number);
  need(entry, attempt !== null && attempt.end === null, `no attempt ${number} of ${task.id} is open`);
  return attempt;
}

function need(entry: KnownEntry, holds: boolean, why: string): asserts holds {
  if (!holds) throw new IllegalTransition(entry, why);
}
