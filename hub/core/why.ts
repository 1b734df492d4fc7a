import type { MemberRecord } from '../../ledger/state/members.ts';
import { isHalted } from '../../ledger/state/mesh.ts';
import {
  type AttemptRecord,
  openAttempt,
  openQuestion,
  type TaskRecord,
} from '../../ledger/state/task-record.ts';
import { doubtOf } from '../../node/views/task.ts';
import { leaseKey } from '../../protocol/session.ts';
import { type TaskState, TERMINAL_STATES } from '../../protocol/task.ts';
import { agreementWords, replicaMismatch, secretMissing, tooFew } from './agree.ts';
import { boundNow, boundsOf, growsAt, raiseCommand, ringHasRoom } from './capacity.ts';
import { verifierWaitMs } from './config.ts';
import type { FounderContext } from './context.ts';
import { ignoresPolicy, mismatch, unavailable, verifierMismatch } from './fit.ts';
import { heldBy } from './holds.ts';
import { unprovable } from './lifecycle.ts';
import { freeSlots } from './live-member.ts';
import { declinedByOwner, ownersAskOf } from './owner-terms.ts';
import { type Need, needOf } from './queue.ts';
import { durability, starved } from './replicas.ts';
import { isDue } from './reverify.ts';
import { barredFromVerifying } from './trust.ts';
import { executorOf, noParty, ownersOf, verifierParties } from './verifiers.ts';

/**
 * What a queued task waits for, the first that holds: a person's answer, other tasks, the mesh to be resumed, leases of the founder before this one, replicas to follow, a
 * secret, its back-off, a machine that fits at all, one of those that fit to be had, one of them to have a free slot,
 * the mesh to be allowed more attempts, one of those that a plugin lets it be given to. `turn`: for those before it.
 */
export type Wait =
  | 'answer'
  | 'others'
  | 'paused'
  | 'settling'
  | 'replicas'
  | 'secret'
  | 'backOff'
  | 'noFit'
  | 'unavailable'
  | 'busy'
  | 'capacity'
  | 'held'
  | 'turn';

/** Why a task is where it is (`task why`): causes of the whole mesh, its place, and a line for each member. */
export interface Why {
  task: string;
  state: TaskState;
  /** Of a queued task; else null. */
  wait: Wait | null;
  /** What holds it up, mesh-wide; of one that runs, what it does; of one that has ended, how. Never empty. */
  reasons: string[];
  /** Tasks before it; null where it is not queued. */
  position: number | null;
  members: { id: string; name: string; why: string }[];
  /** What would have to change for it to go on, or what can be done with it now. */
  remedies: string[];
}

/** Why this task is where it is. Reads what is known and changes nothing. */
export function why(ctx: FounderContext, id: string): Why {
  const task = ctx.task(id);
  const answer = nothingSaid(task);
  if (TERMINAL_STATES.has(task.state)) whyEnded(ctx, task, answer);
  else if (task.state === 'queued') whyQueued(ctx, task, answer);
  else if (task.state === 'executed') whyExecuted(ctx, task, answer);
  else whyRunning(ctx, task, answer);
  return answer;
}

/** Why a task that is queued nowhere would wait, were it sent now; what each member says too where others hold it up. */
export function whyNew(ctx: FounderContext, task: TaskRecord): Why {
  const answer = nothingSaid(task);
  whyQueued(ctx, task, answer);
  if (answer.wait === 'others') {
    const need = needOf(task);
    for (const member of activeMembers(ctx))
      answer.members.push({ id: member.peer, name: member.name, why: lineFor(ctx, need, member).why });
  }
  return answer;
}

const nothingSaid = ({ id, state }: TaskRecord): Why => ({
  task: id,
  state,
  wait: null,
  reasons: [],
  position: null,
  members: [],
  remedies: [],
});

