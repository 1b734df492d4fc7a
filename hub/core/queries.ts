import type { Selection } from '../../ledger/archive.ts';
import type { Actor } from '../../ledger/events.ts';
import type { MemberRecord } from '../../ledger/state/members.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import type { NodeObject, Page, TaskObject } from '../../node/api/objects.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { pageItemsMax } from '../../protocol/limits.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import { lookedUpMax, recalledTasksMax } from './config.ts';
import type { FounderContext } from './context.ts';
import { allowed, mayRead } from './rights.ts';
import type { Operation } from './types.ts';
import { nodeObject, taskObject } from './views.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** Tasks looked at for one page; a page may be short and still have a `next`. */
const scannedMax = 20_000;

/**
 * Newest first, those the asker may see. `cursor` is the number of the last task of the page before. Of tasks that have
 * left the state it has those that were recalled, and ends before the first that was not `looked` at.
 */
export function listTasks(
  ctx: FounderContext,
  by: Actor,
  operation: Of<'task.list'>,
  looked: readonly number[] = [],
): Page<TaskObject> {
  const { numbers, more } = candidates(ctx, operation);
  const recalled = new Map([...ctx.recalled.values()].map((task) => [task.number, task]));
  const passed = new Set(looked);
  const itemsMax = itemsOf(operation);
  const items: TaskObject[] = [];
  for (const [at, number] of numbers.entries()) {
    if (items.length >= itemsMax) return { items, next: String(numbers[at - 1]) };
    const task = ctx.state.tasks.byNumber.get(number) ?? recalled.get(number);
    if (task !== undefined && isListed(ctx, by, operation, task)) items.push(taskObject(ctx, task));
    if (task === undefined && !passed.has(number)) return { items, next: String(number + 1) };
  }
  return { items, next: more ? String(numbers.at(-1)) : null };
}

/** What is to be read from the log for this page; null: nothing. */
export function wantedForList(ctx: FounderContext, by: Actor, operation: Of<'task.list'>): Selection | null {
  const itemsMax = itemsOf(operation);
  const numbers: number[] = [];
  let held = 0;
  for (const number of candidates(ctx, operation).numbers) {
    const task = ctx.state.tasks.byNumber.get(number);
    if (task === undefined) numbers.push(number);
    else if (isListed(ctx, by, operation, task)) held += 1;
    if (held >= itemsMax || numbers.length >= lookedUpMax) break;
  }
  if (numbers.length === 0) return null;
  const own = by.kind === 'peer' && !allowed(ctx.state.members, by, 'read') ? by.peer : null;
  const limit = Math.min(itemsMax, recalledTasksMax);
  return { numbers, states: operation.states, by: own, limit };
}

/** Numbers of the tasks that are looked at for a page, and whether there are others after them. */
function candidates(
  ctx: FounderContext,
  { states, cursor }: Of<'task.list'>,
): { numbers: number[]; more: boolean } {
  const { count, byId, open } = ctx.state.tasks;
  const before = Math.min(count, cursor === null ? count : numberOf(cursor));
  // Where only open tasks are asked for, the finished ones of years are not looked at.
  if (states?.every((state) => !TERMINAL_STATES.has(state))) {
    const all = [...open].map((id) => byId.get(id)!.number).filter((number) => number < before);
    all.sort((a, b) => b - a);
    return { numbers: all.slice(0, scannedMax), more: all.length > scannedMax };
  }
  const length = Math.min(before, scannedMax);
  return { numbers: Array.from({ length }, (_, at) => before - 1 - at), more: before > length };
}

const itemsOf = ({ limit }: Of<'task.list'>): number => Math.max(1, Math.min(limit, pageItemsMax));

const isListed = (ctx: FounderContext, by: Actor, { states }: Of<'task.list'>, task: TaskRecord): boolean =>
  (states === null || states.includes(task.state)) && mayRead(ctx.state.members, by, task.by);

function numberOf(cursor: string): number {
  if (/^(0|[1-9][0-9]{0,14})$/.test(cursor)) return Number(cursor);
  throw new SuperfleetError('SF_USAGE', 'no such cursor', {
    expected: 'the `next` of the page before',
    got: cursor,
  });
}

/** Of these commits, those the mesh can hand out. */
export const knownCommits = (ctx: FounderContext, commits: string[]): { commits: string[] } => ({
  commits: commits.slice(0, 4096).filter((commit) => ctx.state.repositories.has(commit)),
});

/** The member of this name or peer id, else the one last revoked that had it. Throws `SF_NOT_FOUND`. */
export function findMember(ctx: FounderContext, nameOrPeer: string): MemberRecord {
  const { byName, byPeer } = ctx.state.members;
  const known =
    byPeer.get(byName.get(nameOrPeer) ?? nameOrPeer) ?? formerMember(ctx, nameOrPeer, ['revoked']);
  if (known?.standing === 'active' || known?.standing === 'revoked') return known;
  throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${nameOrPeer}`, {
    hint: 'mesh-hub node list',
  });
}

/** Who last had this name and is no member any more. */
export function formerMember(
  ctx: FounderContext,
  name: string,
  standings: MemberRecord['standing'][] = ['revoked', 'left'],
): MemberRecord | null {
  const had = [...ctx.state.members.byPeer.values()].filter(
    (member) => member.name === name && standings.includes(member.standing),
  );
  return had.at(-1) ?? null;
}

export const getNode = (ctx: FounderContext, member: string): NodeObject =>
  nodeObject(ctx, findMember(ctx, member));
