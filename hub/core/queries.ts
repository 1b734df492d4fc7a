import type { Actor } from '../../ledger/events.ts';
import type { MemberRecord } from '../../ledger/state/members.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import type { NodeObject, Page, TaskObject } from '../../node/api/objects.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { pageItemsMax } from '../../protocol/limits.ts';
import { type TaskState, TERMINAL_STATES } from '../../protocol/task.ts';
import { ringHasRoom } from './assign.ts';
import { type FounderContext, freeSlots } from './context.ts';
import { mismatch, unavailable, verifierMismatch } from './fit.ts';
import { unprovable } from './lifecycle.ts';
import { needOf } from './queue.ts';
import { mayRead } from './rights.ts';
import type { Operation } from './types.ts';
import { executorOf, noParty, ownersOf, verifierParties } from './verifiers.ts';
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

/** Why a task is where it is (`task why`): causes of the whole mesh, its place, and a line for each member. */
export interface Why {
  task: string;
  state: TaskState;
  /** What holds it up, mesh-wide; empty where a member below can take it at once. */
  reasons: string[];
  /** Tasks before it; null where it is not queued. */
  position: number | null;
  members: { id: string; name: string; why: string }[];
}

export function why(ctx: FounderContext, id: string): Why {
  const task = ctx.task(id);
  const answer: Why = { task: id, state: task.state, reasons: [], position: null, members: [] };
  if (TERMINAL_STATES.has(task.state)) {
    answer.reasons.push(task.converged?.detail ?? 'it waits for nothing: it has ended');
    return answer;
  }
  answer.reasons.push(...meshWide(ctx));
  if (task.state === 'queued') whyQueued(ctx, task, answer);
  else if (task.state === 'executed') whyExecuted(ctx, task, answer);
  else {
    const open = task.attempts.find((attempt) => attempt.end === null);
    const name = ctx.state.members.byPeer.get(open?.member ?? '')?.name ?? open?.member ?? 'nobody';
    answer.reasons.push(`attempt ${open?.number ?? 0} is with ${name}`);
  }
  return answer;
}

function meshWide(ctx: FounderContext): string[] {
  const reasons: string[] = [];
  if (ctx.state.mesh.paused) reasons.push('the mesh is paused (mesh-hub resume)');
  if (ctx.now < ctx.settledAt) reasons.push('leases of the founder before this one may still run');
  if (!ringHasRoom(ctx)) reasons.push(`all ${ctx.config.ringSlots} slots of the ring are taken`);
  return reasons;
}

function whyQueued(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  answer.position = ctx.queue.before(task.number);
  for (const name of task.spec.secrets) {
    if (!ctx.secrets.has(name))
      answer.reasons.push(`the secret ${name} is not set (mesh-hub secret set ${name})`);
  }
  const due = ctx.queue.notBefore(task.id);
  if (due !== null)
    answer.reasons.push(`it failed and is tried again in ${Math.ceil((due - ctx.now) / 1000)} s`);
  if (task.lastEnd !== null) {
    answer.reasons.push(
      `its last attempt ended: ${task.lastEnd.reason}, ${task.lastEnd.detail ?? 'no detail'}`,
    );
  }
  const need = needOf(task);
  for (const member of activeMembers(ctx)) {
    const live = ctx.live.get(member.peer);
    let said = mismatch(need, member, live, ctx.labelsGiven(member.peer)) ?? unavailable(member, live);
    if (said === null && freeSlots(live!) <= 0) said = 'has no free slot';
    if (said === null && need.avoid.includes(member.peer)) said = 'failed it before; others are tried first';
    answer.members.push({ id: member.peer, name: member.name, why: said ?? 'can take it' });
  }
  const free = answer.members.some((member) => member.why === 'can take it');
  if (answer.reasons.length === 0) {
    answer.reasons.push(free ? `${answer.position} tasks are before it` : 'no member can take it now');
  }
}

function whyExecuted(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const verifying = task.attempts.find((attempt) => attempt.role === 'verify' && attempt.end === null);
  if (verifying !== undefined) {
    const name = ctx.state.members.byPeer.get(verifying.member)?.name ?? verifying.member;
    answer.reasons.push(`${name} verifies it`);
    return;
  }
  const hopeless = unprovable(task) ?? noParty(task, verifierParties(ctx, task));
  answer.reasons.push(
    hopeless === null
      ? 'it waits for a verifier'
      : `it must be verified and cannot be: ${hopeless.replace(/^unverified: /, '')}`,
  );
  const executor = executorOf(ctx, task);
  const owners = ownersOf(ctx);
  for (const member of activeMembers(ctx)) {
    const live = ctx.live.get(member.peer);
    const barred = executor === null ? null : verifierMismatch(task, executor, owners, member, live);
    let said = barred ?? unavailable(member, live);
    if (said === null && freeSlots(live!) <= 0) said = 'has no free slot';
    answer.members.push({ id: member.peer, name: member.name, why: said ?? 'can verify it' });
  }
}

const activeMembers = (ctx: FounderContext): MemberRecord[] =>
  [...ctx.state.members.byPeer.values()].filter((member) => member.standing === 'active');
