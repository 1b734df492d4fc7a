import { activeMembers, type MemberRecord } from '../../../ledger/state/members.ts';
import { isHalted } from '../../../ledger/state/mesh.ts';
import { openQuestion, type TaskRecord } from '../../../ledger/state/task-record.ts';
import { restAfterFaults } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { freeSlots } from '../members/live-member.ts';
import { durability, starved } from '../members/replicas.ts';
import { boundNow, boundsOf, growsAt, raiseCommand, ringHasRoom } from '../placement/capacity.ts';
import { ignoresPolicy, unavailable } from '../placement/fit.ts';
import { unfit } from '../placement/pool.ts';
import { heldBy } from '../queue/holds.ts';
import { type Need, needOf } from '../queue/queue.ts';
import { tooFew } from '../trust/agree.ts';
import { clockAt, seconds, type Wait, type Why } from './why-answer.ts';

/** What all tasks that ask this wait for; for a status, without a look at each of them. */
export function waitOf(ctx: FounderContext, need: Need, due: boolean): Wait {
  if (isHalted(ctx.state.mesh)) return 'paused';
  if (ctx.now < ctx.settledAt) return 'settling';
  if (starved(ctx)) return 'replicas';
  if (need.secrets.some((name) => !ctx.secrets.has(name))) return 'secret';
  if (!due) return 'backOff';
  const lines = activeMembers(ctx.state.members).map((member) => lineFor(ctx, need, member).wait);
  if (lines.includes('turn')) return ringHasRoom(ctx) ? 'turn' : 'capacity';
  if (lines.includes('busy')) return 'busy';
  return lines.includes('unavailable') ? 'unavailable' : 'noFit';
}

/** The first thing that keeps a member from taking what is asked, and what would change it. */
export function lineFor(
  ctx: FounderContext,
  need: Need,
  member: MemberRecord,
): { why: string; wait: Wait; remedy: string | null } {
  const live = ctx.live.get(member.peer);
  const lack = unfit(ctx, need, live, member);
  if (lack !== null) return { why: lack, wait: 'noFit', remedy: null };
  const away = unavailable(member, live);
  if (away !== null) {
    // Whoever is no worker never takes a task, whatever happens to it.
    if (!member.roles.includes('worker')) return { why: away, wait: 'noFit', remedy: null };
    return { why: away, wait: 'unavailable', remedy: remedyFor(ctx, member) };
  }
  if (freeSlots(live!) <= 0) return { why: 'has no free slot', wait: 'busy', remedy: null };
  if (need.avoid.includes(member.peer)) {
    return { why: 'failed it before; others are tried first', wait: 'turn', remedy: null };
  }
  return { why: 'can take it', wait: 'turn', remedy: null };
}

/** What makes a machine that cannot be had take work again. */
export function remedyFor(ctx: FounderContext, member: MemberRecord): string | null {
  const { peer, name, eligible } = member;
  const live = ctx.live.get(peer);
  if (member.quarantined !== undefined) return `mesh-hub node trust ${name}`;
  if (!eligible) return `mesh-hub node eligible ${name}`;
  if (live === undefined || live.session === null || live.capacity === null) {
    return `start it: on ${name}, mesh-node start --detach`;
  }
  if (ignoresPolicy(member, live)) return `install this release on ${name}`;
  if (live.doubtful) return null;
  if (live.restsUntil !== null)
    return live.ownerStops < restAfterFaults ? null : `mesh-hub node eligible ${name}`;
  if (live.capacity.ownerPaused) return `its owner gives it back: on ${name}, mesh-node resume`;
  if (live.backOff !== null && live.backOff.until !== null) return `mesh-hub node eligible ${name}`;
  if (live.capacity.sandbox === null) return `on ${name}, mesh-node doctor says what its sandbox lacks`;
  return `on ${name}, start it with --slots`;
}

