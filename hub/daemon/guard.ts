import type { Logger } from 'pino';
import { fenced } from '../../ledger/log/handover.ts';
import type { Log } from '../../ledger/log/log.ts';
import {
  type Equivocation,
  equivocationError,
  type Testimony,
  testimonyOf,
} from '../../ledger/proofs/witness.ts';
import { applyEntry, knownEntry, type MeshState } from '../../ledger/state/state.ts';
import type { Marked } from '../../node/daemon/instance-mark.ts';
import type { Host } from '../../node/network/host.ts';
import type { Session, SessionEnd, SessionHandlers } from '../../node/network/session.ts';
import { followLog } from '../../node/replica/follow.ts';
import { systemTimers, type Timers } from '../../node/timers.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { FounderMessage, MemberHello, MemberMessage } from '../../protocol/session.ts';

/** A founder that was cut off hears its members for at most so long before it goes on. */
const HEAR_MS = 2_000;
/** How often one that must wait says so, and looks again for a replica. */
const REMIND_MS = 10_000;
/** One replica has so long to give what is lacking. */
const TAKE_BACK_MS = 60_000;

export interface GuardOptions {
  log: Log;
  /** Replayed from the log; what is taken back is applied to it. */
  state: MeshState;
  /** The founder's own peer id. */
  self: string;
  marked: Marked;
  host: Pick<Host, 'dial'>;
  logger: Logger;
  /** Keeps the proof; answers with where, null where the disk refuses. */
  keepProof(equivocation: Equivocation): Promise<string | null>;
  /** The operator gives up what nobody holds: where it would wait, `sure` rejects with `SF_BEHIND` instead. @default false */
  giveUp?: boolean;
  /** Aborted when the process ends. */
  signal: AbortSignal;
  hearMs?: number;
  /** It has to wait for longer than a moment, now for this; told once for each reason. */
  onWaits?(reason: string): void;
  /** @default the system's */
  timers?: Timers;
}

type Attach = (session: Session<FounderMessage>, hello: MemberHello) => SessionHandlers<MemberMessage>;

/** A session that waits for the founder to be sure of its log. */
interface Held {
  session: Session<FounderMessage>;
  hello: MemberHello;
  passed: PromiseWithResolvers<SessionHandlers<MemberMessage> | null>;
}

/**
 * What stands before a founder that starts: nothing is signed, sent or answered until its log is known to hold whatever
 * its members saw (promises 2 and 5). A log that was cut short is filled from a replica; one that contradicts what was
 * signed before stops the founder, the proof kept.
 */
