import type { Actor, EventBody } from '../../ledger/events.ts';
import { assertEvent } from '../../ledger/line.ts';
import { resolveMember } from '../../ledger/state/members.ts';
import { bundleChain } from '../../ledger/state/repositories.ts';
import { openQuestion, type TaskRecord } from '../../ledger/state/task-record.ts';
import { type TaskAnswer, taskView } from '../../node/views/task.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { newTaskId } from '../../protocol/ids.ts';
import { goalCharactersMax, priorityDefault } from '../../protocol/limits.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import type { RepositoryBundle } from '../../protocol/task.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import { bundlesMax } from './config.ts';
import type { FounderContext } from './context.ts';
import { requireMet, waitsFor } from './dry-run.ts';
import { settle } from './lifecycle.ts';
import type { Repeats } from './repeats.ts';
import { allowed, requireOwnWork, requireReadable } from './rights.ts';
import type { Operation } from './types.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** A new task, once everything it names can be had. Throws what the submitter can mend, and logs nothing then. */
export function submit(
  ctx: FounderContext,
  by: Actor,
  { spec, bundle, correlation, schedule, once = false, unmet }: Of<'task.submit'>,
): TaskAnswer {
  const said = schedule === undefined ? { spec, by } : { spec, by, schedule };
  const before = sentBefore(ctx, said);
  if (before !== null) return taskView(ctx.state, before);
  const twin = ctx.repeats.open(said);
  if (once && twin !== null) {
    throw new SuperfleetError('SF_CONFLICT', `the same task is open already: ${twin}`, {
      expected: 'words that no open task of the same submitter has',
      got: twin,
      hint: `mesh-hub task describe ${twin}`,
    });
  }
  if (spec.on !== null && resolveMember(ctx.state.members, spec.on) === null) {
    throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${spec.on}`, {
      hint: 'mesh-hub node list',
    });
  }
  if (spec.requireVerified && spec.repository === null) {
    throw new SuperfleetError('SF_USAGE', 'a task without a repository can never be verified', {
      expected: 'a repository, or no --require-verified',
      got: '--require-verified with an empty workspace',
      hint: 'no other machine can see what such a task made; say --repo PATH, or leave --require-verified out',
    });
  }
  requireReachable(ctx, spec.repository?.base ?? null, bundle);
  if (schedule !== undefined) requireSchedule(ctx, by, schedule);
  if (unmet === 'refuse') requireMet(ctx, by, { spec, schedule });
  const asked = schedule === undefined ? {} : { schedule };
  const made = create(ctx, { spec, bundle, correlation, rerunOf: null, by, ...asked });
  return {
    ...made,
    ...(twin === null ? {} : { twin }),
    ...(unmet === undefined ? {} : { waits: waitsFor(ctx, made.id) }),
  };
}

/** What this submitter sent under the same key; null: nothing. `SF_CONFLICT` where that said something else. */
function sentBefore(ctx: FounderContext, said: Parameters<Repeats['keyed']>[0]): TaskRecord | null {
  const { byId } = ctx.state.tasks;
  const before = ctx.repeats.keyed(said, (id) => byId.has(id));
  if (before === null) return null;
  if (before.same) return ctx.task(before.task);
  throw new SuperfleetError('SF_CONFLICT', `the key was given to another task: ${before.task}`, {
    expected: 'the same words as that task, or a key of its own',
    got: said.schedule?.key ?? '',
    hint: `mesh-hub task describe ${before.task}`,
  });
}

/** Throws what can never be, or is not this submitter's to ask for. */
function requireSchedule(ctx: FounderContext, by: Actor, { priority, after = [] }: Schedule): void {
  if (priority !== undefined && priority > priorityDefault && !allowed(ctx.state.members, by, 'operate')) {
    throw new SuperfleetError('SF_REFUSED', 'to go before everybody else is the operator’s to give', {
      expected: `a priority of at most ${priorityDefault}, or the role operator`,
      got: `${priority}`,
      hint: 'send it where the founder runs: mesh-hub task run',
    });
  }
  for (const id of after) {
    const task = ctx.state.tasks.byId.get(id);
    if (task === undefined) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no task ${id} to come after`, {
        expected: `tasks that are open, or among the last ${ctx.state.tasks.endedMax} that ended`,
        got: id,
        hint: 'mesh-hub task list',
      });
    }
    requireReadable(ctx.state.members, by, task.by);
    if (TERMINAL_STATES.has(task.state) && task.state !== 'delivered') {
      throw new SuperfleetError('SF_CONFLICT', `task ${id}, which it is to come after, is ${task.state}`, {
        expected: 'a task that is open or was delivered',
        got: task.state,
        hint: `mesh-hub task rerun ${id}, and come after that one`,
      });
    }
  }
}

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

