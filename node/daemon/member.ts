import { asSuperfleetError } from '../../protocol/errors.ts';
import type { BlobId } from '../../protocol/ids.ts';
import {
  type Assignment,
  type AttemptResult,
  type Capacity,
  type FounderMessage,
  type Lease,
  type Lender,
  leaseKey,
  type MemberMessage,
  type Place,
} from '../../protocol/session.ts';
import type { AttemptRunner } from '../attempt/types.ts';
import type { Clock, MemberEffect, MemberInput, StopReason } from '../core/types.ts';
import type { Session, SessionHandlers } from '../network/session.ts';
import type { TailSource, TailSources } from '../network/tail-source.ts';
import { mark } from '../timing.ts';
import { systemClock } from './clock.ts';

/** What the driver needs of the member core. */
export interface SteppedCore {
  step(input: MemberInput, clock: Clock): MemberEffect[];
  /** When something is due. @default unknown: it is ticked often */
  readonly tickAt?: number;
}

export interface MemberDriverOptions {
  core: SteppedCore;
  runner: AttemptRunner;
  /** Deletes what was kept of a settled result. */
  forget(lease: Lease): Promise<void>;
  /** Gets blobs from the founder into this member's store. */
  fetch(blobs: BlobId[], signal: AbortSignal): Promise<void>;
  /** A newer roster waits as this blob: fetches, verifies and keeps it; resolves with the version now held. */
  roster(blob: BlobId): Promise<number>;
  /** Live output of running attempts, kept for whoever asks. */
  tails: TailSources;
  /** The newest checkpoint of the log this member ever saw, for its disk (promises 2 and 5). */
  keepCheckpoint(checkpoint: string): void;
  /** The mesh knows this machine by another name than it said. */
  /** The founder has signed two histories. @default nothing is done */
  conflict?(checkpoints: [string, string]): void;
  renamed(name: string): void;
  /** The founder refused this machine for good. */
  refused(code: string, message: string): void;
  /** The founder says that the mesh is another one's now. @default of no interest: it says so to itself */
  handedOver?(handovers: string[], addresses: string[]): void;
  /** Where replicas listen. @default of no interest */
  replicas?(replicas: Place[]): void;
  /** The mesh was paused, or is no longer. @default of no interest */
  meshPaused?(paused: boolean): void;
  /** The mesh's default policy, null: none. @default of no interest */
  meshPolicy?(policy: string | null): void;
  /** Who lends models now. @default of no interest */
  lenders?(lenders: Lender[]): void;
  /** @default `systemClock` */
  clock?: () => Clock;
  /** Something failed that the driver goes on from; for the log. */
  warn(message: string, cause: unknown): void;
}

/**
 * The safety net under the events: leases and heartbeats are judged at least this often, with an attempt and without. A timer
 * does not run while the machine is suspended: the lease that ran out meanwhile is noticed so long after it wakes.
 */
const TICK_BUSY_MS = 250;
const TICK_IDLE_MS = 2_000;
/** Ticks are at least so far apart. */
const TICK_APART_MS = 25;

/** Why attempts are stopped on a machine that does nothing for the mesh from then on. */
const COME_TO_REST: ReadonlySet<string> = new Set<StopReason>(['owner', 'policy', 'lease', 'shutdown']);

/**
 * Performs what the member core decides: one session at a time, attempts by the runner. It decides nothing itself.
 * The founder's own member and every other run this same driver.
 */
export class MemberDriver {
  readonly #options: MemberDriverOptions;
  readonly #clock: () => Clock;
  readonly #running = new Map<string, { abort: AbortController; done: Promise<void> }>();
  #ticking: { at: number; timer: NodeJS.Timeout } | null = null;
  #session: Session<MemberMessage> | null = null;
  #idle: (() => void)[] = [];
  #stopped = false;

  constructor(options: MemberDriverOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#plan();
  }

  /** Attempts whose processes may still exist. */
  get running(): number {
    return this.#running.size;
  }