export class FounderGuard {
  readonly #options: GuardOptions;
  readonly #timers: Timers;
  readonly #held = new Set<Held>();
  readonly #testimonies = new Map<string, string>();
  #attach: Attach | null = null;
  #look: () => void = () => {};
  /** Somebody spoke since the last look. */
  #fresh = false;
  #waitsFor: string | null = null;
  #lacks: number | null = null;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
  }

  /** Why the founder does not work yet, for people; null: it is not known to have to wait. */
  get waitsFor(): string | null {
    return this.#waitsFor;
  }

  /** Entries that members have seen and this log does not hold; null: none that it knows of. */
  get lacks(): number | null {
    return this.#lacks;
  }

  /** A member said hello: held until the founder is sure, and heard at once. */
  readonly attach: Attach = (session, hello) => {
    if (this.#attach !== null) return this.#attach(session, hello);
    if (hello.checkpoint !== null) this.#testimonies.set(session.peer, hello.checkpoint);
    else this.#testimonies.set(session.peer, '');
    const held: Held = { session, hello, passed: Promise.withResolvers() };
    this.#held.add(held);
    this.#fresh = true;
    this.#look();
    let closed: SessionEnd | null = null;
    void held.passed.promise.then((handlers) => {
      if (closed !== null) handlers?.onClosed(closed);
    });
    return {
      onMessage: async (message) => (await held.passed.promise)?.onMessage(message),
      onClosed: (end) => {
        closed = end;
        if (this.#held.delete(held)) held.passed.resolve(null);
        else void held.passed.promise.then((handlers) => handlers?.onClosed(end));
      },
    };
  };

  /**
   * Resolves when the log may go on. Rejects with `SF_EQUIVOCATION` where two histories are signed, with `SF_BEHIND` where it
   * would wait and the operator gives up what is lost, with `SF_FENCED` where it took back that another one leads, with the
   * signal's reason where the process ends before.
   */
  async sure(): Promise<void> {
    const { marked, signal } = this.#options;
    const others = this.#others();
    if (others.size === 0 || marked.kind === 'sure') return;
    const deadline = this.#timers.now() + (this.#options.hearMs ?? HEAR_MS);
    let remindAt = 0;
    for (;;) {
      signal.throwIfAborted();
      const missing = await this.#judge();
      if (missing !== null) await this.#takeBack(missing);
      // What it had lost may be that it handed the mesh over.
      const { leadership } = this.#options.log;
      if (leadership.founder !== this.#options.self) throw fenced(leadership);
      const left = deadline - this.#timers.now();
      if (this.#enough(left <= 0) && (await this.#judge()) === null) return;
      const reason = this.#reason(missing);
      this.#lacks = missing === null ? null : missing - this.#options.log.size;
      if (left <= 0 && this.#options.giveUp === true) {
        throw new SuperfleetError('SF_BEHIND', reason, { hint: WAITS_HINT });
      }
      const before = this.#waitsFor;
      this.#waitsFor = left <= 0 ? reason : null;
      if (left <= 0 && before !== reason) this.#options.onWaits?.(reason);
      if (left <= 0 && this.#timers.now() >= remindAt) {
        remindAt = this.#timers.now() + REMIND_MS;
        this.#options.logger.warn({ hint: WAITS_HINT }, reason);
      }
      await this.#news(left > 0 ? left : REMIND_MS);
    }
  }

  /** Hands every held session on; those that come later go straight there. */
  open(attach: Attach): void {
    this.#attach = attach;
    for (const held of [...this.#held]) {
      this.#held.delete(held);
      held.passed.resolve(attach(held.session, held.hello));
    }
    this.#testimonies.clear();
  }

  /** Ends the waiting of every session. */
  close(): void {
    for (const held of this.#held) held.passed.resolve(null);
    this.#held.clear();
  }

  #others(): Map<string, { replica: boolean }> {
    const { state, self } = this.#options;
    const active = [...state.members.byPeer.values()].filter(
      ({ standing, peer }) => standing === 'active' && peer !== self,
    );
    return new Map(active.map(({ peer, roles }) => [peer, { replica: roles.includes('replica') }]));
  }

  /** Whether those who have spoken are enough to go by. `late`: they had their time. */
  #enough(late: boolean): boolean {
    const others = this.#others();
    const heard = [...others.keys()].filter((peer) => this.#testimonies.has(peer));
    if (heard.length === others.size) return true;
    if (!late) return false;
    if (this.#options.marked.kind !== 'strange') return true;
    const replicas = [...others].filter(([, { replica }]) => replica);
    if (replicas.length > 0 && replicas.every(([peer]) => this.#testimonies.has(peer))) return true;
    return heard.length * 2 > others.size;
  }

  /** Holds what members saw against the log: the largest size that it lacks, or null. Rejects at a fork. */
  async #judge(): Promise<number | null> {
    const { log } = this.#options;
    let missing: number | null = null;
    for (const text of this.#testimonies.values()) {
      if (text === '') continue;
      const testimony: Testimony = await testimonyOf(log, text);
      if (testimony.kind === 'fork') throw await this.#frozen(testimony.equivocation);
      if (testimony.kind === 'ahead') missing = Math.max(missing ?? 0, testimony.checkpoint.size);
    }
    return missing;
  }

  async #frozen(equivocation: Equivocation): Promise<SuperfleetError> {
    return equivocationError(equivocation, await this.#options.keepProof(equivocation));
  }

  /** Follows replicas that are connected until the log has what was seen, or none of them has it. */
  async #takeBack(size: number): Promise<void> {
    const { log, state, host, logger, signal } = this.#options;
    const others = this.#others();
    // One that has many sessions is asked once.
    for (const peer of new Set([...this.#held].map(({ session }) => session.peer))) {
      if (others.get(peer)?.replica !== true || log.size >= size) continue;
      const done = new AbortController();
      const unsubscribe = log.subscribe(({ entries }) => {
        for (const entry of entries) applyEntry(state, entry, knownEntry(entry));
        if (log.size >= size) done.abort(new Error('all is here'));
      });
      const before = log.size;
      const late = this.#timers.after(TAKE_BACK_MS, () => done.abort(new Error('it gave no more')));
      try {
        const connection = await host.dial(peer, [], signal);
        await followLog(connection, {
          mesh: log.meshId,
          holder: { copy: log, begin: () => Promise.reject(new Error('there is a log')) },
          signal: AbortSignal.any([signal, done.signal]),
          onTip: ({ holds }) => {
            if (!holds) throw new SuperfleetError('SF_NOT_FOUND', 'it holds no log');
          },
        });
      } catch (thrown) {
        if (log.failure !== null) throw log.failure;
        const { message } = asSuperfleetError(thrown);
        if (log.size > before) {
          logger.warn({ peer, entries: log.size - before }, 'entries lost here were taken back');
        } else logger.warn({ peer }, `nothing was taken back from a replica: ${message}`);
      } finally {
        late();
        unsubscribe();
      }
    }
  }

  #reason(missing: number | null): string {
    const { log, marked } = this.#options;
    if (missing !== null) {
      return `members have seen ${missing} entries and this log holds ${log.size}: a replica that holds the rest is waited for`;
    }
    const others = this.#others();
    const heard = [...others.keys()].filter((peer) => this.#testimonies.has(peer)).length;
    const why = marked.kind === 'strange' ? marked.why : 'the founder was cut off';
    return `${why}: ${heard} of ${others.size} members have said what they saw of the log, and more are waited for`;
  }

  #news(ms: number): Promise<void> {
    const { signal } = this.#options;
    const fresh = this.#fresh;
    this.#fresh = false;
    if (fresh) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const cancel = this.#timers.after(ms, done);
      this.#look = done;
      signal.addEventListener('abort', done, { once: true });
    });
  }
}

/** What a person can do about it. */
export const WAITS_HINT =
  'If this is a copy and the original still runs, use that one and stop this. Otherwise start the other machines of the mesh. ' +
  'If they are gone: mesh-hub start --accept-loss --recovery-key FILE opens a new epoch with what is here';
