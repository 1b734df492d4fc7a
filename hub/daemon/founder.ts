import type { Checkpoint } from '../../ledger/lines/checkpoint.ts';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { Actor } from '../../ledger/lines/events.ts';
import type { TaskArchive } from '../../ledger/log/archive.ts';
import type { DurableBatch, Log } from '../../ledger/log/log.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import type { Session, SessionHandlers } from '../../node/network/session.ts';
import { mark } from '../../node/timing.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { FounderMessage, MemberHello, MemberMessage, Place } from '../../protocol/session.ts';
import { safetyTickMs } from '../core/config.ts';
import { type FounderCore, isRead, READS } from '../core/founder.ts';
import { ReplicatedGate } from '../core/gate.ts';
import type { FounderEffect, FounderInput, HeldEffect, Operation, Recalled, Wanted } from '../core/types.ts';

type Collect = Extract<FounderEffect, { type: 'collect' }>;
type Collected = Extract<FounderInput, { type: 'collected' }>;

export interface FounderDriverOptions {
  /** `tickAt`: when it is to be ticked next. @default by the safety tick alone */
  core: Pick<FounderCore, 'stepAll'> & { readonly tickAt?: number };
  log: Log;
  /** Replicas that acknowledgements wait for, as the log says at the start. @default 0 */
  replicas?: number;
  /** Pulls what a result names onto this disk, synced; never rejects. */
  collect(effect: Collect): Promise<Collected>;
  /** Reads from the durable log what has left the state. */
  recall(wanted: Wanted): Promise<Recalled>;
  /** Signs and stores a roster; resolves with its version and blob. */
  roster(): Promise<{ version: number; blob: string }>;
  /** How many fetch it. @default few */
  members?(): number;
  /** Drops every connection of these peers. */
  drop(peers: string[]): void;
  /** The log has failed: the process cannot go on (its core is ahead of its log). */
  failed(error: SuperfleetError): void;
}

/**
 * A roster that lets members in waits until nobody came for this long, and at most so long: many may join at once, and
 * every member fetches every roster. Both grow with the members, as what each roster costs all of them does.
 */
const ROSTER_QUIET_MS = 500;
const ROSTER_QUIET_MS_EACH = 2;
const ROSTER_WAIT_MS = 20_000;
const ROSTER_WAIT_MS_EACH = 25;
/** Checkpoints that wait for replicas; of more, older ones are passed over, and members see one of the others. */
const WAITING_CHECKPOINTS_MAX = 1_024;
/** Messages that wait for no replica. */
const PASSING: ReadonlySet<FounderMessage['type']> = new Set([
  'welcome',
  'beat',
  'call',
  'cancel',
  'pause',
  'models',
]);
/** Ticks are at least so far apart, whatever the core asks for. */
const TICK_APART_MS = 25;
/** Inputs of one step: what they decide on is a few appends at most. */
const TOGETHER_MAX = 256;
/** Requests waiting for their answer; past it a caller is told to come later. */
const REQUESTS_MAX = 4096;

/**
 * Performs what the founder core decides: appends go to the log at once, everything else leaves when what it rests
 * on is durable. Sessions of members, the founder's own among them, come in by `attach`; requests by `request`.
 */
export class FounderDriver {
  readonly #options: FounderDriverOptions;
  readonly #gate: ReplicatedGate<HeldEffect>;
  /** Newest checkpoints, oldest first: the first is the newest that may leave, the others wait for replicas. */
  #checkpoints: { index: number; text: string | null }[] = [{ index: -1, text: null }];
  /** By number: while a second machine with a member's identity is looked into, both have one. */
  readonly #sessions = new Map<number, Session<FounderMessage>>();
  readonly #requests = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void; reads: boolean }
  >();
  /** Sessions whose last words are on their way. */
  readonly #closing = new Map<string, Promise<unknown>>();
  #ticking: { at: number; timer: NodeJS.Timeout } | null = null;
  #requestId = 0;
  /** What came in this turn of the event loop and is taken at its end. */
  readonly #together: FounderInput[] = [];
  #releasing = false;
  /** Of the newest roster the core was told of: two may be signed at once, and the older be stored last. */
  #rosterVersion = -1;
  /** When the next roster is begun at the latest (monotonic), and the timer that does. */
  #rosterDue = Number.POSITIVE_INFINITY;
  #publishing: NodeJS.Timeout | null = null;
  #stopped = false;
  /** While the mesh is handed over: what waits until that is done or given up. */
  #held: FounderInput[] | null = null;
  readonly #minors = new Map<number, number>();

