import type { Actor } from '../../../ledger/lines/events.ts';
import { activeMembers, type MemberRecord } from '../../../ledger/state/members.ts';
import { isHalted } from '../../../ledger/state/mesh.ts';
import { openQuestion } from '../../../ledger/state/task-record.ts';
import type { Overview } from '../../../node/api/objects.ts';
import { doubtOf } from '../../../node/views/task.ts';
import type { FounderContext } from '../context.ts';
import { clashWarning, clockWarning } from '../members/identity.ts';
import { unreachedNeeds } from '../members/pause.ts';
import { replicaLines, replicaRisks } from '../members/replicas.ts';
import { boundsOf, idleSlots, isCapped, raiseCommand } from '../placement/capacity.ts';
import { mayRead } from '../rights.ts';
import { isDue } from '../trust/reverify.ts';
import { nodeObject } from './views.ts';
import type { Wait } from './why-answer.ts';
import { doingOf } from './why-given.ts';
import { waitOf } from './why-queued.ts';

/** Shown of each kind, at most: a status is for eyes. */
export const machinesShownMax = 64;
const tasksShownMax = 16;
const failuresShownMax = 5;
/** Newest tasks looked at for failures and for results that nobody has verified. */
const lookedAtMax = 1_000;
/** Kinds of tasks (by what they ask) that are held against the members; more are only counted. */
const bucketsMax = 256;
/** Less free space than this on the founder's disk is a risk. */
const diskFreeBytesMin = 2 * 1024 ** 3;
/** A clock this far behind the log's newest entry was set back. */
const clockBackMs = 60_000;

/** What a person at the founder wants to see besides the figures of the mesh; tasks only as far as the asker may read them. */
export function overviewOf(ctx: FounderContext, by: Actor): Overview {
  const active = activeMembers(ctx.state.members);
  const plugins = ctx.plugins.overview(ctx);
  const told = needs(ctx, active, by);
  return {
    machines: machines(ctx, active),
    replicas: replicaLines(ctx, active).slice(0, machinesShownMax),
    waits: waits(ctx),
    tasks: running(ctx, by),
    ...lately(ctx, by),
    needs: [...told, ...plugins.needs],
    risks: [...risks(ctx, active), ...plugins.risks],
  };
}

function machines(ctx: FounderContext, active: MemberRecord[]): Overview['machines'] {
  return active.slice(0, machinesShownMax).map((member) => {
    const { id, name, state, slots, work } = nodeObject(ctx, member);
    return { id, name, state, code: null, slots, work };
  });
}

/** Queued tasks by what they wait for. */
function waits(ctx: FounderContext): Overview['waits'] {
  const counts: Overview['waits'] = {};
  const add = (wait: Wait | 'unknown', count: number): void => {
    if (count > 0) counts[wait] = (counts[wait] ?? 0) + count;
  };
  let due = 0;
  let looked = 0;
  for (const { need, size } of ctx.queue.buckets.values()) {
    due += size;
    looked += 1;
    add(looked > bucketsMax ? 'unknown' : waitOf(ctx, need, true), size);
  }
  add(isHalted(ctx.state.mesh) ? 'paused' : 'backOff', ctx.queue.size - due);
  add('answer', ctx.asking.size);
  add('others', ctx.held.size - ctx.frozen.size);
  add('held', ctx.frozen.size);
  return counts;
}

function running(ctx: FounderContext, by: Actor): Overview['tasks'] {
  const shown: Overview['tasks'] = [];
  for (const lease of ctx.leases.values()) {
    if (shown.length >= tasksShownMax) break;
    const task = ctx.task(lease.lease.task);
    const attempt = task.attempts.find(({ number }) => number === lease.lease.attempt);
    if (attempt === undefined || !mayRead(ctx.state.members, by, task.by)) continue;
    const { phase, since } = doingOf(ctx, task, attempt);
    const name = ctx.state.members.byPeer.get(lease.member)?.name ?? null;
    shown.push({ id: task.id, role: lease.role, member: { id: lease.member, name }, phase, since });
  }
  return shown;
}

/** The last failures, and results that only a person can judge. */
function lately(ctx: FounderContext, by: Actor): Pick<Overview, 'failures' | 'proposals'> {
  const { count, byNumber } = ctx.state.tasks;
  const failures: Overview['failures'] = [];
  const proposals = { count: 0, newest: null as string | null };
  for (let number = count - 1; number >= Math.max(0, count - lookedAtMax); number -= 1) {
    const task = byNumber.get(number);
    if (task === undefined || task.converged === null || !mayRead(ctx.state.members, by, task.by)) continue;
    const { state, verified, reason, detail } = task.converged;
    if (state === 'failed' && failures.length < failuresShownMax) {
      failures.push({ id: task.id, reason, detail, finishedAt: task.finishedAt });
    }
    const waits =
      state === 'delivered' && !verified && task.accepted?.commit != null && task.applied === null;
    if (!waits) continue;
    proposals.count += 1;
    proposals.newest ??= task.id;
  }
  return { failures, proposals };
}

