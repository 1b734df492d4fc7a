import { evictMs, heartbeatIdleMs, heartbeatMs, leaseMs } from '../../protocol/limits.ts';
import {
  type Assignment,
  CONTINUES_FEATURE,
  type FounderMessage,
  GOALS_FEATURE,
  type Instance,
  MEMORY_FEATURE,
  type MemberHello,
  MODELS_FEATURE,
  POLICY_FEATURE,
  REPLICAS_FEATURE,
  REQUIREMENTS_FEATURE,
  SESSION_VERSION,
} from '../../protocol/session.ts';
import { Attempts, leaseOf } from './attempts.ts';
import { SeenCheckpoint } from './checkpoint.ts';
import { Offer } from './offer.ts';
import { Outbox } from './outbox.ts';
import type { Clock, HeldAttempt, MemberEffect, MemberInput, MemberRestored } from './types.ts';

/** What this release understands besides what its version says. */
const FEATURES = [
  REQUIREMENTS_FEATURE,
  GOALS_FEATURE,
  MODELS_FEATURE,
  CONTINUES_FEATURE,
  MEMORY_FEATURE,
  POLICY_FEATURE,
  REPLICAS_FEATURE,
] as const;

/** Refusals after which there is no point in dialling again. */
const FINAL_CODES: ReadonlySet<string> = new Set(['SF_REVOKED', 'SF_REJECTED', 'SF_VERSION', 'SF_REFUSED']);

/**
 * One member's side of the session, without IO: `step` takes one input and returns what its driver is to do, in
 * order. Results outlast sessions and restarts until the founder settles them; running attempts outlast sessions, but
 * never a lease without a word from the founder (design §6).
 */
export class MemberCore {
  readonly #mesh: string;
  readonly #out = new Outbox();
  readonly #attempts: Attempts;
  readonly #offer: Offer;
  readonly #evictMs: number;
  /** Since when what runs is suspended (monotonic ms); null: nothing is. */
  #suspendedAt: number | null = null;
  readonly #checkpoint: SeenCheckpoint;
  #rosterVersion: number;
  #name: string | null;
  /** The mesh's epoch as far as this member was shown; it never falls. */
  #epoch: number;
  readonly #instance: Instance | null;
  /** The offer has changed since the hello, and no welcome has come yet. */
  #untold = false;
  /** Monotonic ms of the founder's last word; leases run from it. */
  #heardAt: number;
  #openedAt = 0;
  #beatDue = 0;
  #sequence = 0;
  #heartbeatMs = heartbeatMs;
  #leaseMs = leaseMs;

  constructor(restored: MemberRestored, clock: Clock) {
    this.#mesh = restored.mesh;
    this.#offer = new Offer(restored);
    this.#evictMs = restored.evictMs ?? evictMs;
    this.#checkpoint = new SeenCheckpoint(restored, this.#out);
    this.#rosterVersion = restored.rosterVersion;
    this.#name = restored.name ?? null;
    this.#epoch = restored.epoch ?? 1;
    this.#instance = restored.instance ?? null;
    this.#heardAt = clock.now;
    this.#attempts = new Attempts(restored.ready, this.#out);
  }

  /** Attempts as they stand, for `mesh-node status` and for a driver that waits until none is left. */
  get attempts(): readonly HeldAttempt[] {
    return this.#attempts.all;
  }

  /** Attempts that take a slot now. */
  get busy(): number {
    return this.#attempts.busy;
  }

  get ownerPaused(): boolean {
    return this.#offer.ownerPaused;
  }

  /** The newest checkpoint seen, as text. */
  get checkpoint(): string | null {
    return this.#checkpoint.newest;
  }

  /** Whether the founder has answered on the session that is open now. */
  get online(): boolean {
    return this.#out.welcomed;
  }