  constructor(options: FounderDriverOptions) {
    this.#options = options;
    this.#gate = new ReplicatedGate<HeldEffect>(options.log.size - 1, options.replicas ?? 0, (effect) =>
      this.#passes(effect),
    );
    options.log.subscribe((batch: DurableBatch) =>
      this.#durable(batch.last, batch.checkpoint, batch.entries),
    );
    this.#plan();
    this.#durable(options.log.size - 1, options.log.checkpoint, []);
    // Who was away while somebody was revoked hears of it, also where the founder has started anew since. Where there
    // is no room for it now, the next change of membership says so.
    this.#publish(() => {});
  }

  /**
   * One operation of the core, answered when what it rests on is durable. A read is answered when that is on this disk; one
   * that is `certain` as any other, when replicas that are asked for hold it, too.
   */
  request(operation: Operation, by: Actor, { certain = false } = {}): Promise<unknown> {
    if (this.#stopped)
      return Promise.reject(new SuperfleetError('SF_UNREACHABLE', 'the founder is stopping'));
    if (this.#requests.size >= REQUESTS_MAX) {
      return Promise.reject(
        new SuperfleetError('SF_FULL', 'the founder has too many requests waiting', {
          expected: `at most ${REQUESTS_MAX}`,
          hint: 'try again in a moment',
        }),
      );
    }
    const request = ++this.#requestId;
    return new Promise((resolve, reject) => {
      this.#requests.set(request, { resolve, reject, reads: !certain && READS.has(operation.op) });
      this.step({ type: 'request', request, by, operation });
    });
  }

  /** A member said hello on this session; answers with what handles its messages. */
  attach(session: Session<FounderMessage>, hello: MemberHello): SessionHandlers<MemberMessage> {
    const { peer, id, address } = session;
    this.#sessions.set(id, session);
    this.#minors.set(id, hello.version.minor);
    const from = address === undefined ? {} : { address };
    this.step({ type: 'connected', peer, session: id, hello, ...from });
    const received = (message: MemberMessage): void =>
      this.#soon({ type: 'received', peer, session: id, message });
    return {
      // A disk that hangs must not let sessions fill the memory: no credit is given meanwhile.
      onMessage: (message) =>
        this.#waits ? this.#untilCaughtUp().then(() => received(message)) : received(message),
      onClosed: () => {
        this.#sessions.delete(id);
        this.#minors.delete(id);
        this.step({ type: 'disconnected', peer, session: id });
      },
    };
  }

  /**
   * Decides nothing from here on, and gives nothing out: what comes waits, and `release` takes it up in its order. What was
   * decided before still becomes durable and goes out; questions that decide nothing are answered.
   */
  hold(): void {
    this.#stepSoon();
    this.#held ??= [];
  }

  /** Goes on where `hold` stopped. */
  release(): void {
    this.#stepSoon();
    // It stays held meanwhile: what these bring about at once comes after all of them.
    for (let input = this.#held?.shift(); input !== undefined; input = this.#held?.shift())
      this.#take([input]);
    this.#held = null;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  /** Says this on every session whose member understands it. */
  tell(message: FounderMessage, minor: number): void {
    for (const [id, session] of this.#sessions) {
      if ((this.#minors.get(id) ?? 0) >= minor) session.send(message);
    }
  }

  step(input: FounderInput): void {
    this.#stepSoon();
    this.#step([input]);
  }

  /**
   * The same with whatever else comes in this turn of the event loop, in its order, and before anything that is not taken so: a step
   * for each message of a frame would cost more than what the messages say.
   */
  #soon(input: FounderInput): void {
    this.#together.push(input);
    if (this.#together.length === 1) setImmediate(() => this.#stepSoon());
    else if (this.#together.length >= TOGETHER_MAX) this.#stepSoon();
  }

  #stepSoon(): void {
    if (this.#together.length > 0) this.#step(this.#together.splice(0));
  }

  #step(inputs: readonly FounderInput[]): void {
    if (this.#stopped) return;
    if (this.#held !== null && !inputs.every(isRead)) {
      this.#held.push(...inputs.filter(({ type }) => type !== 'tick'));
      return;
    }
    this.#take(inputs);
  }

  #take(inputs: readonly FounderInput[]): void {
    if (this.#stopped) return;
    try {
      const effects = this.#options.core.stepAll(inputs, systemClock());
      const held: HeldEffect[] = [];
      for (const effect of effects) {
        if (effect.type === 'append') this.#append(effect);
        else if (effect.type === 'collect') this.#collect(effect);
        else held.push(effect);
      }
      this.#gate.hold(held);
      this.#release();
    } catch (thrown) {
      // The core may have changed half of its state, or nobody hears what it decided: only the log can tell what is true.
      this.#fail(thrown);
    }
    this.#plan();
  }

  /** Sees to it that the core is ticked when it asks for that; a timer that comes too soon is left to look again. */
  #plan(): void {
    if (this.#stopped) return;
    const now = performance.now();
    const at = Math.max(this.#options.core.tickAt ?? now + safetyTickMs, now + TICK_APART_MS);
    if (this.#ticking !== null) {
      if (this.#ticking.at <= at) return;
      clearTimeout(this.#ticking.timer);
    }
    const timer = setTimeout(
      () => {
        this.#ticking = null;
        const due = this.#options.core.tickAt ?? 0;
        if (due <= performance.now() && this.#held === null) this.step({ type: 'tick' });
        else this.#plan();
      },
      Math.ceil(at - now),
    );
    this.#ticking = { at, timer };
  }

  /** Takes no further input and answers nothing more; who waits is told `why`. */
  stop(why = new SuperfleetError('SF_UNREACHABLE', 'the founder is stopping')): void {
    if (this.#stopped) return;
    this.#stepSoon();
    this.#stopped = true;
    if (this.#ticking !== null) clearTimeout(this.#ticking.timer);
    if (this.#publishing !== null) clearTimeout(this.#publishing);
    for (const { reject } of this.#requests.values()) {
      reject(why);
    }
    this.#requests.clear();
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  #append(effect: Extract<FounderEffect, { type: 'append' }>): void {
    try {
      const appended = this.#options.log.appendMade(effect.made);
      appended.durable.catch((error: unknown) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#stopped) return;
    this.#together.length = 0;
    this.stop();
    this.#options.failed(asSuperfleetError(error));
  }

  /** Entries that each replica which follows the log holds synced, and where these listen. */
  replicas(
    held: ReadonlyMap<string, number>,
    places: readonly Place[] = [],
    from: ReadonlyMap<string, number> = new Map(),
  ): void {
    // One that began at a snapshot counts where it lacks nothing of what was not counted yet.
    const counting = [...held].filter(([peer]) => (from.get(peer) ?? 0) <= this.#gate.index + 1);
    this.#gate.held(counting.map(([, size]) => size));
    this.step({ type: 'replicas', held, places, from });
    this.#advance();
  }

  /** Newest checkpoint that may leave this process; null: none yet. */
  get checkpoint(): string | null {
    return this.#checkpoints[0]!.text;
  }

  /** What the log asks for counts from the moment its entry is on this disk, for more replicas and for fewer. */
  #durable(index: number, checkpoint: Checkpoint, entries: readonly Entry[]): void {
    const asked = entries.findLast(({ type }) => type === 'mesh.durability');
    const { replicas } = (asked?.body ?? {}) as { replicas?: number };
    this.#gate.durable(index, replicas);
    if (this.#checkpoints.length >= WAITING_CHECKPOINTS_MAX) this.#checkpoints.splice(1, 1);
    this.#checkpoints.push({ index, text: checkpoint.text });
    this.#root = checkpoint.root;
    this.#index = index;
    this.#advance();
  }

  /** Releases what waited, and gives members the newest checkpoint that may leave. */
  #advance(): void {
    const at = this.#checkpoints.findLastIndex(({ index }) => index <= this.#gate.index);
    if (at > 0) this.#checkpoints = this.#checkpoints.slice(at);
    this.step({ type: 'durable', index: this.#index, checkpoint: this.checkpoint, root: this.#root });
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  #index = -1;
  #root = '';

  /**
   * What rests on this disk alone where acknowledgements wait for replicas: reads and refusals; what keeps a member's leases, which the
   * replicas hold; and what stops work. Else a replica that is away would cost every attempt, and the kill switch its second.
   */
  #passes(effect: HeldEffect): boolean {
    if (effect.type === 'answer') {
      return effect.error !== null || (this.#requests.get(effect.request)?.reads ?? true);
    }
    if (effect.type === 'recall')
      return effect.purpose.kind === 'request' && READS.has(effect.purpose.operation.op);
    return effect.type === 'send' && PASSING.has(effect.message.type);
  }

  readonly #waiters: (() => void)[] = [];
  /** No message is taken while this is so. */
  get #waits(): boolean {
    return (this.#gate.full || this.#held !== null) && !this.#stopped;
  }

  async #untilCaughtUp(): Promise<void> {
    while (this.#waits) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Its connections go when its goodbye is out, which takes no longer than a session gives it. */
  #drop(peer: string): void {
    const closing = this.#closing.get(peer);
    if (closing === undefined) this.#options.drop([peer]);
    else void closing.then(() => this.#options.drop([peer]));
  }

  /** Who was shut out is so at once; who came in may wait for others that come. */
  #publishSoon(removes: boolean): void {
    const now = performance.now();
    const members = this.#options.members?.() ?? 0;
    this.#rosterDue = Math.min(this.#rosterDue, now + ROSTER_WAIT_MS + members * ROSTER_WAIT_MS_EACH);
    const quiet = ROSTER_QUIET_MS + members * ROSTER_QUIET_MS_EACH;
    const wait = removes ? 0 : Math.min(quiet, this.#rosterDue - now);
    if (this.#publishing !== null) clearTimeout(this.#publishing);
    if (wait <= 0) this.#publish((error) => this.#fail(error));
    else this.#publishing = setTimeout(() => this.#publish((error) => this.#fail(error)), wait);
  }

  #publish(failed: (error: unknown) => void): void {
    if (this.#publishing !== null) clearTimeout(this.#publishing);
    this.#publishing = null;
    this.#rosterDue = Number.POSITIVE_INFINITY;
    if (this.#stopped) return;
    this.#options.roster().then(({ version, blob }) => {
      if (version <= this.#rosterVersion) return;
      this.#rosterVersion = version;
      this.step({ type: 'roster', version, blob });
    }, failed);
  }

  #recall({ wanted, purpose }: Extract<HeldEffect, { type: 'recall' }>): void {
    this.#options.recall(wanted).then(
      (found) => this.step({ type: 'recalled', purpose, found, error: null }),
      (thrown: unknown) => {
        const error = asSuperfleetError(thrown).toJSON();
        this.step({ type: 'recalled', purpose, found: { tasks: [] }, error });
      },
    );
  }

  #collect(effect: Collect): void {
    const { role, lease } = effect;
    mark(lease.task, `${role}.collect`);
    void this.#options.collect(effect).then((collected) => {
      mark(lease.task, `${role}.collected`);
      this.#soon(collected);
    });
  }

  /** One effect may bring the next step (a full session closes): its effects come after those that were decided before. */
  #release(): void {
    if (this.#releasing) return;
    this.#releasing = true;
    try {
      for (let free = this.#gate.release(); free.length > 0; free = this.#gate.release()) {
        for (const effect of free) if (!this.#stopped) this.#perform(effect);
      }
    } finally {
      this.#releasing = false;
    }
  }

  #perform(effect: HeldEffect): void {
    switch (effect.type) {
      case 'send': {
        this.#sessions.get(effect.session)?.send(effect.message);
        return;
      }
      case 'close': {
        const session = this.#sessions.get(effect.session);
        if (session === undefined) return;
        session.close(effect.code, effect.message, effect.disconnect ?? false);
        this.#closing.set(effect.peer, session.closed);
        void session.closed.then(() => {
          if (this.#closing.get(effect.peer) === session.closed) this.#closing.delete(effect.peer);
        });
        return;
      }
      case 'answer': {
        const waiting = this.#requests.get(effect.request);
        this.#requests.delete(effect.request);
        if (effect.error === null) waiting?.resolve(effect.result);
        else {
          const { code, message, ...detail } = effect.error;
          waiting?.reject(new SuperfleetError(code, message, detail));
        }
        return;
      }
      case 'recall':
        this.#recall(effect);
        return;
      case 'membership':
        for (const peer of effect.removed) this.#drop(peer);
        this.#publishSoon(effect.removed.length > 0);
        return;
      default:
        effect satisfies never;
    }
  }
}

/** What the core asks of the log. */
export async function recallFrom(archive: TaskArchive, wanted: Wanted): Promise<Recalled> {
  if (!('task' in wanted)) return archive.select(wanted);
  const task = await archive.find(wanted.task);
  return { tasks: task === null ? [] : [task] };
}