// ── queued ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What all tasks that ask this wait for; for a status, without a look at each of them. */
export function waitOf(ctx: FounderContext, need: Need, due: boolean): Wait {
  if (isHalted(ctx.state.mesh)) return 'paused';
  if (ctx.now < ctx.settledAt) return 'settling';
  if (starved(ctx)) return 'replicas';
  if (need.secrets.some((name) => !ctx.secrets.has(name))) return 'secret';
  if (!due) return 'backOff';
  const lines = activeMembers(ctx).map((member) => lineFor(ctx, need, member).wait);
  if (lines.includes('turn')) return ringHasRoom(ctx) ? 'turn' : 'capacity';
  if (lines.includes('busy')) return 'busy';
  return lines.includes('unavailable') ? 'unavailable' : 'noFit';
}

/** The first thing that keeps a member from taking what is asked, and what would change it. */
function lineFor(
  ctx: FounderContext,
  need: Need,
  member: MemberRecord,
): { why: string; wait: Wait; remedy: string | null } {
  const live = ctx.live.get(member.peer);
  const unfit =
    mismatch(need, member, live, ctx.labelsGiven(member.peer), ctx.lentTo(member.peer)) ??
    declinedByOwner(ctx, need, live);
  if (unfit !== null) return { why: unfit, wait: 'noFit', remedy: null };
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
function remedyFor(ctx: FounderContext, member: MemberRecord): string | null {
  const { peer, name, eligible } = member;
  const live = ctx.live.get(peer);
  if (member.quarantined !== undefined) return `mesh-hub node trust ${name}`;
  if (!eligible) return `mesh-hub node eligible ${name}`;
  if (live === undefined || live.session === null || live.capacity === null) {
    return `start it: on ${name}, mesh-node start --detach`;
  }
  if (ignoresPolicy(member, live)) return `install this release on ${name}`;
  if (live.doubtful || live.restsUntil !== null) return null;
  if (live.capacity.ownerPaused) return `its owner gives it back: on ${name}, mesh-node resume`;
  if (live.backOff !== null && live.backOff.until !== null) return `mesh-hub node eligible ${name}`;
  if (live.capacity.sandbox === null) return `on ${name}, mesh-node doctor says what its sandbox lacks`;
  return `on ${name}, start it with --slots`;
}

function whyQueued(ctx: FounderContext, task: TaskRecord, answer: Why): void {
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
  const lines = activeMembers(ctx).map((member) => {
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
function holdUps(ctx: FounderContext, answer: Why): void {
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

// ── under way ───────────────────────────────────────────────────────────────────────────────────────────────────

const PHASES: Record<string, string> = {
  fetch: 'fetching its input',
  prepare: 'preparing its workspace',
  run: 'running its command',
  check: 'running its checks',
  converge: 'collecting its result',
};

/** What an open attempt does now, in words, and since when (Unix ms by the log). */
export function doingOf(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: AttemptRecord,
): { phase: string; words: string; since: number } {
  const lease = ctx.leases.get(leaseKey({ task: task.id, attempt: attempt.number, epoch: attempt.epoch }));
  const since = attempt.startedAt ?? attempt.assignedAt;
  if (lease?.collecting === true) return { phase: 'collect', words: 'its result is being fetched', since };
  if (lease !== undefined && lease.suspendedAt !== null) {
    const words = 'suspended, because the machine’s owner is there';
    return { phase: 'suspended', words, since: ctx.clock.time - (ctx.now - lease.suspendedAt) };
  }
  const phase = lease?.phase ?? (attempt.startedAt === null ? 'assigned' : attempt.role);
  const begun = attempt.role === 'verify' ? 'verifying it' : 'running';
  const words = PHASES[phase] ?? (attempt.startedAt === null ? 'given to it, not begun yet' : begun);
  return { phase, words, since };
}

function whyRunning(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const open = task.attempts.findLast((attempt) => attempt.end === null);
  if (open === undefined) {
    answer.reasons.push('it was verified, and is being delivered');
    return;
  }
  answer.reasons.push(attemptWords(ctx, task, open, `attempt ${open.number} is with`));
  silence(ctx, open, answer);
  answer.remedies.push(`mesh-hub task logs -f ${task.id}`);
}

function attemptWords(ctx: FounderContext, task: TaskRecord, attempt: AttemptRecord, head: string): string {
  const { words, since } = doingOf(ctx, task, attempt);
  return `${head} ${nameOf(ctx, attempt.member)}: ${words}, for ${seconds(ctx.clock.time - since)}`;
}

/** A member that says nothing keeps its task until its lease is over. */
function silence(ctx: FounderContext, { member }: AttemptRecord, answer: Why): void {
  const live = ctx.live.get(member);
  if (live?.session === null) {
    answer.reasons.push(
      `its connection closed; it is waited for until ${clockAt(ctx, live.awaitedUntil)}, then the task goes elsewhere`,
    );
  } else if (live?.doubtful === true) {
    answer.reasons.push(`nothing was heard from it for ${seconds(ctx.now - live.heardAt)}`);
  }
}

function whyExecuted(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const verifying = task.attempts.find((attempt) => attempt.role === 'verify' && attempt.end === null);
  if (verifying !== undefined) {
    answer.reasons.push(attemptWords(ctx, task, verifying, 'done; it is being verified by'));
    silence(ctx, verifying, answer);
    return;
  }
  holdUps(ctx, answer);
  const executor = executorOf(ctx, task);
  const owners = ownersOf(ctx);
  const parties = verifierParties(ctx, task);
  const hopeless = unprovable(task) ?? noParty(task, parties);
  if (hopeless === null) whyUnverified(ctx, task, owners, answer);
  else {
    answer.reasons.push(`it must be verified and cannot be: ${hopeless.replace(/^unverified: /, '')}`);
    if (unprovable(task) === null) answer.remedies.push(otherParty(owners, executor?.owner));
    answer.remedies.push(`mesh-hub task stop ${task.id}`);
  }
  for (const member of activeMembers(ctx)) {
    const live = ctx.live.get(member.peer);
    const barred =
      executor === null
        ? null
        : (verifierMismatch(task, executor, owners, member, live) ??
          replicaMismatch(ctx, task, member) ??
          declinedByOwner(ctx, ownersAskOf(task, 'verify'), live) ??
          barredFromVerifying(ctx, executor.peer, member, parties));
    const away = barred ?? unavailable(member, live);
    const said = away ?? (freeSlots(live!) <= 0 ? 'has no free slot' : 'can verify it');
    answer.members.push({ id: member.peer, name: member.name, why: said });
    const remedy =
      barred === null && away !== null
        ? remedyFor(ctx, member)
        : barred?.startsWith('is not trusted yet') === true
          ? `mesh-hub node trust ${member.name} --vouch`
          : null;
    if (remedy !== null && hopeless === null && member.roles.includes('worker')) answer.remedies.push(remedy);
  }
}

function whyUnverified(ctx: FounderContext, task: TaskRecord, owners: number, answer: Why): void {
  const executor = executorOf(ctx, task);
  const whose = owners > 1 ? ` of another owner than ${executor?.owner ?? 'its executor’s'}` : '';
  const agreed = agreementWords(task);
  answer.reasons.push(
    agreed === null ? `done; it waits for a verifier${whose}` : `${agreed}; it waits for another${whose}`,
  );
  const missing = secretMissing(ctx, task);
  if (missing !== null) {
    answer.reasons.push(`the secret ${missing} is not set (mesh-hub secret set ${missing})`);
    answer.remedies.push(`mesh-hub secret set ${missing}`);
  }
  const waiting = ctx.unverified.get(task.id);
  if (waiting !== undefined && waiting.retryAt > ctx.now) {
    const left = seconds(waiting.retryAt - ctx.now);
    answer.reasons.push(
      `a verifier failed; another is drawn in ${left}, at ${clockAt(ctx, waiting.retryAt)}`,
    );
  }
  if (agreed !== null) answer.reasons.push('it waits as long as that takes: --agree');
  else if (task.spec.requireVerified)
    answer.reasons.push('it waits as long as that takes: --require-verified');
  else if (waiting !== undefined && waiting.aloneSince !== null) {
    const left = seconds(verifierWaitMs - (ctx.now - waiting.aloneSince));
    answer.reasons.push(`none can be had; it goes out unverified in ${left}`);
  }
}

const otherParty = (owners: number, owner: string | undefined): string =>
  owners > 1
    ? `a worker of another owner than ${owner ?? 'its executor’s'}: mesh-hub invite --owner NAME`
    : 'a second machine that works: mesh-hub invite';

// ── ended ───────────────────────────────────────────────────────────────────────────────────────────────────────

function whyEnded(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const { converged, verification, lastEnd, id } = task;
  const detail = converged?.detail ?? null;
  if (task.state === 'delivered') {
    const by = verification === null ? '' : ` by ${nameOf(ctx, verification.member)}`;
    const proved = converged?.verified === true;
    answer.reasons.push(proved ? `delivered, verified${by}` : `delivered; ${detail ?? 'unverified'}`);
    const doubt = doubtOf(ctx.state, task);
    if (doubt !== null) {
      answer.reasons.push(doubt);
      answer.remedies.push(`mesh-hub task rerun ${id}`);
    }
    answer.reasons.push(...againWords(ctx, task));
    if (task.accepted?.commit != null)
      answer.remedies.push(`mesh-hub task diff ${id}`, `mesh-hub task apply ${id}`);
    return;
  }
  if (task.state === 'failed') {
    const where = lastEnd === null ? '' : ` on ${nameOf(ctx, lastEnd.member)}`;
    const tries = task.executions === 1 ? 'after 1 attempt' : `after ${task.executions} attempts`;
    answer.reasons.push(
      `failed${where}, ${tries}: ${converged?.reason ?? 'no reason'}, ${detail ?? 'no detail'}`,
    );
    if (task.partial !== undefined) answer.remedies.push(`mesh-hub task continue ${id} TEXT`);
    answer.remedies.push(`mesh-hub task logs ${id}`);
    // Again with as little it would end the same way.
    if (converged?.reason === 'budget')
      answer.remedies.push('send it with more (--turns, --tokens); limits of the mesh: mesh-hub budget show');
    else answer.remedies.push(`mesh-hub task rerun ${id}`);
    return;
  }
  answer.reasons.push(detail ?? 'it waits for nothing, it has ended');
}

/** What is done, or was found, about the word that it rested on. */
function againWords(ctx: FounderContext, task: TaskRecord): string[] {
  const open = ctx.again.open.has(task.id) ? openAttempt(task, 'verify') : null;
  if (open !== null) return [attemptWords(ctx, task, open, 'it is being verified again by')];
  if (isDue(ctx, task) !== null) {
    return ['it is verified again by itself, by another party, when a slot is free that no task wants'];
  }
  const { reverified } = task;
  if (reverified?.outcome !== 'confirmed') return [];
  const [by, of] = [nameOf(ctx, reverified.by!), nameOf(ctx, reverified.of)];
  return [`verified again by ${by}, when ${of}, on whose word it had rested, came into quarantine`];
}

// ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────

export const activeMembers = (ctx: FounderContext): MemberRecord[] =>
  [...ctx.state.members.byPeer.values()].filter((member) => member.standing === 'active');

const nameOf = (ctx: FounderContext, peer: string): string =>
  ctx.state.members.byPeer.get(peer)?.name ?? peer;

const seconds = (ms: number): string => `${Math.max(0, Math.ceil(ms / 1000))} s`;

/** The time of day, UTC, of a monotonic moment. */
const clockAt = (ctx: FounderContext, at: number): string =>
  `${new Date(ctx.clock.time + at - ctx.now).toISOString().slice(11, 19)}Z`;

const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? ' is' : 's are'}`;
