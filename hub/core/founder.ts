import type { LogEvent } from '../../ledger/lines/events.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { StatusObject } from '../../node/api/objects.ts';
import type { Clock } from '../../node/core/types.ts';
import { taskView } from '../../node/views/task.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { dryRun } from './answers/dry-run.ts';
import { type CoreSizes, type Place, placeOf, sizesOf } from './answers/inspect.ts';
import { overviewOf } from './answers/overview.ts';
import * as queries from './answers/queries.ts';
import { meshObject, nodeObjects } from './answers/views.ts';
import { why } from './answers/why.ts';
import { defaultConfig, type FounderConfig, founderSleptMs } from './config.ts';
import { FounderContext } from './context.ts';
import { alarmForLenders, setAlarms, tickEveryMs } from './due.ts';
import { submitMany } from './intake/batch.ts';
import { requireShortChain, submit } from './intake/submission.ts';
import * as tasks from './intake/tasks.ts';
import { openLease } from './lifecycle.ts';
import { learnLenders } from './members/lenders.ts';
import * as membership from './members/membership.ts';
import { pause, resume, unreachedOf } from './members/pause.ts';
import { policyDefault, setPolicyDefault } from './members/policy-default.ts';
import { durability, learnPlaces, setDurability, watchLag } from './members/replicas.ts';
import { expire, onConnected, onDisconnected, onMessage, wake } from './members/sessions.ts';
import { capacityObject, setCapacity } from './placement/capacity.ts';
import { dispatch } from './placement/dispatch.ts';
import type { CorePlugin } from './plugin.ts';
import { thaw } from './queue/freeze.ts';
import { type EnvironmentLease, environmentLease, mayFetch } from './results/blob-access.ts';
import { type EnvelopeChecks, signedChecks } from './results/checks.ts';
import { onRecalledResult } from './results/late-results.ts';
import { wantedFor, withRecalled } from './results/recall.ts';
import { onCollected, retryCollects } from './results/results.ts';
import { requireReadable, requireRight } from './rights.ts';
import { resumeAgain } from './trust/reverify.ts';
import * as trust from './trust/trust.ts';
import type { FounderEffect, FounderInput, Operation, Recalled } from './types.ts';

export interface FounderOptions {
  /** Mesh id. */
  mesh: string;
  /** Replayed from the whole durable log; the core owns it from here on and mutates it. */
  state: MeshState;
  /** @default the epoch of the log; a higher one first waits a lease of the old. */
  epoch?: number;
  /** @default `defaultConfig` */
  config?: Partial<FounderConfig>;
  /** @default the real signatures */
  checks?: EnvelopeChecks;
  /** What is switched on above the queue. @default none */
  plugins?: readonly CorePlugin[];
}

/**
 * The founder's one decider, without IO: `step` takes one input and returns what its driver is to do, in order. Its
 * state is the log’s: what a step appends comes first, and everything else waits until that is durable.
 */
export class FounderCore {
  readonly #ctx: FounderContext;
  #begun = false;
  #steppedAt: number;
  #tickedAt: number;