type Created = Omit<EventBody<'task.submitted'>, 'task' | 'correlation'> & { correlation: string | null };

function create(ctx: FounderContext, { correlation, ...facts }: Created): TaskAnswer {
  const { tasks } = ctx.state;
  requireSecrets(ctx, facts.by, facts.spec.secrets);
  ctx.room.require(facts.by, 1, ctx.config, ctx.now);
  let task = newTaskId(ctx.clock.random);
  while (tasks.byId.has(task)) task = newTaskId(ctx.clock.random);
  const { spec, bundle, rerunOf, continues, schedule, by } = facts;
  const event = {
    type: 'task.submitted' as const,
    body: {
      task,
      correlation: correlation ?? task,
      spec,
      bundle,
      rerunOf,
      ...(continues === undefined ? {} : { continues }),
      ...(schedule === undefined || Object.keys(schedule).length === 0 ? {} : { schedule }),
      by,
    },
  };
  assertEvent(event);
  ctx.append(event);
  ctx.repeats.add(ctx.task(task), (id) => tasks.byId.has(id));
  ctx.room.add(ctx.task(task));
  ctx.deadlines.add(ctx.task(task), ctx.now, 0);
  ctx.times.set(task, { queuedAt: ctx.now, firstAssignedAt: null, runMs: null });
  settle(ctx, ctx.task(task));
  return taskView(ctx.state, ctx.task(task));
}

/** Whoever may send a task to a machine of theirs could read there any secret it names: they are the operator's to use. */
function requireSecrets(ctx: FounderContext, by: Actor, names: string[]): void {
  if (names.length === 0 || allowed(ctx.state.members, by, 'operate')) return;
  throw new SuperfleetError('SF_REFUSED', 'secrets are for tasks of the operator', {
    expected: 'a task without --secret, or the role operator',
    got: names.join(', '),
    hint: 'send it where the founder runs: mesh-hub task run',
  });
}

/** Throws `SF_REPOSITORY` unless known bundles, with this one, lead to the base. */
function requireReachable(ctx: FounderContext, base: string | null, bundle: RepositoryBundle | null): void {
  const { repositories } = ctx.state;
  const missing = bundle?.prerequisites.find((commit) => !repositories.has(commit));
  if (missing !== undefined) {
    throw new SuperfleetError('SF_REPOSITORY', 'the bundle rests on a commit that the mesh does not hold', {
      expected: 'prerequisites that repository.known answered with',
      got: missing,
      hint: 'send a bundle that rests on nothing, or on commits the mesh knows',
    });
  }
  if (bundle !== null && base === null) {
    throw new SuperfleetError('SF_REPOSITORY', 'a bundle without a repository', {
      hint: 'name the repository and its base',
    });
  }
  if (base === null || base === bundle?.commit) return;
  if (!repositories.has(base)) {
    throw new SuperfleetError('SF_REPOSITORY', 'the mesh does not hold the base of this task', {
      expected: 'a base that is known, or a bundle of it',
      got: base,
      hint: 'send a bundle of the base commit with the task',
    });
  }
}

/** Chains that grew too long are refused where a shorter one can still be sent. */
export function requireShortChain(ctx: FounderContext, { spec, bundle }: Of<'task.submit'>): void {
  const from =
    bundle === null ? (spec.repository === null ? [] : [spec.repository.base]) : bundle.prerequisites;
  for (const commit of from) {
    const chain = bundleChain(ctx.state.repositories, commit, bundlesMax - 1);
    if (chain !== null || !ctx.state.repositories.has(commit)) continue;
    throw new SuperfleetError('SF_REPOSITORY', `more than ${bundlesMax} bundles lead to this base`, {
      hint: 'send a bundle that rests on nothing',
    });
  }
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