/** What a queued task waits for: causes, its place, and a line for each member. */
export function whyQueued(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const question = openQuestion(task);
  if (question !== null) {
    answer.wait = 'answer';
    answer.reasons.push(`it waits for a person’s answer: ${question.text}`);
    answer.remedies.push(`mesh-hub task answer ${task.id} TEXT`);
    return;
  }
  const parked = ctx.plugins.park(ctx, task);
  if (parked !== null) {
    answer.wait = 'held';
    answer.reasons.push(parked);
    return;
  }
  const others = heldBy(ctx, task);
  if (others !== null) {
    answer.wait = 'others';
    answer.reasons.push(others);
    holdUps(ctx, answer);
    return;
  }
  const need = needOf(task);
  const due = ctx.queue.notBefore(task.id);
  answer.position = ctx.queue.before(task);
  answer.wait = waitOf(ctx, need, due === null);
  holdUps(ctx, answer);
  for (const name of task.spec.secrets.filter((one) => !ctx.secrets.has(one))) {
    answer.reasons.push(`the secret ${name} is not set (mesh-hub secret set ${name})`);
    answer.remedies.push(`mesh-hub secret set ${name}`);
  }
  if (due !== null) {
    answer.reasons.push(`it failed and is tried again in ${seconds(due - ctx.now)}, at ${clockAt(ctx, due)}`);
    if (ctx.retries.isSpent(ctx.now)) {
      answer.reasons.push('so many tasks of the mesh failed that they are tried again one by one');
    }
  }
  if (task.lastEnd !== null) {
    const { reason, detail } = task.lastEnd;
    answer.reasons.push(`its last attempt ended: ${reason}, ${detail ?? 'no detail'}`);
  }
  const few = tooFew(ctx, task);
  if (few !== null) {
    answer.reasons.push(few);
    answer.remedies.push('another machine that fits: mesh-hub invite');
  }
  const lines = activeMembers(ctx.state.members).map((member) => {
    const line = lineFor(ctx, need, member);
    const held = line.wait === 'turn' ? ctx.plugins.hold(ctx, task, member.peer) : null;
    return { member, ...(held === null ? line : { why: held, wait: 'held' as const, remedy: null }) };
  });
  const waits = lines.map(({ wait }) => wait);
  if (answer.wait === 'turn' && !waits.includes('turn')) answer.wait = 'held';
  answer.members = lines.map(({ member, why }) => ({ id: member.peer, name: member.name, why }));
  const { position } = answer;
  switch (answer.wait) {
    case 'turn':
      answer.reasons.push(position === 0 ? 'it is next' : `${countOf(position, 'task')} before it`);
      break;
    case 'busy':
      answer.reasons.push(
        `every machine that fits has its slots taken; ${countOf(position, 'task')} before it`,
      );
      answer.remedies.push('wait for a slot, or add a machine: mesh-hub invite');
      break;
    case 'capacity':
      answer.remedies.push(raiseCommand(ctx));
      break;
    case 'held':
      answer.reasons.push(lines.find(({ wait }) => wait === 'held')!.why);
      break;
    case 'unavailable':
      answer.reasons.push('no member can take it now: those that fit cannot be had');
      break;
    case 'noFit':
      answer.reasons.push('no member can take it: none fits');
      answer.remedies.push(`a machine that fits: ${needWords(need)}`);
      if (need.model !== null && need.brain === null) {
        const name = need.model === '*' ? 'NAME' : need.model;
        answer.remedies.push(
          `on a machine with Ollama: ollama pull ${name}; elsewhere: mesh-node models add URL`,
        );
      }
      break;
    default:
  }
  if (answer.wait === 'unavailable' || answer.wait === 'noFit') {
    answer.remedies.push(...lines.flatMap(({ remedy }) => remedy ?? []));
  }
}

/** What holds up every task that waits for a machine. */
export function holdUps(ctx: FounderContext, answer: Why): void {
  if (ctx.state.mesh.paused) {
    answer.reasons.push('the mesh is paused (mesh-hub resume)');
    answer.remedies.push('mesh-hub resume');
  } else if (ctx.state.mesh.draining === true) {
    answer.reasons.push(
      'the mesh is draining: what runs may finish, nothing more is given out (mesh-hub resume)',
    );
    answer.remedies.push('mesh-hub resume');
  }
  if (ctx.now < ctx.settledAt) {
    const left = seconds(ctx.settledAt - ctx.now);
    answer.reasons.push(`leases of the founder before this one may still run, for at most ${left}`);
  }
  if (starved(ctx)) {
    const { replicas, following } = durability(ctx);
    answer.reasons.push(`acknowledgements wait for replicas: ${replicas} of them, and ${following} follow`);
    answer.remedies.push(`start a replica: mesh-node start --detach; or mesh-hub durability ${following}`);
  }
  if (!ringHasRoom(ctx)) answer.reasons.push(boundWords(ctx));
}

/** Why the mesh runs no more attempts than it does. */
function boundWords(ctx: FounderContext): string {
  const { ring, elastic } = boundsOf(ctx);
  const runs = `${ctx.leases.size} attempts run, and the mesh may run ${boundNow(ctx)} now`;
  const at = growsAt(ctx);
  const grows = at === null ? '' : `; ${elastic} in ${seconds(at - ctx.now)}`;
  return `${runs} (ring ${ring}, elastic ${elastic})${grows}`;
}

function needWords({ on, labels, secrets: _, ...rest }: Need): string {
  const words = Object.entries(labels).map(([key, value]) =>
    value === '' ? `label ${key}` : `label ${key}=${value}`,
  );
  if (on !== null) words.unshift(`named ${on}`);
  if (rest.brain !== null) words.push(`the brain ${rest.brain}`);
  if (rest.model !== null) words.push(rest.model === '*' ? 'a model' : `the model ${rest.model}`);
  for (const [tool, range] of Object.entries(rest.tools))
    words.push(range === '*' ? tool : `${tool} ${range}`);
  return words.join(', ') || 'a worker with a sandbox (mesh-hub invite)';
}

const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? ' is' : 's are'}`;