  constructor(options: FounderOptions, clock: Clock) {
    const { mesh, state } = options;
    if (state.mesh.genesis === null)
      throw new SuperfleetError('SF_INTERNAL', 'a founder needs a log with a genesis');
    this.#ctx = new FounderContext({
      mesh,
      state,
      config: { ...defaultConfig, ...options.config },
      checks: options.checks ?? signedChecks,
      epoch: options.epoch ?? state.mesh.epoch,
      plugins: options.plugins ?? [],
      clock,
    });
    this.#steppedAt = clock.now;
    this.#tickedAt = clock.now;
    this.#restore();
  }

  /** The replayed state, to be read only; entries that are not durable yet are in it. */
  get state(): MeshState {
    return this.#ctx.state;
  }

  /** Whether this member's session is the one given. */
  hasSession(peer: string, session: number): boolean {
    return this.#ctx.live.get(peer)?.session === session;
  }

  /** How much it holds, `stopping` that of this member. */
  sizes(peer: string | null = null): CoreSizes {
    return sizesOf(this.#ctx, peer);
  }

  /** Where it keeps an open task; null: nowhere, and nothing will follow for it. */
  placeOf(task: string): Place | null {
    return placeOf(this.#ctx, task);
  }

  /** Delivered tasks whose results are being verified again now. */
  get verifyingAgain(): readonly string[] {
    return [...this.#ctx.again.open.keys()];
  }

  /** Whether the founder hands this blob to this member; asked at every transfer. */
  mayFetch(peer: string, blob: string): boolean {
    return mayFetch(this.#ctx, peer, blob);
  }

  /** The open lease that this member holds of this task, for which it may ask for an environment; null: none. */
  environmentLease(peer: string, task: string): EnvironmentLease | null {
    return environmentLease(this.#ctx, peer, task);
  }

  /** When it is to be ticked next (monotonic): something is due, or it was not for long. May come closer with every step. */
  get tickAt(): number {
    return Math.min(this.#ctx.alarms.next, this.#tickedAt + tickEveryMs(this.#ctx));
  }

  step(input: FounderInput, clock: Clock): FounderEffect[] {
    return this.stepAll([input], clock);
  }

  /** Inputs that came together, in their order, as one step: one append, and one look at what can be begun. */
  stepAll(inputs: readonly FounderInput[], clock: Clock): FounderEffect[] {
    const ctx = this.#ctx;
    ctx.clock = clock;
    if (!this.#begun) {
      this.#begun = true;
      membership.settleAll(ctx);
    }
    // Whatever wakes it comes first: a message may be handed over before the clock ticks.
    const sinceMs = clock.now - this.#steppedAt;
    const lateMs = clock.now - this.tickAt;
    this.#steppedAt = clock.now;
    if (lateMs > founderSleptMs) wake(ctx, sinceMs);
    for (const input of inputs) this.#take(input);
    ctx.starts.log(ctx);
    const ticks = inputs.some(({ type }) => type === 'tick');
    // Nothing that is due waits for a quiet moment: every step looks, and an idle look is cheap.
    if (!inputs.every(isRead)) {
      ctx.plugins.next(ctx, ticks);
      dispatch(ctx, ticks);
    }
    if (ticks) {
      this.#tickedAt = clock.now;
      setAlarms(ctx);
    } else alarmForLenders(ctx);
    return ctx.take();
  }

  #take(input: FounderInput): void {
    const ctx = this.#ctx;
    switch (input.type) {
      case 'request':
        this.#answer(input);
        break;
      case 'connected':
        onConnected(ctx, input.peer, input.session, input.hello, input.address ?? null);
        break;
      case 'received':
        onMessage(ctx, input.peer, input.session, input.message);
        break;
      case 'disconnected':
        onDisconnected(ctx, input.peer, input.session);
        break;
      case 'collected':
        onCollected(ctx, input);
        break;
      case 'secrets':
        ctx.secrets = input.values;
        break;
      case 'roster':
        ctx.roster = { version: input.version, blob: input.blob };
        for (const { peer } of ctx.live.values()) ctx.send(peer, { type: 'roster', ...ctx.roster });
        break;
      case 'recalled':
        this.#recalled(input);
        break;
      case 'snapshotted':
        ctx.append({ type: 'log.snapshot', body: input.snapshot });
        break;
      case 'durable': {
        const { index, checkpoint, root } = input;
        if (index >= (ctx.durable?.index ?? -1)) ctx.durable = { index, checkpoint, root };
        watchLag(ctx);
        break;
      }
      case 'replicas':
        ctx.replicas = input.held;
        ctx.replicasFrom = input.from ?? new Map();
        watchLag(ctx);
        if (input.places !== undefined && learnPlaces(ctx, input.places)) {
          for (const { peer } of ctx.live.values()) ctx.tellReplicas(peer);
        }
        break;
      case 'lacking':
        ctx.lacking = input.blobs;
        break;
      case 'tick':
        expire(ctx);
        learnLenders(ctx);
        retryCollects(ctx);
        break;
      default:
        input satisfies never;
    }
  }

  /** Open attempts of the log wait one lease for their members to say that they have them (design §6). */
  #restore(): void {
    const ctx = this.#ctx;
    const { byId } = ctx.state.tasks;
    for (const task of byId.values()) {
      ctx.repeats.add(task, (id) => byId.has(id));
      ctx.room.add(task);
      resumeAgain(ctx, task);
    }
    for (const id of ctx.state.tasks.open) {
      const task = ctx.task(id);
      // What was begun once has its turn in its group until it ends.
      if (task.state !== 'queued' || task.executions > 0) ctx.holds.keep(task);
      ctx.deadlines.add(task, ctx.now, ctx.clock.time - task.submittedAt);
      for (const attempt of task.attempts) {
        if (attempt.end === null) openLease(ctx, task, attempt.number, null);
      }
    }
    for (const live of ctx.live.values()) live.awaitedUntil = ctx.now + ctx.config.leaseMs;
    ctx.startedAt = ctx.now;
  }

  #recalled({ purpose, found, error }: Extract<FounderInput, { type: 'recalled' }>): void {
    const ctx = this.#ctx;
    if (purpose.kind === 'result') {
      const { peer, result } = purpose;
      withRecalled(ctx, found, () => onRecalledResult(ctx, peer, result));
    } else if (error !== null) {
      ctx.emit({ type: 'answer', after: 0, request: purpose.request, result: null, error });
    } else withRecalled(ctx, found, () => this.#answer(purpose, found));
  }

  /** `found`: what was read from the log for it; without, it is asked for where it is needed. */
  #answer({ request, by, operation }: Asked, found: Recalled | null = null): void {
    const ctx = this.#ctx;
    try {
      requireRight(ctx.state.members, by, operation);
      const wanted = found === null ? wantedFor(ctx, by, operation) : null;
      if (wanted !== null) {
        const purpose = { kind: 'request' as const, request, by, operation };
        ctx.emit({ type: 'recall', after: 0, wanted, purpose });
        return;
      }
      const result = perform(ctx, by, operation, found?.looked);
      ctx.emit({ type: 'answer', after: 0, request, result, error: null });
    } catch (error) {
      // Operations throw before they append. A log that contradicts itself is nobody's wrong request.
      const known = asSuperfleetError(error);
      if (known.code === 'SF_LOG_DAMAGED' || known.code === 'SF_INTERNAL') throw error;
      ctx.emit({ type: 'answer', after: 0, request, result: null, error: known.toJSON() });
    }
  }
}

type Request = Extract<FounderInput, { type: 'request' }>;
type Asked = Pick<Request, 'request' | 'by' | 'operation'>;

function perform(
  ctx: FounderContext,
  by: Request['by'],
  operation: Operation,
  looked?: readonly number[],
): unknown {
  switch (operation.op) {
    case 'task.submit':
      requireShortChain(ctx, operation);
      return submit(ctx, by, operation);
    case 'task.submitMany':
      return submitMany(ctx, by, operation);
    case 'task.dryRun':
      return dryRun(ctx, by, operation);
    case 'task.stop':
      return tasks.stop(ctx, by, operation);
    case 'task.rerun':
      return tasks.rerun(ctx, by, operation);
    case 'task.answer':
      return tasks.answer(ctx, by, operation);
    case 'task.continue':
      return tasks.continued(ctx, by, operation);
    case 'task.applied':
      return tasks.applied(ctx, by, operation);
    case 'task.get':
      return taskView(ctx.state, readable(ctx, by, operation.task));
    case 'task.list':
      return queries.listTasks(ctx, by, operation, looked);
    case 'task.why':
      return why(ctx, readable(ctx, by, operation.task).id);
    case 'repository.known':
      return queries.knownCommits(ctx, operation.commits);
    case 'invite.create':
      return membership.createInvite(ctx, by, operation);
    case 'member.admit':
      return membership.admit(ctx, by, operation);
    case 'member.reject':
      return membership.reject(ctx, by, operation);
    case 'member.eligible':
      return membership.setEligible(ctx, by, operation);
    case 'member.rename':
      return membership.rename(ctx, by, operation);
    case 'member.trust':
      return trust.trustMember(ctx, by, operation);
    case 'trust.show':
      return trust.showTrust(ctx);
    case 'trust.sampling':
      return trust.setSampling(ctx, by, operation.on);
    case 'member.revoke':
      return membership.revoke(ctx, by, operation);
    case 'member.leave':
      return membership.leave(ctx, by, operation);
    case 'node.list':
      return { items: nodeObjects(ctx), next: null };
    case 'node.get':
      return queries.getNode(ctx, operation.member);
    case 'mesh.pause':
      return pause(ctx, by, operation.drain === true);
    case 'mesh.resume':
      return resume(ctx, by);
    case 'mesh.durability':
      return setDurability(ctx, by, operation.replicas);
    case 'durability':
      return durability(ctx);
    case 'pause.unreached':
      return { items: unreachedOf(ctx), next: null };
    case 'mesh.capacity':
      return setCapacity(ctx, by, operation);
    case 'capacity':
      return capacityObject(ctx);
    case 'mesh.policy':
      return setPolicyDefault(ctx, by, operation.policy);
    case 'policy':
      return policyDefault(ctx);
    case 'secret.set':
      return membership.setSecret(ctx, by, operation.name);
    case 'secret.remove':
      return membership.removeSecret(ctx, by, operation.name);
    case 'secret.list':
      return { items: [...ctx.state.secrets].sort().map((name) => ({ name })), next: null };
    case 'status':
      return status(ctx, by);
    case 'plugin.read':
      return ctx.plugins.read(ctx, by, operation.plugin, operation.verb, operation.body);
    case 'plugin.write': {
      const answer = ctx.plugins.write(ctx, by, operation.plugin, operation.verb, operation.body);
      thaw(ctx);
      return answer;
    }
    default:
      return operation satisfies never;
  }
}

/** The mesh's figures, and what a person at the founder looks for. */
function status(ctx: FounderContext, by: Request['by']): StatusObject {
  const overview = overviewOf(ctx, by);
  // What no command mends (two machines with one identity, a clock) is named here too, for scripts that watch for warnings.
  const others = overview.needs.flatMap(({ what, command }) => (command === null ? [what] : []));
  return { ...meshObject(ctx), ...overview, warnings: [...overview.risks, ...others] };
}

/** The task, for whoever may see it. */
function readable(ctx: FounderContext, by: Request['by'], id: string): ReturnType<FounderContext['task']> {
  const task = ctx.task(id);
  requireReadable(ctx.state.members, by, task.by);
  return task;
}

/** Operations that change nothing. */
export const READS: ReadonlySet<Operation['op']> = new Set([
  'task.dryRun',
  'task.get',
  'task.list',
  'task.why',
  'repository.known',
  'node.list',
  'node.get',
  'trust.show',
  'secret.list',
  'durability',
  'pause.unreached',
  'capacity',
  'policy',
  'status',
  'plugin.read',
]);

/** Whether nothing is decided by this input. */
export const isRead = (input: FounderInput): boolean => {
  if (input.type === 'durable' || input.type === 'replicas') return true;
  if (input.type === 'request') return READS.has(input.operation.op);
  return (
    input.type === 'recalled' && input.purpose.kind === 'request' && READS.has(input.purpose.operation.op)
  );
};

/** The entry that admits the founder to its own mesh; it follows the genesis. */
export const founderAdmitted = (
  founder: Pick<
    Extract<LogEvent, { type: 'member.admitted' }>['body'],
    'peer' | 'name' | 'owner' | 'roles' | 'labels'
  >,
): LogEvent => ({
  type: 'member.admitted',
  body: { ...founder, via: { kind: 'genesis' }, by: { kind: 'founder' } },
});
