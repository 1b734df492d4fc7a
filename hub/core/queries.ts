import type { Actor } from '../../ledger/events.ts';
import type { MemberRecord } from '../../ledger/state/members.ts';
import type { NodeObject, Page, TaskObject } from '../../node/api/objects.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { pageItemsMax } from '../../protocol/limits.ts';
import { type TaskState, TERMINAL_STATES } from '../../protocol/task.ts';
import type { FounderContext } from './context.ts';
import { mayRead } from './rights.ts';
import type { Operation } from './types.ts';
import { nodeObject, taskObject } from './views.ts';

type Of<T extends Operation['op']> = Extract<Operation, { op: T }>;

/** Tasks looked at for one page; a page may be short and still have a `next`. */
const scannedMax = 20_000;

/** Newest first, those the asker may see. `cursor` is the number of the last task of the page before. */
export function listTasks(
  ctx: FounderContext,
  by: Actor,
  { states, cursor, limit }: Of<'task.list'>,
): Page<TaskObject> {
  const { order, byId, open } = ctx.state.tasks;
  const from = cursor === null ? order.length - 1 : numberOf(cursor) - 1;
  const wanted = states === null ? null : new Set<TaskState>(states);
  const itemsMax = Math.max(1, Math.min(limit, pageItemsMax));
  const items: TaskObject[] = [];
  // Where only open tasks are asked for, the finished ones of years are not looked at.
  const onlyOpen = states?.every((state) => !TERMINAL_STATES.has(state)) ?? false;
  const numbers = onlyOpen ? [...open].map((id) => byId.get(id)!.number).sort((a, b) => b - a) : null;
  let at = numbers === null ? from : numbers.findIndex((number) => number <= from);
  const step = (): number | null => {
    if (numbers !== null) return at < 0 ? null : (numbers[at++] ?? null);
    return at < 0 ? null : at--;
  };
  let last: number | null = null;
  for (let scanned = 0; scanned < scannedMax && items.length < itemsMax; scanned += 1) {
    last = step();
    if (last === null) return { items, next: null };
    const task = byId.get(order[last]!)!;
    if (wanted !== null && !wanted.has(task.state)) continue;
    if (mayRead(ctx.state.members, by, task.by)) items.push(taskObject(ctx, task));
  }
  return { items, next: last === null || last === 0 ? null : String(last) };
}

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
