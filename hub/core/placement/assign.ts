import { hash } from 'node:crypto';
import { canonicalJson } from '../../../ledger/lines/canonical-json.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import { bundleChain } from '../../../ledger/state/repositories.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { newNonce } from '../../../protocol/ids.ts';
import type { Assignment, AttemptRole } from '../../../protocol/session.ts';
import { assignmentBytesMax, bundlesMax, repositoriesKeptMax } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { converge, openLease } from '../lifecycle.ts';
import type { LiveMember } from '../members/live-member.ts';
import { namesSenders } from '../members/policy-default.ts';
import type { Enclosure } from '../plugin.ts';
import { replicaOf } from '../trust/agree.ts';
import { senderOf } from './owner-terms.ts';

/** How an assignment names who sent the task, whose name is not the member's business. */
export function submitterDigest(by: Actor): string {
  const name = JSON.stringify(by);
  const known = digests.get(name);
  if (known !== undefined) return known;
  const digest = hash('sha256', canonicalJson(by), 'hex');
  if (digests.size >= digestsKept) digests.clear();
  digests.set(name, digest);
  return digest;
}
const digests = new Map<string, string>();
const digestsKept = 256;

/** Leases a task to a member: logged, and sent when that is durable. */
export function assign(ctx: FounderContext, task: TaskRecord, live: LiveMember, role: AttemptRole): void {
  const number = task.attemptCount + 1;
  const nonce = newNonce(ctx.clock.random);
  const { features, peer: member } = live;
  const judges = live.capacity?.accepts?.submitters !== undefined || namesSenders(ctx, live);
  const sender = judges ? senderOf(ctx, task.by) : null;
  const { fields, needed, log } = ctx.plugins.enclose(ctx, task, { member, role, attempt: number, features });
  let assignment = assignmentOf(ctx, task, number, nonce, role, fields);
  const whole = typeof assignment !== 'string';
  // What is sent besides is not what a task may fail for, but for what bounds it.
  if (!whole) assignment = assignmentOf(ctx, task, number, nonce, role, needed);
  const problem = typeof assignment === 'string' ? assignment : null;
  if (problem !== null) {
    converge(ctx, task, { state: 'failed', reason: 'refused', detail: problem });
    return;
  }
  const { id, correlation } = task;
  ctx.append({
    type: 'attempt.assigned',
    body: { task: id, attempt: number, correlation, role, member: live.peer, nonce },
  });
  log(whole);
  if (role === 'execute' && task.executions === 1) ctx.retries.firstStart();
  // An idle member says little, so its first lease runs from here; further ones must not renew those before.
  if (live.leases.size === 0) live.leasedAt = ctx.now;
  openLease(ctx, task, number, null);
  live.assignedAt = ctx.now;
  const times = ctx.times.get(id);
  if (times !== undefined) times.firstAssignedAt ??= ctx.now;
  const repository = task.spec.repository?.id;
  if (repository !== undefined) {
    const others = live.repositories.filter((one) => one !== repository);
    live.repositories = [...others, repository].slice(-repositoriesKeptMax);
  }
  if (sender !== null) assignment = { ...(assignment as Assignment), sender };
  ctx.send(live.peer, { type: 'assign', assignment: assignment as Assignment });
}

/** What the member is sent, or why it cannot be. Checks get no secrets, so a verifier that runs nothing else gets none. */
export function assignmentOf(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: number,
  nonce: string,
  role: AttemptRole,
  enclosed: Enclosure['fields'],
): Assignment | string {
  const { spec, accepted } = task;
  const chain =
    spec.repository === null ? [] : bundleChain(ctx.state.repositories, spec.repository.base, bundlesMax);
  if (chain === null)
    return `the mesh holds no chain of at most ${bundlesMax} bundles to ${spec.repository?.base}`;
  const runs = role === 'execute' || task.schedule?.replicas !== undefined;
  const names = runs ? spec.secrets : [];
  const told = role === 'execute' ? soFar(ctx, task) : {};
  // In the order of its schema: whoever reads it takes it as it stands then.
  const assignment: Assignment = {
    task: task.id,
    attempt,
    epoch: ctx.epoch,
    role,
    correlation: task.correlation,
    spec,
    bundles: chain,
    nonce,
    secrets: Object.fromEntries(names.map((name) => [name, ctx.secrets.get(name) ?? ''])),
    submitter: submitterDigest(task.by),
    ...told,
    ...enclosed,
    verify:
      role === 'execute'
        ? null
        : {
            attempt: accepted!.attempt,
            executor: accepted!.member,
            receipt: accepted!.receipt,
            commit: accepted!.commit,
            bundle: accepted!.bundle,
            ...replicaOf(task),
          },
  };
  // A task alone fits: it stood in a line of the log.
  if (isEmpty(told) && isEmpty(enclosed) && chain.length === 0 && names.length === 0) return assignment;
  const bytes = Buffer.byteLength(JSON.stringify(assignment));
  if (bytes <= assignmentBytesMax) return assignment;
  return `task, bundles and secrets together take ${bytes} bytes; one assignment holds ${assignmentBytesMax}`;
}

function isEmpty(value: object): boolean {
  for (const _ in value) return false;
  return true;
}

type SoFar = Partial<Pick<Assignment, 'answers' | 'start' | 'rejectedBy' | 'failedModels'>>;

/** What was done, asked and answered for a task before, for whoever goes on with it. */
function soFar(ctx: FounderContext, task: TaskRecord): SoFar {
  const said: SoFar = {};
  const answers = (task.questions ?? []).flatMap(({ text, answer }) =>
    answer === null ? [] : [{ question: text, answer: answer.text }],
  );
  if (answers.length > 0) said.answers = answers;
  if (task.continues !== undefined) said.start = task.continues;
  const rejectedBy = (task.rejections ?? []).map(({ model }) => model);
  if (rejectedBy.length > 0) said.rejectedBy = [...new Set(rejectedBy)];
  const failedModels = ctx.failedModels.get(task.id);
  if (failedModels !== undefined) said.failedModels = [...failedModels];
  return said;
}
