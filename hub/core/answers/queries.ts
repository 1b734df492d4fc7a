import type { Actor } from '../../../ledger/lines/events.ts';
import type { Selection } from '../../../ledger/log/archive.ts';
import type { NodeObject, Page, TaskObject } from '../../../node/api/objects.ts';
import { findMember } from '../../../node/views/mesh.ts';
import * as list from '../../../node/views/task-list.ts';
import type { FounderContext } from '../context.ts';
import { allowed, mayRead } from '../rights.ts';
import type { Operation } from '../types.ts';
import { nodeObject } from './views.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** A page of the tasks that the asker may see. */
export const listTasks = (
  ctx: FounderContext,
  by: Actor,
  operation: Of<'task.list'>,
  looked: readonly number[] = [],
): Page<TaskObject> =>
  list.listTasks(ctx.state, queryOf(ctx, by, operation), { tasks: ctx.recalled.values(), looked });

/** What is to be read from the log for this page; null: nothing. */
export function wantedForList(ctx: FounderContext, by: Actor, operation: Of<'task.list'>): Selection | null {
  const own = by.kind === 'peer' && !allowed(ctx.state.members, by, 'read') ? by.peer : null;
  return list.wantedForList(ctx.state, queryOf(ctx, by, operation), own);
}

const queryOf = (ctx: FounderContext, by: Actor, operation: Of<'task.list'>): list.TaskQuery => ({
  ...operation,
  correlation: operation.correlation ?? null,
  mayRead: (submitter) => mayRead(ctx.state.members, by, submitter),
});

/** Of these commits, those the mesh can hand out. */
export const knownCommits = (ctx: FounderContext, commits: string[]): { commits: string[] } => ({
  commits: commits.slice(0, 4096).filter((commit) => ctx.state.repositories.has(commit)),
});

export const getNode = (ctx: FounderContext, member: string): NodeObject =>
  nodeObject(ctx, findMember(ctx.state.members, member));
