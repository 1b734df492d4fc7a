/** One text of a source that stands there exactly once, and what is put in its place. */
export interface Patch {
  file: string;
  from: string;
  to: string;
}

/** A planted bug. */
export interface Mutation {
  name: string;
  patches: Patch[];
}

const patch = (file: string, from: string, to: string): Patch => ({ file, from, to });
const TASKS = 'ledger/state/tasks.ts';

/**
 * Bugs that the simulator must find. Where a reducer refuses what the bug decides, the reducer is taken in as well: what is
 * shown is that the checkers see it, not that the state machine does.
 */
export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'an effect is released one entry before it is durable',
    patches: [
      patch(
        'hub/core/gate.ts',
        'this.#held[this.#head]!.after <= this.#durable',
        'this.#held[this.#head]!.after - 1 <= this.#durable',
      ),
    ],
  },
  {
    name: 'answers wait for nothing',
    patches: [
      patch(
        'hub/core/context.ts',
        'effect.after = after',
        "effect.after = effect.type === 'answer' ? -1 : after",
      ),
    ],
  },
  {
    name: 'the start of an attempt is logged after its end',
    patches: [patch('hub/core/lifecycle.ts', '  ctx.starts.before(ctx, lease);\n', '')],
  },
  {
    name: 'a task that a machine lost is not queued again',
    patches: [
      patch(
        'hub/core/lifecycle.ts',
        'ctx.queue.add(task, times, ctx.now);',
        "if (last?.reason !== 'lost') ctx.queue.add(task, times, ctx.now);",
      ),
    ],
  },
  {
    name: 'a task is given out and stays in the queue',
    patches: [
      patch('hub/core/placement/dispatch.ts', 'ctx.queue.serve(task.id);', ''),
      patch(TASKS, "need(entry, task.state === 'queued',", 'need(entry, true,'),
    ],
  },
  {
    name: 'the number of an attempt is used again',
    patches: [
      patch(
        'hub/core/placement/assign.ts',
        'const number = task.attemptCount + 1;',
        'const number = task.executions + 1;',
      ),
      patch(TASKS, 'need(entry, number === task.attemptCount + 1,', 'need(entry, true,'),
    ],
  },
  {
    name: 'the founder counts time by the wall clock',
    patches: [patch('hub/core/context.ts', 'return this.clock.now;', 'return this.clock.time;')],
  },
  {
    name: 'the fence is skipped: a late result is accepted',
    patches: [
      patch(
        'hub/core/results/results.ts',
        'if (attempt.end !== null || lease === undefined) onLate(ctx, task, attempt, result);',
        `if (lease === undefined && task.state === 'queued' && attempt.end?.kind === 'ended') {
    attempt.end = null;
    onCurrent(ctx, task, attempt, openLease(ctx, task, attempt.number, null), result);
  } else if (attempt.end !== null || lease === undefined) onLate(ctx, task, attempt, result);`,
      ),
      patch(
        'hub/core/results/results.ts',
        "import { dropLease, endLease, settle } from '../lifecycle.ts';",
        "import { dropLease, endLease, openLease, settle } from '../lifecycle.ts';",
      ),
    ],
  },
  {
    name: 'a result that proves nothing is accepted',
    patches: [
      patch(
        'hub/core/results/check-result.ts',
        "if (code !== 'SF_NOT_PROVED') throw error;",
        `if (code !== 'SF_NOT_PROVED') throw error;
    const facts = { checksChanged: [], work: null };
    if (attempt.role === 'execute') return { role: 'execute', result, digest: '0'.repeat(64), facts };`,
      ),
    ],
  },
  {
    name: 'the executor may verify its own result',
    patches: [
      patch('hub/core/placement/fit.ts', "if (member.peer === executor.peer) return 'executed it';", ''),
      patch(
        'hub/core/placement/fit.ts',
        'if (owners > 1 && member.owner === executor.owner)',
        'if (owners > 99)',
      ),
      patch(
        TASKS,
        "need(entry, member !== task.accepted!.member, 'the executor may not verify its own result');",
        '',
      ),
    ],
  },
  {
    name: 'a machine of the executor’s owner may verify',
    patches: [
      patch(
        'hub/core/placement/fit.ts',
        'if (owners > 1 && member.owner === executor.owner)',
        'if (owners > 99)',
      ),
    ],
  },
  {
    name: 'what the verifier says against a result is not heard',
    patches: [
      patch(
        'hub/core/lifecycle.ts',
        'if (verification?.passed === false && !leftUndecided(task)) {',
        'if (verification?.passed === false && task.attempts.length > 99) {',
      ),
    ],
  },
  {
    name: 'an unverified result is worth 0.9',
    patches: [
      patch('hub/core/lifecycle.ts', 'confidence: confidenceOf(task) ?? 0,', 'confidence: 0.9,'),
      patch(
        TASKS,
        'need(entry, body.verified || body.confidence <= CONFIDENCE.ownChecks, unverifiedClaim(body));',
        '',
      ),
      patch(TASKS, 'need(entry, !unsure || body.confidence <=', 'need(entry, true || body.confidence <='),
    ],
  },
  {
    name: 'the operator’s pause is forgotten when a founder starts',
    patches: [
      patch(
        'ledger/state/mesh.ts',
        '...(saved as MeshFacts), handovers',
        '...(saved as MeshFacts), paused: false, handovers',
      ),
    ],
  },
  {
    name: 'work is given out while the mesh is paused',
    patches: [patch('hub/core/placement/dispatch.ts', 'if (isHalted(ctx.state.mesh) || ctx', 'if (ctx')],
  },
  {
    name: 'the owner’s pause is forgotten when a member starts',
    patches: [
      patch('node/core/offer.ts', 'this.ownerPaused = restored.ownerPaused;', 'this.ownerPaused = false;'),
    ],
  },
  {
    name: 'the owner’s pause stops nothing that runs',
    patches: [
      patch(
        'node/core/member.ts',
        "if (act !== 'resume') this.#attempts",
        "if (act === 'shutdown') this.#attempts",
      ),
    ],
  },
  {
    name: 'the owner’s policy stops nothing that runs',
    patches: [patch('node/core/member.ts', "this.#attempts.stopAll('policy');", '')],
  },
  {
    name: 'what its owner suspends runs on',
    patches: [patch('node/core/member.ts', "this.#out.push({ type: 'suspend' });", '')],
  },
  {
    name: 'an owner who stays is not yielded to',
    patches: [
      patch('node/core/member.ts', 'now - this.#suspendedAt >= this.#evictMs) this', 'now < 0) this'),
    ],
  },
  {
    name: 'what was suspended does not go on when its owner goes',
    patches: [patch('node/core/member.ts', 'if (bar === null) this.#goOn();', 'if (bar === null) {}')],
  },
  {
    name: 'an eviction counts against the task',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        "owner: { fault: 'person', reason",
        "owner: { fault: 'task', reason",
      ),
    ],
  },
  {
    name: 'an eviction counts against the machine',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        "owner: { fault: 'person', reason",
        "owner: { fault: 'machine', reason",
      ),
    ],
  },
  {
    name: 'the fence of the epoch is down: a founder of an epoch that is over is obeyed',
    patches: [
      patch(
        'node/core/member.ts',
        "message.type === 'welcome' && message.epoch < this.#epoch",
        "message.type === 'welcome' && message.epoch < 0",
      ),
    ],
  },
  {
    name: 'a person’s stop does not reach the machine',
    patches: [
      patch(
        'hub/core/lifecycle.ts',
        "ctx.send(lease.member, { type: 'cancel', ...lease.lease,",
        "if (why !== 'cancelled') ctx.send(lease.member, { type: 'cancel', ...lease.lease,",
      ),
    ],
  },
  {
    name: 'a lease outlives its grace',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        'ctx.now + ctx.config.graceMs;',
        'ctx.now + 60 * ctx.config.graceMs;',
      ),
    ],
  },
  {
    name: 'a lease outlives the silence of its member',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        'if (silent < config.leaseMs + idleMs) continue;',
        'if (silent < 4 * config.leaseMs) continue;',
      ),
    ],
  },
  {
    name: 'a member works on without a word from the founder',
    patches: [
      patch(
        'node/core/member.ts',
        'if (now - this.#heardAt >= this.#leaseMs) this',
        'if (now - this.#heardAt >= 4 * this.#leaseMs) this',
      ),
    ],
  },
  {
    name: 'a member goes on with a lease that its founder has given up',
    patches: [
      patch(
        'node/core/attempts.ts',
        `if (!resumed.has(key)) this.#stop(attempt, 'superseded');
          else {`,
        '{',
      ),
    ],
  },
  {
    name: 'a founder goes on with a lease that its member does not hold',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        '} else missing.push(lease);',
        '} else resume.push(lease.lease);',
      ),
    ],
  },
  {
    name: 'what a task failed with is tried again at once',
    patches: [
      patch('hub/core/lifecycle.ts', "last.fault === 'task' ? now + wait() : now;", 'now + 0 * wait();'),
    ],
  },
  {
    name: 'the bound of the mesh is ignored',
    patches: [
      patch('hub/core/placement/capacity.ts', 'ctx.leases.size < boundNow(ctx);', 'boundNow(ctx) > 0;'),
    ],
  },
  {
    name: 'a group lets in one too many',
    patches: [patch('hub/core/queue/holds.ts', 'inTurn.size < least', 'inTurn.size <= least')],
  },
  {
    name: 'a task begins before those it comes after',
    patches: [patch('hub/core/queue/holds.ts', "other.state === 'delivered') continue;", 'true) continue;')],
  },
  {
    name: 'machines are not looked at for what is kept apart',
    patches: [patch('hub/core/placement/placement.ts', 'running <= allowed &&', 'allowed >= 0 &&')],
  },
  {
    name: 'whoever waits for a group is forgotten',
    patches: [patch('hub/core/queue/holds.ts', 'this.#stirred.add(schedule.group.name);', '')],
  },
  {
    name: 'late results have no bound',
    patches: [
      patch(
        'hub/core/results/late-results.ts',
        'ctx.late.size >= ctx.config.lateResultsMax',
        'ctx.late.size < 0',
      ),
      patch('hub/core/lifecycle.ts', 'ctx.late.size < ctx.config.lateResultsMax', 'ctx.late.size >= 0'),
    ],
  },
  {
    name: 'a founder decides what it does not log',
    patches: [
      patch(
        'hub/core/members/sessions.ts',
        'lease.startedAt ??= ctx.now;',
        'lease.startedAt ??= ctx.now;\n  ctx.task(lease.lease.task).machineFaults += 1;',
      ),
    ],
  },
  {
    name: 'what is verified again in vain is never done with',
    patches: [patch('hub/core/lifecycle.ts', '  ctx.again.ended(task);\n', '')],
  },
  {
    name: 'a result is verified again by whoever is there',
    patches: [
      patch(
        'hub/core/trust/reverify.ts',
        'verifierParties(ctx, task).flatMap',
        '[...ctx.state.members.byPeer.values()].flatMap',
      ),
    ],
  },
];

/** The text with the patch applied. Throws where what it replaces is not found exactly once. */
export function patched(text: string, { file, from, to }: Patch): string {
  const found = text.split(from).length - 1;
  if (found !== 1) throw new Error(`${file} has ${found} times, not once: ${from}`);
  return text.replace(from, () => to);
}
