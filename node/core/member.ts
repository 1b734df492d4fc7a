import { heartbeatIdleMs, heartbeatMs, leaseMs } from '../../protocol/limits.ts';
import {
  type Assignment,
  type AttemptResult,
  type Capacity,
  CONTINUES_FEATURE,
  type FounderMessage,
  GOALS_FEATURE,
  type Instance,
  type Lease,
  leaseKey,
  MEMORY_FEATURE,
  type MemberHello,
  type MemberMessage,
  MODELS_FEATURE,
  REQUIREMENTS_FEATURE,
  SESSION_VERSION,
} from '../../protocol/session.ts';
import { checkpointSize } from './checkpoint.ts';
import type { Clock, HeldAttempt, MemberEffect, MemberInput, MemberRestored, StopReason } from './types.ts';

/** Attempts whose end the founder has not heard of yet; the oldest is let go, and the founder calls it lost. */
const endedKeptMax = 256;
/** Cancels remembered whose assignment has not come: more cannot be on their way on one session. */
const overtakenMax = 1_024;
/** Refusals after which there is no point in dialling again. */
const FINAL_CODES: ReadonlySet<string> = new Set(['SF_REVOKED', 'SF_REJECTED', 'SF_VERSION', 'SF_REFUSED']);

const POLICY_DETAIL = 'the policy of the machine’s owner did not hold any more';

type StoppedWhy = Extract<MemberMessage, { type: 'stopped' }>['why'];

/** What the founder is told of an attempt that was stopped for this reason. */
const TOLD: Record<StopReason, StoppedWhy> = {
  cancelled: 'cancelled',
  paused: 'paused',
  revoked: 'cancelled',
  owner: 'owner',
  policy: 'owner',
  lease: 'lease',
  superseded: 'cancelled',
  shutdown: 'shutdown',
};

/**
 * One member's side of the session, without IO: `step` takes one input and returns what its driver is to do, in
 * order. Results outlast sessions and restarts until the founder settles them; running attempts outlast sessions, but
 * never a lease without a word from the founder (design §6).
 */
export class MemberCore {
  readonly #mesh: string;
  readonly #attempts = new Map<string, HeldAttempt>();
  /** Leases cancelled on this session before they were assigned: a cancel is urgent and may overtake what it cancels. */
  readonly #overtaken = new Set<string>();
  #capacity: Capacity;
  #ownerPaused: boolean;
  /** Why the owner's policy lets nothing run now; null: it does. */
  #bar: string | null;
  #meshPaused = false;
  #shutdown = false;
  #checkpoint: string | null;
  /** The newest that was given out to be kept. */
  #kept: string | null;
  #rosterVersion: number;
  #name: string | null;
  /** The mesh's epoch as far as this member was shown; it never falls. */
  #epoch: number;
  readonly #instance: Instance | null;
  readonly #weigh: NonNullable<MemberRestored['weigh']>;
  #session: number | null = null;
  #welcomed = false;
  /** The offer has changed since the hello, and no welcome has come yet. */
  #untold = false;
  /** Monotonic ms of the founder's last word; leases run from it. */
  #heardAt: number;
  #openedAt = 0;
  #beatDue = 0;
  #sequence = 0;
  #heartbeatMs = heartbeatMs;
  #leaseMs = leaseMs;
  #effects: MemberEffect[] = [];