function needs(ctx: FounderContext, active: MemberRecord[], by: Actor): Overview['needs'] {
  const found: Overview['needs'] = [];
  for (const id of ctx.asking) {
    if (found.length >= tasksShownMax) break;
    const task = ctx.task(id);
    if (!mayRead(ctx.state.members, by, task.by)) continue;
    const what = `task ${id} waits for an answer to “${openQuestion(task)?.text ?? ''}”`;
    found.push({ what, command: `mesh-hub task answer ${id} TEXT` });
  }
  const secrets = new Map<string, number>();
  for (const { need, size } of ctx.queue.buckets.values()) {
    for (const name of need.secrets) {
      if (!ctx.secrets.has(name)) secrets.set(name, (secrets.get(name) ?? 0) + size);
    }
  }
  for (const [name, count] of secrets) {
    const what = `${count} ${count === 1 ? 'task waits' : 'tasks wait'} for the secret ${name}`;
    found.push({ what, command: `mesh-hub secret set ${name}` });
  }
  if (isCapped(ctx)) {
    const { ring, elastic } = boundsOf(ctx);
    const idle = idleSlots(ctx);
    const what = `tasks wait while ${idle} ${idle === 1 ? 'slot is' : 'slots are'} idle: the mesh may run ${elastic} attempts (ring ${ring}, elastic ${elastic})`;
    found.push({ what, command: raiseCommand(ctx) });
  }
  found.push(...unreachedNeeds(ctx), ...contradictions(ctx, by));
  for (const { peer, name, quarantined } of active) {
    if (quarantined !== undefined) found.push(quarantineNeed(ctx, peer, name));
    const live = ctx.live.get(peer);
    for (const what of [clashWarning(ctx, live, name), clockWarning(live, name)]) {
      if (what !== null) found.push({ what, command: null });
    }
  }
  return found;
}

/** Delivered results that were verified again and did not pass: what became of them only a person can judge. Until they are run again. */
function contradictions(ctx: FounderContext, by: Actor): Overview['needs'] {
  const { count, byNumber } = ctx.state.tasks;
  const repeated = new Set<string>();
  const found: Overview['needs'] = [];
  for (let number = count - 1; number >= Math.max(0, count - lookedAtMax); number -= 1) {
    const task = byNumber.get(number);
    if (task === undefined || !mayRead(ctx.state.members, by, task.by)) continue;
    if (task.rerunOf !== null) repeated.add(task.rerunOf);
    const { reverified, id } = task;
    if (reverified?.outcome !== 'contradicted' || repeated.has(id) || found.length >= tasksShownMax) continue;
    const name = ctx.state.members.byPeer.get(reverified.by ?? '')?.name ?? reverified.by;
    const applied = task.applied === null ? '' : ', and it was applied';
    const what = `task ${id} was delivered${applied}; ${name} verified it again, and it did not pass`;
    found.push({ what, command: `mesh-hub task rerun ${id}` });
  }
  return found;
}

/** What rests on the word of a machine in quarantine is to be done again, by another one. */
function quarantineNeed(ctx: FounderContext, peer: string, name: string): Overview['needs'][number] {
  const { count, byNumber } = ctx.state.tasks;
  const resting: string[] = [];
  let underWay = false;
  for (let number = count - 1; number >= Math.max(0, count - lookedAtMax); number -= 1) {
    const task = byNumber.get(number);
    const by = task?.converged?.verified === true ? task.verification?.member : task?.accepted?.member;
    if (task === undefined || by !== peer || doubtOf(ctx.state, task) === null) continue;
    if (task.reverified?.outcome === 'contradicted') continue;
    underWay ||= ctx.again.open.has(task.id) || isDue(ctx, task) !== null;
    resting.push(task.id);
  }
  const [newest] = resting;
  if (newest === undefined) return { what: `${name} is in quarantine`, command: `mesh-hub trust show` };
  const rest = resting.length === 1 ? '1 result rests' : `${resting.length} results rest`;
  const what = `${name} is in quarantine, and ${rest} on its word alone, ${newest} the newest${underWay ? '; what others can verify is verified again' : ''}`;
  return { what, command: `mesh-hub task rerun ${newest}` };
}

/** What can be lost or cannot be had as things stand; also among the warnings. */
export function risks(ctx: FounderContext, active: MemberRecord[]): string[] {
  const said = replicaRisks(ctx, active);
  const founder = ctx.state.mesh.founder;
  if (ctx.lacking > 0) {
    const files = ctx.lacking === 1 ? '1 file' : `${ctx.lacking} files`;
    said.push(
      `${files} of the founder before (results, logs, code) are not here yet: fetched from whoever has them`,
    );
  }
  const workers = active.filter((member) => member.roles.includes('worker'));
  const able = workers.some(({ peer }) => {
    const live = ctx.live.get(peer);
    return live !== undefined && live.session !== null && live.capacity?.sandbox != null;
  });
  if (!able) said.push('no member that is online has a working sandbox: no task can run');
  else if (workers.length === 1) {
    said.push(`${workers[0]!.name} is the only machine that works: nobody else can verify what it does`);
  }
  const free = ctx.live.get(founder ?? '')?.capacity?.diskFreeBytes ?? null;
  if (free !== null && free < diskFreeBytesMin) {
    said.push(`the founder's disk is nearly full: ${Math.floor(free / 1024 ** 2)} MiB are free`);
  }
  const behind = ctx.state.mesh.time - ctx.clock.time;
  if (behind > clockBackMs) {
    said.push(`the founder's clock is ${Math.round(behind / 1000)} s behind its own log: it was set back`);
  }
  return said;
}
