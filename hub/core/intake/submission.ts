import type { Actor, EventBody } from '../../../ledger/lines/events.ts';
import { type WrittenEvent, writtenEvent } from '../../../ledger/lines/line.ts';
import { resolveMember } from '../../../ledger/state/members.ts';
import { bundleChain } from '../../../ledger/state/repositories.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { type TaskAnswer, taskView } from '../../../node/views/task.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { newTaskId } from '../../../protocol/ids.ts';
import { priorityDefault } from '../../../protocol/limits.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import { type RepositoryBundle, type TaskSpec, TERMINAL_STATES } from '../../../protocol/task.ts';
import { requireMet, waitsFor } from '../answers/dry-run.ts';
import { bundlesMax } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { settle } from '../lifecycle.ts';
import { allowed, requireReadable } from '../rights.ts';
import type { Operation, Submission } from '../types.ts';
import type { Repeats } from './repeats.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** A new task, once everything it names can be had. Throws what the submitter can mend, and logs nothing then. */
export function submit(ctx: FounderContext, by: Actor, submission: Of<'task.submit'>): TaskAnswer {
  const { spec, bundle, correlation, schedule, unmet } = submission;
  const { before, twin } = lookUp(ctx, by, submission);
  if (before !== null) return taskView(ctx.state, before);
  requireReachable(ctx, spec.repository?.base ?? null, bundle);
  requireAdmissible(ctx, by, submission);
  const asked = schedule === undefined ? {} : { schedule };
  const made = create(ctx, { spec, bundle, correlation, rerunOf: null, by, ...asked });
  return {
    ...made,
    ...(twin === null ? {} : { twin }),
    ...(unmet === undefined ? {} : { waits: waitsFor(ctx, made.id) }),
  };
}

/** `before`: what this submitter sent under the same key; `twin`: an open task of the same words, where it is wanted. Throws `SF_CONFLICT` where that is not wanted. */
export function lookUp(
  ctx: FounderContext,
  by: Actor,
  { spec, schedule, once = false }: Pick<Submission, 'spec' | 'schedule' | 'once'>,
  twinWanted = true,
): { before: TaskRecord | null; twin: string | null } {
  const said = schedule === undefined ? { spec, by } : { spec, by, schedule };
  const before = sentBefore(ctx, said);
  if (before !== null) return { before, twin: null };
  // To compare words costs as much as the rest of a look.
  const twin = once || twinWanted ? ctx.repeats.open(said) : null;
  if (once && twin !== null) {
    throw new SuperfleetError('SF_CONFLICT', `the same task is open already: ${twin}`, {
      expected: 'words that no open task of the same submitter has',
      got: twin,
      hint: `mesh-hub task describe ${twin}`,
    });
  }
  return { before, twin };
}

/** Throws what a submitter asked for that can never be, or is not theirs to ask for. `beside`: tasks that come to be with it. */
export function requireAdmissible(
  ctx: FounderContext,
  by: Actor,
  { spec, schedule, unmet }: Pick<Submission, 'spec' | 'schedule' | 'unmet'>,
  beside: ReadonlySet<string> = new Set(),
): void {
  if (spec.on !== null && resolveMember(ctx.state.members, spec.on) === null) {
    throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${spec.on}`, {
      hint: 'mesh-hub node list',
    });
  }
  if (spec.requireVerified && spec.repository === null && schedule?.replicas === undefined) {
    throw new SuperfleetError('SF_USAGE', 'a task without a repository can never be verified', {
      expected: 'a repository, or no --require-verified',
      got: '--require-verified with an empty workspace',
      hint: 'no other machine can see what such a task made; say --repo PATH, or leave --require-verified out',
    });
  }
  if (schedule?.replicas !== undefined) requireRepeatable(spec);
  if (schedule !== undefined) requireSchedule(ctx, by, schedule, beside);
  requireSecrets(ctx, by, spec.secrets);
  if (unmet === 'refuse') requireMet(ctx, by, { spec, schedule });
}

/** Throws where several machines can never run it and make the same. */
function requireRepeatable(spec: TaskSpec): void {
  if (spec.kind !== 'command') {
    throw new SuperfleetError(
      'SF_USAGE',
      'a goal is pursued in another way each time: replicas of it never agree',
      {
        expected: 'a command',
        got: '--replicas with a goal',
        hint: 'leave --replicas out: its checks prove what came of it',
      },
    );
  }
  if (spec.on === null) return;
  throw new SuperfleetError('SF_USAGE', 'a task for one machine can have no replicas on others', {
    expected: '--replicas, or --on',
    got: `--replicas with --on ${spec.on}`,
  });
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
function requireSchedule(
  ctx: FounderContext,
  by: Actor,
  { priority, after = [] }: Schedule,
  beside: ReadonlySet<string>,
): void {
  if (priority !== undefined && priority > priorityDefault && !allowed(ctx.state.members, by, 'operate')) {
    throw new SuperfleetError('SF_REFUSED', 'to go before everybody else is the operator’s to give', {
      expected: `a priority of at most ${priorityDefault}, or the role operator`,
      got: `${priority}`,
      hint: 'send it where the founder runs: mesh-hub task run',
    });
  }
  for (const id of after) {
    if (beside.has(id)) continue;
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

type Submitted = Omit<EventBody<'task.submitted'>, 'task' | 'correlation'> & { correlation: string | null };

/** A new task of these words, which have been looked at. Throws `SF_FULL`. */
export function create(ctx: FounderContext, facts: Submitted): TaskAnswer {
  requireSecrets(ctx, facts.by, facts.spec.secrets);
  ctx.room.require(facts.by, 1, ctx.config, ctx.now);
  const [made] = enter(ctx, [submission(facts, freshIds(ctx, 1)[0]!)]);
  return taskView(ctx.state, made!);
}

/** So many ids that no task has. */
export function freshIds(ctx: FounderContext, many: number): string[] {
  const ids = new Set<string>();
  while (ids.size < many) {
    const id = newTaskId(ctx.clock.random);
    if (!ctx.state.tasks.byId.has(id)) ids.add(id);
  }
  return [...ids];
}

/** The entry that makes a task. Throws where it does not fit a line of the log. */
export function submission(
  { correlation, ...facts }: Submitted,
  task: string,
): WrittenEvent<'task.submitted'> {
  const { spec, bundle, rerunOf, continues, schedule, by } = facts;
  return writtenEvent({
    type: 'task.submitted',
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
  });
}

/** Appends them all before anything comes of one of them. */
export function enter(ctx: FounderContext, events: readonly WrittenEvent<'task.submitted'>[]): TaskRecord[] {
  const { byId } = ctx.state.tasks;
  for (const event of events) ctx.append(event);
  const made = events.map(({ body }) => ctx.task(body.task));
  for (const task of made) {
    ctx.repeats.add(task, (id) => byId.has(id));
    ctx.room.add(task);
    ctx.deadlines.add(task, ctx.now, 0);
    ctx.times.set(task.id, { queuedAt: ctx.now, firstAssignedAt: null, runMs: null });
  }
  for (const task of made) settle(ctx, task);
  return made;
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
export function requireReachable(
  ctx: FounderContext,
  base: string | null,
  bundle: RepositoryBundle | null,
): void {
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
export function requireShortChain(
  ctx: FounderContext,
  { spec, bundle }: Pick<Submission, 'spec' | 'bundle'>,
): void {
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