  /** When something is due (monotonic): a heartbeat, what the founder's silence ends, or the end of the owner's patience. */
  get tickAt(): number {
    const never = Number.POSITIVE_INFINITY;
    const evict = this.#suspendedAt === null ? never : this.#suspendedAt + this.#evictMs;
    const lease = Math.min(evict, this.busy > 0 ? this.#heardAt + this.#leaseMs : never);
    if (this.#out.session === null) return lease;
    const silent = Math.max(this.#heardAt, this.#openedAt) + this.#silentMax;
    return Math.min(lease, silent, this.#out.welcomed ? this.#beatDue : never);
  }

  step(input: MemberInput, clock: Clock): MemberEffect[] {
    // What is over already cannot be stopped.
    if (input.type === 'finished') this.#attempts.finished(input.result);
    if (input.type === 'gone') this.#attempts.gone(input.lease);
    // Before anything is heard, so that a machine that slept past its lease cannot renew it with an old word.
    this.#expireLease(clock.now);
    switch (input.type) {
      case 'connected':
        this.#onConnected(input.session, clock);
        break;
      case 'disconnected':
        if (input.session === this.#out.session) this.#endSession();
        break;
      case 'received':
        if (input.session === this.#out.session) this.#onMessage(input.message, clock);
        break;
      case 'started':
        this.#attempts.started(input.lease);
        break;
      case 'progress':
        this.#attempts.progress(input);
        break;
      case 'finished':
      case 'gone':
        break;
      case 'capacity':
        this.#offer.capacity = input.capacity;
        this.#tellCapacity();
        break;
      case 'owner':
        this.#onOwner(input.act);
        break;
      case 'policy':
        this.#onPolicy(input.bar, input.brief === true, clock.now);
        break;
      case 'roster':
        this.#rosterVersion = Math.max(this.#rosterVersion, input.version);
        break;
      case 'epoch':
        this.#onEpoch(input.epoch);
        break;
      case 'holds':
        this.#checkpoint.weighed(input.checkpoint);
        break;
      case 'tick':
        this.#onTick(clock);
        break;
      default:
        input satisfies never;
    }
    return this.#out.take();
  }

  // ── session ───────────────────────────────────────────────────────────────────────────────────────────────
  #onConnected(session: number, clock: Clock): void {
    if (this.#out.session !== null) this.#out.push({ type: 'close', session: this.#out.session });
    this.#out.session = session;
    this.#out.welcomed = false;
    this.#openedAt = clock.now;
    this.#untold = false;
    this.#attempts.newSession();
    const hello: MemberHello = {
      type: 'hello',
      version: SESSION_VERSION,
      features: [...FEATURES],
      mesh: this.#mesh,
      capacity: this.#offer.told,
      // Those that ended without the founder's knowledge too: it hears why after its welcome.
      held: this.#attempts.leases('running', 'stopping', 'ended'),
      ready: this.#attempts.leases('ready'),
      checkpoint: this.#checkpoint.newest,
      rosterVersion: this.#rosterVersion,
      time: clock.time,
      ...(this.#name === null ? {} : { name: this.#name }),
      ...(this.#instance === null ? {} : { instance: this.#instance }),
    };
    this.#out.push({ type: 'send', session, message: hello });
  }

  #endSession(): void {
    this.#out.session = null;
    this.#out.welcomed = false;
  }

  /** What a founder of an epoch that is over says counts no more, also on the session that is open (promise 8). */
  #onEpoch(epoch: number): void {
    if (epoch <= this.#epoch) return;
    this.#epoch = epoch;
    if (this.#out.session === null) return;
    this.#out.push({ type: 'close', session: this.#out.session });
    this.#endSession();
  }

  #onMessage(message: FounderMessage, clock: Clock): void {
    if (message.type === 'welcome' && message.epoch < this.#epoch) {
      this.#out.push({ type: 'close', session: this.#out.session! });
      this.#endSession();
      return;
    }
    this.#heardAt = clock.now;
    if (!this.#out.welcomed && message.type !== 'welcome' && message.type !== 'goodbye') return;
    switch (message.type) {
      case 'welcome':
        this.#onWelcome(message, clock);
        break;
      case 'beat':
        this.#checkpoint.shown(message.checkpoint);
        break;
      case 'assign':
        this.#onAssign(message.assignment, clock);
        break;
      case 'cancel':
        this.#attempts.cancel(message, message.why, message.correlation);
        break;
      case 'settled':
        this.#attempts.settled(message);
        break;
      case 'pause':
        this.#setMeshPaused(true);
        this.#attempts.stopAll('paused');
        break;
      case 'resume':
        this.#setMeshPaused(false);
        break;
      case 'roster':
        if (message.version > this.#rosterVersion) {
          this.#out.push({ type: 'fetchRoster', version: message.version, blob: message.blob });
        }
        break;
      case 'call':
        this.#heartbeat(clock);
        break;
      case 'renamed':
        this.#name = message.name;
        this.#out.push({ type: 'renamed', name: message.name });
        break;
      case 'replicas':
        this.#out.push({ type: 'replicas', replicas: message.replicas });
        break;
      case 'policy':
        this.#out.push({ type: 'meshPolicy', policy: message.policy });
        break;
      case 'models':
        this.#out.push({ type: 'lenders', lenders: message.lenders });
        break;
      case 'handover': {
        const { handovers, addresses } = message;
        this.#out.push({ type: 'handedOver', handovers, addresses });
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
    this.#out.welcomed = true;
    this.#heartbeatMs = welcome.heartbeatMs;
    this.#leaseMs = welcome.leaseMs;
    this.#setMeshPaused(welcome.paused);
    this.#beatDue = clock.now;
    this.#checkpoint.shown(welcome.checkpoint);
    if (this.#untold) this.#tellCapacity();
    this.#attempts.welcomed(welcome.resume);
    this.#heartbeat(clock);
    // The last: what it bars is told after all that was true before.
    if (welcome.policy !== undefined) this.#out.push({ type: 'meshPolicy', policy: welcome.policy });
  }

  #setMeshPaused(paused: boolean): void {
    if (this.#offer.meshPaused === paused) return;
    this.#offer.meshPaused = paused;
    this.#out.push({ type: 'meshPaused', paused });
  }

  #onGoodbye(code: string, message: string): void {
    this.#out.push({ type: 'close', session: this.#out.session! });
    this.#endSession();
    if (!FINAL_CODES.has(code)) return;
    this.#attempts.stopAll('revoked');
    this.#out.push({ type: 'refused', code, message });
  }

  // ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────
  #onAssign(assignment: Assignment, clock: Clock): void {
    if (this.#attempts.knows(assignment)) return;
    const refusal = this.#offer.refusal(assignment, this.busy, clock);
    if (refusal !== null) {
      const { correlation } = assignment;
      this.#out.tell({ type: 'stopped', ...leaseOf(assignment), correlation, ...refusal });
      return;
    }
    this.#attempts.begin(assignment);
    // A member that idled until now sends heartbeats at the faster pace from here on.
    this.#beatDue = Math.min(this.#beatDue, clock.now + this.#heartbeatMs);
  }

  // ── owner, time ───────────────────────────────────────────────────────────────────────────────────────────
  #onOwner(act: 'pause' | 'resume' | 'shutdown'): void {
    if (act === 'shutdown') this.#offer.shutdown = true;
    else this.#offer.ownerPaused = act === 'pause';
    // The stop comes first and rests on nothing; the founder hears of it if it can be told (promise 15).
    if (act !== 'resume') this.#attempts.stopAll(act === 'pause' ? 'owner' : 'shutdown');
    // The sandbox is the machine's, and may be used on by what comes after this: by the founder that it becomes.
    if (act === 'shutdown') this.#goOn();
    this.#tellCapacity();
  }

  /** As the owner's own pause what happens here comes first and rests on nothing. */
  #onPolicy(bar: string | null, brief: boolean, now: number): void {
    this.#offer.bar = bar;
    if (bar === null) this.#goOn();
    else if (brief && this.#evictMs > 0) {
      if (this.#attempts.suspendAll() && this.#suspendedAt === null) {
        this.#suspendedAt = now;
        this.#out.push({ type: 'suspend' });
      }
    } else this.#evict();
    this.#tellCapacity();
  }

  /** The owner stays: what was suspended is ended, and begun anew elsewhere. */
  #evict(): void {
    this.#attempts.stopAll('policy');
    this.#goOn();
  }

  /** After those that are to be ended were told so: nothing of them is given the processor again. */
  #goOn(): void {
    if (this.#suspendedAt === null) return;
    this.#suspendedAt = null;
    this.#out.push({ type: 'resume' });
    this.#attempts.resumeAll();
  }

  #onTick(clock: Clock): void {
    const { now } = clock;
    if (this.#suspendedAt !== null && now - this.#suspendedAt >= this.#evictMs) this.#evict();
    if (this.#out.session === null) return;
    if (now - Math.max(this.#heardAt, this.#openedAt) >= this.#silentMax) {
      // Half-open: the founder has not answered for so long that a new dial is better.
      this.#out.push({ type: 'close', session: this.#out.session, silent: true });
      this.#endSession();
      return;
    }
    if (this.#out.welcomed && now >= this.#beatDue) this.#heartbeat(clock);
  }

  /** So long a founder may say nothing on an open session. */
  get #silentMax(): number {
    return this.#leaseMs + (this.busy > 0 ? 0 : heartbeatIdleMs);
  }

  #heartbeat({ now, time }: Clock): void {
    this.#sequence += 1;
    this.#beatDue = now + (this.busy > 0 ? this.#heartbeatMs : Math.max(this.#heartbeatMs, heartbeatIdleMs));
    this.#out.tell({ type: 'heartbeat', sequence: this.#sequence, time });
  }

  #expireLease(now: number): void {
    if (now - this.#heardAt >= this.#leaseMs) this.#attempts.stopAll('lease');
  }

  // ── telling ───────────────────────────────────────────────────────────────────────────────────────────────
  #tellCapacity(): void {
    this.#untold = !this.#out.welcomed;
    this.#out.tell({ type: 'capacity', capacity: this.#offer.told });
  }
}
