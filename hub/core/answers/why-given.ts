import { activeMembers, nameOf } from '../../../ledger/state/members.ts';
import type { AttemptRecord, TaskRecord } from '../../../ledger/state/task-record.ts';
import { leaseKey } from '../../../protocol/session.ts';
import { verifierWaitMs } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { unprovable } from '../lifecycle.ts';
import { freeSlots } from '../members/live-member.ts';
import { unavailable, verifierMismatch } from '../placement/fit.ts';
import { declinedByOwner, ownersAskOf } from '../placement/owner-terms.ts';
import { agreementWords, replicaMismatch, secretMissing } from '../trust/agree.ts';
import { barredFromVerifying } from '../trust/trust.ts';
import { executorOf, noParty, ownersOf, verifierParties } from '../trust/verifiers.ts';
import { clockAt, seconds, type Why } from './why-answer.ts';
import { holdUps, remedyFor } from './why-queued.ts';

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

/** What is done with a task that is given out, and the silence of whoever has it. */
export function whyRunning(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const open = task.attempts.findLast((attempt) => attempt.end === null);
  if (open === undefined) {
    answer.reasons.push('it was verified, and is being delivered');
    return;
  }
  answer.reasons.push(attemptWords(ctx, task, open, `attempt ${open.number} is with`));
  silence(ctx, open, answer);
  answer.remedies.push(`mesh-hub task logs -f ${task.id}`);
}

/** `head`, whose attempt it is, what that does now, and for how long. */
export function attemptWords(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: AttemptRecord,
  head: string,
): string {
  const { words, since } = doingOf(ctx, task, attempt);
  return `${head} ${nameOf(ctx.state.members, attempt.member)}: ${words}, for ${seconds(ctx.clock.time - since)}`;
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

/** Who verifies a result, or why nobody does; a line for each member. */
export function whyExecuted(ctx: FounderContext, task: TaskRecord, answer: Why): void {
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
  for (const member of activeMembers(ctx.state.members)) {
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
