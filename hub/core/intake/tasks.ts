import type { Actor } from '../../../ledger/lines/events.ts';
import { openQuestion } from '../../../ledger/state/task-record.ts';
import { type TaskAnswer, taskView } from '../../../node/views/task.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { goalCharactersMax, priorityDefault } from '../../../protocol/limits.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';
import { settle } from '../lifecycle.ts';
import { allowed, requireOwnWork, requireReadable } from '../rights.ts';
import type { Operation } from '../types.ts';
import { create } from './submission.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** A new task with the same spec; its input is what the mesh holds of it. */
export function rerun(ctx: FounderContext, by: Actor, { task: id }: Of<'task.rerun'>): TaskAnswer {
  const { spec, by: submitter, continues, schedule } = ctx.task(id);
  requireReadable(ctx.state.members, by, submitter);
  const begun = continues === undefined ? {} : { continues };
  const asked = askedAgain(ctx, by, schedule);
  return create(ctx, { spec, bundle: null, correlation: null, rerunOf: id, by, ...begun, ...asked });
}

/** Of what was asked for a task, what holds for another one like it: it has no key, comes after none, and goes before nobody else's. */
function askedAgain(ctx: FounderContext, by: Actor, schedule: Schedule | undefined): { schedule?: Schedule } {
  if (schedule === undefined) return {};
  const { key: _, after: __, priority, ...rest } = schedule;
  const operates = allowed(ctx.state.members, by, 'operate');
  const mine = priority !== undefined && (priority <= priorityDefault || operates) ? { priority } : {};
  return { schedule: { ...rest, ...mine } };
}

/**
 * A new task that begins with what this one left behind, with a person's remark at the end of its goal. Base and checks stay, so
 * that what comes of it is judged as if it had been done at once.
 */
export function continued(
  ctx: FounderContext,
  by: Actor,
  { task: id, text }: Of<'task.continue'>,
): TaskAnswer {
  const { spec, by: submitter, state, partial, schedule } = ctx.task(id);
  requireReadable(ctx.state.members, by, submitter);
  const ended = TERMINAL_STATES.has(state);
  if (spec.kind !== 'code' || partial === undefined || !ended || state === 'delivered') {
    throw new SuperfleetError('SF_CONFLICT', `task ${id} left nothing to continue`, {
      expected: 'a goal that ended with partial_completion and had changed files by then',
      got: ended ? `a task of kind ${spec.kind} that is ${state}` : `a task that is ${state}`,
      hint: ended ? `mesh-hub task rerun ${id} begins it anew` : `mesh-hub task why ${id}`,
    });
  }
  const goal = text === null ? spec.code.goal : `${spec.code.goal}\n\n${text.toWellFormed()}`;
  if (goal.length > goalCharactersMax) {
    throw new SuperfleetError('SF_USAGE', 'goal and remark together are too long', {
      expected: `at most ${goalCharactersMax} characters`,
      got: `${goal.length}`,
      hint: 'say less, or send a goal of its own: mesh-hub task code',
    });
  }
  const { commit, bundle, left } = partial;
  const continues = { task: id, commit, bundle, left };
  const whole = { ...spec, code: { ...spec.code, goal } };
  const asked = askedAgain(ctx, by, schedule);
  return create(ctx, {
    spec: whole,
    bundle: null,
    correlation: null,
    rerunOf: null,
    by,
    continues,
    ...asked,
  });
}

/** A person's stop: what runs is cancelled, and the task ends `cancelled`. */
export function stop(ctx: FounderContext, by: Actor, { task: id }: Of<'task.stop'>): TaskAnswer {
  const task = ctx.task(id);
  requireOwnWork(ctx.state.members, by, task.by);
  if (TERMINAL_STATES.has(task.state)) {
    throw new SuperfleetError('SF_CONFLICT', `the task has ended: it is ${task.state}`, { got: task.state });
  }
  ctx.append({ type: 'task.cancelled', body: { task: id, correlation: task.correlation, by } });
  settle(ctx, task);
  return taskView(ctx.state, task);
}

/** A person's word to what a model asked; the task goes on with it. */
export function answer(ctx: FounderContext, by: Actor, { task: id, text }: Of<'task.answer'>): TaskAnswer {
  const task = ctx.task(id);
  requireOwnWork(ctx.state.members, by, task.by);
  const ended = TERMINAL_STATES.has(task.state);
  // Asked, and the attempt that asks is about to end: what it will be answered then is not known before.
  if (ended || task.state !== 'queued' || openQuestion(task) === null) {
    throw new SuperfleetError('SF_CONFLICT', ended ? 'the task has ended' : 'the task asks nothing', {
      expected: 'a task that waits for an answer',
      got: task.state,
      hint: `mesh-hub task why ${id}`,
    });
  }
  const body = { task: id, correlation: task.correlation, text: text.toWellFormed(), by };
  ctx.append({ type: 'task.answered', body });
  settle(ctx, task);
  return taskView(ctx.state, task);
}

/** A person took the result into a branch of their own. */
export function applied(
  ctx: FounderContext,
  by: Actor,
  { task: id, commit }: Of<'task.applied'>,
): TaskAnswer {
  const task = ctx.task(id);
  requireReadable(ctx.state.members, by, task.by);
  if (task.state !== 'delivered') {
    throw new SuperfleetError('SF_CONFLICT', `the task is ${task.state}: there is nothing to apply`, {
      expected: 'a delivered task',
      got: task.state,
    });
  }
  // Typed again it says nothing new.
  const { applied } = task;
  if (applied?.commit === commit && JSON.stringify(applied.by) === JSON.stringify(by))
    return taskView(ctx.state, task);
  ctx.append({ type: 'task.applied', body: { task: id, commit, by } });
  // One that has left the state is changed by no entry: what was recalled of it is shown as the log has it now.
  if (!ctx.state.tasks.byId.has(id)) task.applied = { commit, by, at: ctx.state.mesh.time };
  return taskView(ctx.state, task);
}