  constructor(restored: MemberRestored, clock: Clock) {
    this.#mesh = restored.mesh;
    this.#ownerPaused = restored.ownerPaused;
    this.#bar = restored.bar ?? null;
    this.#capacity = restored.capacity;
    this.#checkpoint = restored.checkpoint;
    this.#kept = restored.checkpoint;
    this.#rosterVersion = restored.rosterVersion;
    this.#name = restored.name ?? null;
    this.#epoch = restored.epoch ?? 1;
    this.#instance = restored.instance ?? null;
    this.#weigh = restored.weigh ?? larger;
    this.#heardAt = clock.now;
    for (const result of restored.ready) {
      this.#attempts.set(leaseKey(result), {
        lease: leaseOf(result),
        role: result.role,
        correlation: result.correlation,
        phase: 'ready',
        started: true,
        why: null,
        result,
      });
    }
  }

  /** Attempts as they stand, for `mesh-node status` and for a driver that waits until none is left. */
  get attempts(): readonly HeldAttempt[] {
    return [...this.#attempts.values()];
  }

  /** Attempts that take a slot now. */
  get busy(): number {
    let busy = 0;
    for (const { phase } of this.#attempts.values())
      if (phase === 'running' || phase === 'stopping') busy += 1;
    return busy;
  }

  get ownerPaused(): boolean {
    return this.#ownerPaused;
  }

  /** The newest checkpoint seen, as text. */
  get checkpoint(): string | null {
    return this.#checkpoint;
  }

  /** Whether the founder has answered on the session that is open now. */
  get online(): boolean {
    return this.#welcomed;
  }

  step(input: MemberInput, clock: Clock): MemberEffect[] {
    this.#effects = [];
    // What is over already cannot be stopped.
    if (input.type === 'finished') this.#onFinished(input.result);
    if (input.type === 'gone') this.#onGone(input.lease);
    // Before anything is heard, so that a machine that slept past its lease cannot renew it with an old word.
    this.#expireLease(clock.now);
    switch (input.type) {
      case 'connected':
        this.#onConnected(input.session, clock);
        break;
      case 'disconnected':
        if (input.session === this.#session) this.#endSession();
        break;
      case 'received':
        if (input.session === this.#session) this.#onMessage(input.message, clock);
        break;
      case 'started': {
        const attempt = this.#attempts.get(leaseKey(input.lease));
        if (attempt?.phase !== 'running') break;
        attempt.started = true;
        this.#tell({ type: 'started', ...attempt.lease, correlation: attempt.correlation });
        break;
      }
      case 'progress': {
        const attempt = this.#attempts.get(leaseKey(input.lease));
        if (attempt?.phase !== 'running') break;
        const { phase, logBytes, usage } = input;
        this.#tell({
          type: 'progress',
          ...attempt.lease,
          correlation: attempt.correlation,
          phase,
          logBytes,
          ...(usage === undefined ? {} : { usage }),
        });
        break;
      }
      case 'finished':
      case 'gone':
        break;
      case 'capacity':
        this.#capacity = input.capacity;
        this.#tellCapacity();
        break;
      case 'owner':
        this.#onOwner(input.act);
        break;
      case 'policy':
        this.#onPolicy(input.bar);
        break;
      case 'roster':
        this.#rosterVersion = Math.max(this.#rosterVersion, input.version);
        break;
      case 'epoch':
        this.#onEpoch(input.epoch);
        break;
      case 'holds':
        this.#weighed(input.checkpoint);
        break;
      case 'tick':
        this.#onTick(clock);
        break;
      default:
        input satisfies never;
    }
    return this.#effects;
  }

  // ── session ───────────────────────────────────────────────────────────────────────────────────────────────
  #onConnected(session: number, clock: Clock): void {
    if (this.#session !== null) this.#effects.push({ type: 'close', session: this.#session });
    this.#session = session;
    this.#welcomed = false;
    this.#openedAt = clock.now;
    this.#untold = false;
    this.#overtaken.clear();
    const leases = (...phases: HeldAttempt['phase'][]): Lease[] =>
      this.attempts.filter((attempt) => phases.includes(attempt.phase)).map((attempt) => attempt.lease);
    const hello: MemberHello = {
      type: 'hello',
      version: SESSION_VERSION,
      features: [REQUIREMENTS_FEATURE, GOALS_FEATURE, MODELS_FEATURE, CONTINUES_FEATURE, MEMORY_FEATURE],
      mesh: this.#mesh,
      capacity: this.#offer(),
      // Those that ended without the founder's knowledge too: it hears why after its welcome.
      held: leases('running', 'stopping', 'ended'),
      ready: leases('ready'),
      checkpoint: this.#checkpoint,
      rosterVersion: this.#rosterVersion,
      time: clock.time,
      ...(this.#name === null ? {} : { name: this.#name }),
      ...(this.#instance === null ? {} : { instance: this.#instance }),
    };
    this.#effects.push({ type: 'send', session, message: hello });
  }

  #endSession(): void {
    this.#session = null;
    this.#welcomed = false;
  }

  /** What a founder of an epoch that is over says counts no more, also on the session that is open (promise 8). */
  #onEpoch(epoch: number): void {
    if (epoch <= this.#epoch) return;
    this.#epoch = epoch;
    if (this.#session === null) return;
    this.#effects.push({ type: 'close', session: this.#session });
    this.#endSession();
  }

  #onMessage(message: FounderMessage, clock: Clock): void {
    if (message.type === 'welcome' && message.epoch < this.#epoch) {
      this.#effects.push({ type: 'close', session: this.#session! });
      this.#endSession();
      return;
    }
    this.#heardAt = clock.now;
    if (!this.#welcomed && message.type !== 'welcome' && message.type !== 'goodbye') return;
    switch (message.type) {
      case 'welcome':
        this.#onWelcome(message, clock);
        break;
      case 'beat':
        this.#keepCheckpoint(message.checkpoint);
        break;
      case 'assign':
        this.#onAssign(message.assignment, clock);
        break;
      case 'cancel':
        this.#onCancel(message, message.why, message.correlation);
        break;
      case 'settled':
        this.#onSettled(message);
        break;
      case 'pause':
        this.#meshPaused = true;
        this.#stopAll('paused');
        break;
      case 'resume':
        this.#meshPaused = false;
        break;
      case 'roster':
        if (message.version > this.#rosterVersion) {
          this.#effects.push({ type: 'fetchRoster', version: message.version, blob: message.blob });
        }
        break;
      case 'call':
        this.#heartbeat(clock);
        break;
      case 'renamed':
        this.#name = message.name;
        this.#effects.push({ type: 'renamed', name: message.name });
        break;
      case 'replicas':
        this.#effects.push({ type: 'replicas', replicas: message.replicas });
        break;
      case 'models':
        this.#effects.push({ type: 'lenders', lenders: message.lenders });
        break;
      case 'handover': {
        const { handovers, addresses } = message;
        this.#effects.push({ type: 'handedOver', handovers, addresses });
        break;
      }
      case 'goodbye':
        this.#onGoodbye(message.code, message.message);
        break;
      case 'grant':
        break;
      default:
        message satisfies never;
    }
  }

  #onWelcome(welcome: Extract<FounderMessage, { type: 'welcome' }>, clock: Clock): void {
    this.#welcomed = true;
    this.#heartbeatMs = welcome.heartbeatMs;
    this.#leaseMs = welcome.leaseMs;
    this.#meshPaused = welcome.paused;
    this.#beatDue = clock.now;
    this.#keepCheckpoint(welcome.checkpoint);
    if (this.#untold) this.#tellCapacity();
    const resumed = new Set(welcome.resume.map(leaseKey));
    for (const [key, attempt] of this.#attempts) {
      switch (attempt.phase) {
        case 'running':
          if (!resumed.has(key)) this.#stop(attempt, 'superseded');
          else if (attempt.started) {
            this.#tell({ type: 'started', ...attempt.lease, correlation: attempt.correlation });
          }
          break;
        case 'ready':
          // Wanted or not: the founder settles it, as the result or as evidence.
          this.#tell({ type: 'result', result: attempt.result! });
          break;
        case 'ended':
          this.#tellStopped(attempt);
          this.#attempts.delete(key);
          break;
        case 'stopping':
          break;
      }
    }
    this.#heartbeat(clock);
  }

  #onGoodbye(code: string, message: string): void {
    this.#effects.push({ type: 'close', session: this.#session! });
    this.#endSession();
    if (!FINAL_CODES.has(code)) return;
    this.#stopAll('revoked');
    this.#effects.push({ type: 'refused', code, message });
  }

  #keepCheckpoint(checkpoint: string | null): void {
    if (checkpoint === null || checkpoint === this.#kept) return;
    if (checkpoint !== this.#checkpoint && !this.#weighed(checkpoint)) return;
    this.#kept = checkpoint;
    this.#effects.push({ type: 'keepCheckpoint', checkpoint });
  }

  /** True: it is the newest seen from here on. */
  #weighed(checkpoint: string): boolean {
    if (checkpoint === this.#checkpoint) return false;
    const weighed = this.#weigh(this.#checkpoint, checkpoint);
    if (weighed === 'conflict') {
      this.#effects.push({ type: 'conflict', checkpoints: [this.#checkpoint!, checkpoint] });
    }
    if (weighed === 'keep') this.#checkpoint = checkpoint;
    return weighed === 'keep';
  }

  // ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────
  #onAssign(assignment: Assignment, clock: Clock): void {
    const key = leaseKey(assignment);
    // Its founder was told so when the cancel came.
    if (this.#attempts.has(key) || this.#overtaken.delete(key)) return;
    const refusal = this.#refusal();
    const { correlation } = assignment;
    const lease = leaseOf(assignment);
    if (refusal !== null) {
      this.#tell({ type: 'stopped', ...lease, correlation, ...refusal });
      return;
    }
    const { role } = assignment;
    this.#attempts.set(key, {
      lease,
      role,
      correlation,
      phase: 'running',
      started: false,
      why: null,
      result: null,
    });
    this.#effects.push({ type: 'start', assignment });
    // A member that idled until now sends heartbeats at the faster pace from here on.
    this.#beatDue = Math.min(this.#beatDue, clock.now + this.#heartbeatMs);
  }

  /** Why nothing more may be started here; null: it may. */
  #refusal(): { why: StoppedWhy; detail: string } | null {
    if (this.#shutdown) return { why: 'shutdown', detail: 'this machine is being stopped' };
    if (this.#ownerPaused) return { why: 'owner', detail: 'the owner has paused this machine' };
    if (this.#bar !== null) return { why: 'owner', detail: POLICY_DETAIL };
    if (this.#meshPaused) return { why: 'paused', detail: 'the mesh is paused' };
    if (this.#capacity.sandbox === null)
      return { why: 'refused', detail: 'there is no working sandbox here' };
    if (this.busy >= this.#capacity.slots) return { why: 'refused', detail: 'no slot is free' };
    return null;
  }

  #onCancel(lease: Lease, why: 'cancelled' | 'paused' | 'revoked' | 'superseded', correlation: string): void {
    const key = leaseKey(lease);
    const attempt = this.#attempts.get(key);
    if (attempt === undefined) {
      this.#overtaken.add(key);
      if (this.#overtaken.size > overtakenMax) {
        const [oldest = key] = this.#overtaken;
        this.#overtaken.delete(oldest);
      }
      this.#tell({ type: 'stopped', ...leaseOf(lease), correlation, why: 'unknown', detail: null });
    } else if (attempt.phase === 'running') {
      this.#stop(attempt, why);
    }
    // One that is stopping was asked already; one that is ready is settled by the founder.
  }

  #onSettled(lease: Lease): void {
    const key = leaseKey(lease);
    const attempt = this.#attempts.get(key);
    if (attempt === undefined) return;
    if (attempt.phase === 'running') this.#stop(attempt, 'superseded');
    if (attempt.phase !== 'ready') return;
    this.#attempts.delete(key);
    this.#effects.push({ type: 'forget', lease: attempt.lease });
  }

  #onFinished(result: AttemptResult): void {
    const attempt = this.#attempts.get(leaseKey(result));
    // It may have ended by itself while it was being stopped: what is signed and on disk is still shown.
    if (attempt === undefined || attempt.phase === 'ready') return;
    attempt.phase = 'ready';
    attempt.result = result;
    this.#tell({ type: 'result', result });
  }

  #onGone(lease: Lease): void {
    const key = leaseKey(lease);
    const attempt = this.#attempts.get(key);
    if (attempt === undefined || attempt.phase === 'ready' || attempt.phase === 'ended') return;
    if (this.#welcomed) {
      this.#attempts.delete(key);
      this.#tellStopped(attempt);
      return;
    }
    attempt.phase = 'ended';
    const ended = this.attempts.filter((one) => one.phase === 'ended');
    if (ended.length > endedKeptMax) this.#attempts.delete(leaseKey(ended[0]!.lease));
  }

  #stop(attempt: HeldAttempt, why: StopReason): void {
    if (attempt.phase !== 'running') return;
    attempt.phase = 'stopping';
    attempt.why = why;
    this.#effects.push({ type: 'stop', lease: attempt.lease, why });
  }

  #stopAll(why: StopReason): void {
    for (const attempt of this.#attempts.values()) this.#stop(attempt, why);
  }

  // ── owner, time ───────────────────────────────────────────────────────────────────────────────────────────
  #onOwner(act: 'pause' | 'resume' | 'shutdown'): void {
    if (act === 'shutdown') this.#shutdown = true;
    else this.#ownerPaused = act === 'pause';
    // The stop comes first and rests on nothing; the founder hears of it if it can be told (promise 15).
    if (act !== 'resume') this.#stopAll(act === 'pause' ? 'owner' : 'shutdown');
    this.#tellCapacity();
  }

  /** As the owner's own pause: the stop comes first and rests on nothing. */
  #onPolicy(bar: string | null): void {
    this.#bar = bar;
    if (bar !== null) this.#stopAll('policy');
    this.#tellCapacity();
  }

  #onTick(clock: Clock): void {
    const { now } = clock;
    if (this.#session === null) return;
    const silentMax = this.#leaseMs + (this.busy > 0 ? 0 : heartbeatIdleMs);
    if (now - Math.max(this.#heardAt, this.#openedAt) >= silentMax) {
      // Half-open: the founder has not answered for so long that a new dial is better.
      this.#effects.push({ type: 'close', session: this.#session });
      this.#endSession();
      return;
    }
    if (this.#welcomed && now >= this.#beatDue) this.#heartbeat(clock);
  }

  #heartbeat({ now, time }: Clock): void {
    this.#sequence += 1;
    this.#beatDue = now + (this.busy > 0 ? this.#heartbeatMs : Math.max(this.#heartbeatMs, heartbeatIdleMs));
    this.#tell({ type: 'heartbeat', sequence: this.#sequence, time });
  }

  #expireLease(now: number): void {
    if (now - this.#heardAt >= this.#leaseMs) this.#stopAll('lease');
  }

  // ── telling ───────────────────────────────────────────────────────────────────────────────────────────────
  /** Before the welcome nothing is said: hello and welcome bring both sides to one view. */
  #tell(message: MemberMessage): void {
    if (this.#welcomed) this.#effects.push({ type: 'send', session: this.#session!, message });
  }

  #tellStopped({ lease, correlation, why }: HeldAttempt): void {
    this.#tell({
      type: 'stopped',
      ...lease,
      correlation,
      why: why === null ? 'unknown' : TOLD[why],
      detail: why === 'policy' ? POLICY_DETAIL : null,
    });
  }

  #tellCapacity(): void {
    this.#untold = !this.#welcomed;
    this.#tell({ type: 'capacity', capacity: this.#offer() });
  }

  #offer(): Capacity {
    const stopped = this.#ownerPaused || this.#shutdown;
    const bar = stopped || this.#bar === null ? {} : { bar: this.#bar };
    return { ...this.#capacity, ownerPaused: stopped || this.#bar !== null, ...bar };
  }
}

const leaseOf = ({ task, attempt, epoch }: Lease): Lease => ({ task, attempt, epoch });

const larger = (held: string | null, shown: string): 'keep' | 'pass' =>
  checkpointSize(shown) > checkpointSize(held) ? 'keep' : 'pass';