  /** Takes over a session to the founder; answers with what handles its messages. */
  attach(session: Session<MemberMessage>): SessionHandlers<FounderMessage> {
    this.#session = session;
    // The hello is sent from here, before anything else can be.
    queueMicrotask(() => this.#step({ type: 'connected', session: session.id }));
    return {
      onMessage: (message) => this.#step({ type: 'received', session: session.id, message }),
      onClosed: () => {
        if (this.#session === session) this.#session = null;
        this.#step({ type: 'disconnected', session: session.id });
      },
    };
  }

  /** What this machine offers has changed. */
  capacity(capacity: Capacity): void {
    this.#step({ type: 'capacity', capacity });
  }

  /** The owner's word; `pause` resolves when nothing of a task is left (promise 15). */
  async owner(act: 'pause' | 'resume'): Promise<void> {
    this.#step({ type: 'owner', act });
    if (act === 'pause') await this.#quiet();
  }

  /**
   * What the owner's policy bars work by now; null: nothing. Before it returns attempts are suspended where that may be
   * `brief`, else told to stop.
   */
  policy(bar: string | null, brief: boolean): void {
    this.#step({ type: 'policy', bar, brief });
  }

  /** The mesh is in this epoch: no founder of an earlier one is obeyed. */
  epoch(epoch: number): void {
    this.#step({ type: 'epoch', epoch });
  }

  /** A copy of the log here ends with this checkpoint, synced: the founder is told so when it starts (promises 2 and 5). */
  holds(checkpoint: string): void {
    this.#step({ type: 'holds', checkpoint });
  }

  /** Tells the founder that this machine leaves the mesh; false where there is no session to say it on. */
  leave(): boolean {
    return this.#session?.send({ type: 'leave' }) ?? false;
  }

  /** Stops every attempt and then the driver; resolves when no process of a task is left. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#step({ type: 'owner', act: 'shutdown' });
    await this.#quiet();
    this.#stopped = true;
    if (this.#ticking !== null) clearTimeout(this.#ticking.timer);
  }

  async #quiet(): Promise<void> {
    while (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #step(input: MemberInput): void {
    if (this.#stopped) return;
    for (const effect of this.#options.core.step(input, this.#clock())) this.#perform(effect);
    this.#plan();
  }

  /** Sees to the next tick: when something is due, or as the net has it. A timer that comes too soon looks again. */
  #plan(): void {
    if (this.#stopped) return;
    const { tickAt = Number.NEGATIVE_INFINITY } = this.#options.core;
    const net = tickAt === Number.NEGATIVE_INFINITY || this.#running.size > 0 ? TICK_BUSY_MS : TICK_IDLE_MS;
    const due = tickAt === Number.NEGATIVE_INFINITY ? net : tickAt - this.#clock().now;
    const waitMs = Math.max(TICK_APART_MS, Math.min(net, Math.ceil(due)));
    const at = performance.now() + waitMs;
    if (this.#ticking !== null) {
      if (this.#ticking.at <= at) return;
      clearTimeout(this.#ticking.timer);
    }
    const timer = setTimeout(() => {
      this.#ticking = null;
      this.#step({ type: 'tick' });
    }, waitMs);
    this.#ticking = { at, timer };
  }

  #perform(effect: MemberEffect): void {
    switch (effect.type) {
      case 'send':
        if (this.#session?.id === effect.session) this.#session.send(effect.message);
        return;
      case 'start':
        this.#start(effect.assignment);
        return;
      case 'stop':
        if (effect.why === 'lease') {
          this.#options.warn(
            `task ${effect.lease.task} is stopped here: this machine slept, or had no word from the founder for a whole lease`,
            'its lease ran out, so it is given to another machine',
          );
        }
        this.#running.get(leaseKey(effect.lease))?.abort.abort(new Error(effect.why));
        if (!this.#running.has(leaseKey(effect.lease))) {
          queueMicrotask(() => this.#step({ type: 'gone', lease: effect.lease }));
        }
        return;
      case 'suspend':
        this.#options.runner.suspend?.();
        return;
      case 'resume':
        this.#options.runner.resume?.();
        return;
      case 'forget':
        this.#options.forget(effect.lease).catch((cause: unknown) => {
          this.#options.warn('the files of a settled attempt were not deleted', cause);
        });
        return;
      case 'fetchRoster':
        this.#options.roster(effect.blob).then(
          (version) => this.#step({ type: 'roster', version }),
          (cause: unknown) => this.#options.warn('the roster could not be fetched', cause),
        );
        return;
      case 'close':
        if (this.#session?.id !== effect.session) return;
        if (effect.silent === true) this.#session.close('SF_TIMEOUT', 'nothing was heard for too long');
        else this.#session.close('SF_CONFLICT', 'this session is over');
        return;
      case 'refused':
        this.#options.refused(effect.code, effect.message);
        return;
      case 'keepCheckpoint':
        this.#options.keepCheckpoint(effect.checkpoint);
        return;
      case 'conflict':
        this.#options.conflict?.(effect.checkpoints);
        return;
      case 'renamed':
        this.#options.renamed(effect.name);
        return;
      case 'handedOver':
        this.#options.handedOver?.(effect.handovers, effect.addresses);
        return;
      case 'replicas':
        this.#options.replicas?.(effect.replicas);
        return;
      case 'meshPaused':
        this.#options.meshPaused?.(effect.paused);
        return;
      case 'meshPolicy':
        this.#options.meshPolicy?.(effect.policy);
        return;
      case 'lenders':
        this.#options.lenders?.(effect.lenders);
        return;
      default:
        effect satisfies never;
    }
  }

  #start(assignment: Assignment): void {
    const { task, attempt, epoch } = assignment;
    const lease: Lease = { task, attempt, epoch };
    const key = leaseKey(lease);
    if (this.#running.has(key)) return;
    mark(task, `${assignment.role}.assigned`);
    const abort = new AbortController();
    const output = this.#options.tails.open(task, attempt);
    const done = this.#run(assignment, lease, output, abort.signal).then((input) => {
      mark(task, `${assignment.role}.finished`);
      this.#running.delete(key);
      output.end(input.type === 'finished' ? 'finished' : 'stopped');
      this.#step(input);
      if (this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    });
    this.#running.set(key, { abort, done });
  }

  async #run(
    assignment: Assignment,
    lease: Lease,
    output: TailSource,
    signal: AbortSignal,
  ): Promise<MemberInput> {
    try {
      const result = await this.#options.runner.run(
        assignment,
        {
          started: () => this.#step({ type: 'started', lease }),
          progress: (phase, logBytes) => {
            mark(lease.task, `${assignment.role}.${phase}`);
            this.#step({ type: 'progress', lease, phase, logBytes });
          },
          used: (usage) => {
            this.#step({ type: 'progress', lease, phase: 'run', logBytes: 0, usage });
          },
          output: (bytes) => output.write(bytes),
          fetch: (blobs, ending) => this.#options.fetch(blobs, ending),
        },
        signal,
      );
      return { type: 'finished', result };
    } catch (thrown) {
      if (signal.aborted) {
        // Nothing more is begun here for now, so nothing is kept for it.
        if (COME_TO_REST.has((signal.reason as Error).message)) await this.#options.runner.letGo?.();
        return { type: 'gone', lease };
      }
      this.#options.warn('an attempt failed inside this node', thrown);
      return { type: 'finished', result: brokenResult(assignment, thrown) };
    }
  }
}

/** A fault of the node itself, as a result: the machine's fault, so it costs the task no retry. */
function brokenResult(assignment: Assignment, thrown: unknown): AttemptResult {
  const { task, attempt, epoch, role, correlation } = assignment;
  const error = asSuperfleetError(thrown);
  return {
    task,
    attempt,
    epoch,
    role,
    correlation,
    outcome: 'failed',
    reason: 'environment',
    fault: 'machine',
    detail: `${error.code}: ${error.message}`.slice(0, 2048),
    exitCode: null,
    commit: null,
    bundle: null,
    log: null,
    artifacts: [],
    envelope: null,
  };
}
