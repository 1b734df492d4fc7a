import { activeMembers, nameOf } from '../../../ledger/state/members.ts';
import { openAttempt, type TaskRecord } from '../../../ledger/state/task-record.ts';
import { doubtOf } from '../../../node/views/task.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';
import { needOf } from '../queue/queue.ts';
import { isDue } from '../trust/reverify.ts';
import { nothingSaid, type Why } from './why-answer.ts';
import { attemptWords, whyExecuted, whyRunning } from './why-given.ts';
import { lineFor, whyQueued } from './why-queued.ts';

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
    for (const member of activeMembers(ctx.state.members))
      answer.members.push({ id: member.peer, name: member.name, why: lineFor(ctx, need, member).why });
  }
  return answer;
}

function whyEnded(ctx: FounderContext, task: TaskRecord, answer: Why): void {
  const { converged, verification, lastEnd, id } = task;
  const detail = converged?.detail ?? null;
  if (task.state === 'delivered') {
    const by = verification === null ? '' : ` by ${nameOf(ctx.state.members, verification.member)}`;
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
    const where = lastEnd === null ? '' : ` on ${nameOf(ctx.state.members, lastEnd.member)}`;
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
  const [by, of] = [nameOf(ctx.state.members, reverified.by!), nameOf(ctx.state.members, reverified.of)];
  return [`verified again by ${by}, when ${of}, on whose word it had rested, came into quarantine`];
}
