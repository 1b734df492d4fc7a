import {
  type Assignment,
  type AttemptResult,
  type Lease,
  leaseKey,
  type MemberMessage,
} from '../../protocol/session.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { Outbox } from './outbox.ts';
import type { HeldAttempt, MemberInput, StopReason } from './types.ts';

/** Attempts whose end the founder has not heard of yet; the oldest is let go, and the founder calls it lost. */
const endedKeptMax = 256;
/** Cancels remembered whose assignment has not come: more cannot be on their way on one session. */
const overtakenMax = 1_024;

export const POLICY_DETAIL = 'the policy of the machine’s owner did not hold any more';

export type StoppedWhy = Extract<MemberMessage, { type: 'stopped' }>['why'];

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

const undone = { doing: { phase: 'fetch', logBytes: 0 }, suspends: false, suspended: false } as const;

export const leaseOf = ({ task, attempt, epoch }: Lease): Lease => ({ task, attempt, epoch });

/** The attempts that a member holds, from their assignment until the founder has settled them. */
export class Attempts {
  readonly #held = new Map<string, HeldAttempt>();
  /** Leases cancelled on this session before they were assigned: a cancel is urgent and may overtake what it cancels. */
  readonly #overtaken = new Set<string>();
  readonly #out: Outbox;

  /** `ready`: results that outlasted the process before. */
  constructor(ready: readonly AttemptResult[], out: Outbox) {
    this.#out = out;
    for (const result of ready) {
      const { role, correlation } = result;
      const lease = leaseOf(result);
      this.#held.set(leaseKey(result), {
        lease,
        role,
        correlation,
        phase: 'ready',
        started: true,
        why: null,
        result,
        ...undone,
      });
    }
  }

  get all(): readonly HeldAttempt[] {
    return [...this.#held.values()];
  }

  /** Those that take a slot now. */
  get busy(): number {
    let busy = 0;
    for (const { phase } of this.#held.values()) if (phase === 'running' || phase === 'stopping') busy += 1;
    return busy;
  }

  leases(...phases: HeldAttempt['phase'][]): Lease[] {
    return this.all.filter(({ phase }) => phases.includes(phase)).map(({ lease }) => lease);
  }

  newSession(): void {
    this.#overtaken.clear();
  }

  /** The founder has said which of those that run it wants still; it hears of all that came to an end meanwhile. */
  welcomed(resume: readonly Lease[]): void {
    const resumed = new Set(resume.map(leaseKey));
    for (const [key, attempt] of this.#held) {
      switch (attempt.phase) {
        case 'running':
          if (!resumed.has(key)) this.#stop(attempt, 'superseded');
          else {
            if (attempt.started) {
              this.#out.tell({ type: 'started', ...attempt.lease, correlation: attempt.correlation });
            }
            if (attempt.suspended) this.#tellProgress(attempt);
          }
          break;
        case 'ready':
          // Wanted or not: the founder settles it, as the result or as evidence.
          this.#out.tell({ type: 'result', result: attempt.result! });
          break;
        case 'ended':
          this.#tellStopped(attempt);
          this.#held.delete(key);
          break;
        case 'stopping':
          break;
      }
    }
  }

  /** Whether there is nothing to begin: it is held, or was cancelled before it came, of which its founder was told then. */
  knows(lease: Lease): boolean {
    const key = leaseKey(lease);
    return this.#held.has(key) || this.#overtaken.delete(key);
  }

  begin(assignment: Assignment): void {
    const { role, correlation } = assignment;
    const lease = leaseOf(assignment);
    const begun = { phase: 'running', started: false, why: null, result: null } as const;
    // A goal asks models, which nobody can halt: it ends at once and is begun anew.
    const suspends = role === 'verify' || assignment.spec.kind === 'command';
    this.#held.set(leaseKey(lease), { lease, role, correlation, ...begun, ...undone, suspends });
    this.#out.push({ type: 'start', assignment });
  }

  started(lease: Lease): void {
    const attempt = this.#held.get(leaseKey(lease));
    if (attempt?.phase !== 'running') return;
    attempt.started = true;
    this.#out.tell({ type: 'started', ...attempt.lease, correlation: attempt.correlation });
  }

  progress({ lease, phase, logBytes, usage }: Extract<MemberInput, { type: 'progress' }>): void {
    const attempt = this.#held.get(leaseKey(lease));
    if (attempt?.phase !== 'running') return;
    attempt.doing = { phase, logBytes };
    this.#tellProgress(attempt, usage === undefined ? {} : { usage });
  }

  /** Suspends what can be, ends what cannot; true: something is suspended. The founder is told of each. */
  suspendAll(): boolean {
    let any = false;
    for (const attempt of this.#held.values()) {
      if (attempt.phase !== 'running') continue;
      if (!attempt.suspends) {
        this.#stop(attempt, 'policy');
        continue;
      }
      any = true;
      if (attempt.suspended) continue;
      attempt.suspended = true;
      this.#tellProgress(attempt);
    }
    return any;
  }

  resumeAll(): void {
    for (const attempt of this.#held.values()) {
      if (!attempt.suspended) continue;
      attempt.suspended = false;
      if (attempt.phase === 'running') this.#tellProgress(attempt);
    }
  }

  #tellProgress({ lease, correlation, doing, suspended }: HeldAttempt, more: { usage?: Usage } = {}): void {
    const halted = suspended ? { suspended } : {};
    this.#out.tell({ type: 'progress', ...lease, correlation, ...doing, ...halted, ...more });
  }

  cancel(lease: Lease, why: 'cancelled' | 'paused' | 'revoked' | 'superseded', correlation: string): void {
    const key = leaseKey(lease);
    const attempt = this.#held.get(key);
    if (attempt === undefined) {
      this.#overtaken.add(key);
      if (this.#overtaken.size > overtakenMax) {
        const [oldest = key] = this.#overtaken;
        this.#overtaken.delete(oldest);
      }
      this.#out.tell({ type: 'stopped', ...leaseOf(lease), correlation, why: 'unknown', detail: null });
    } else if (attempt.phase === 'running') {
      this.#stop(attempt, why);
    }
    // One that is stopping was asked already; one that is ready is settled by the founder.
  }

  settled(lease: Lease): void {
    const key = leaseKey(lease);
    const attempt = this.#held.get(key);
    if (attempt === undefined) return;
    if (attempt.phase === 'running') this.#stop(attempt, 'superseded');
    if (attempt.phase !== 'ready') return;
    this.#held.delete(key);
    this.#out.push({ type: 'forget', lease: attempt.lease });
  }

  finished(result: AttemptResult): void {
    const attempt = this.#held.get(leaseKey(result));
    // It may have ended by itself while it was being stopped: what is signed and on disk is still shown.
    if (attempt === undefined || attempt.phase === 'ready') return;
    attempt.phase = 'ready';
    attempt.result = result;
    this.#out.tell({ type: 'result', result });
  }

  gone(lease: Lease): void {
    const key = leaseKey(lease);
    const attempt = this.#held.get(key);
    if (attempt === undefined || attempt.phase === 'ready' || attempt.phase === 'ended') return;
    if (this.#out.welcomed) {
      this.#held.delete(key);
      this.#tellStopped(attempt);
      return;
    }
    attempt.phase = 'ended';
    const ended = this.all.filter((one) => one.phase === 'ended');
    if (ended.length > endedKeptMax) this.#held.delete(leaseKey(ended[0]!.lease));
  }

  stopAll(why: StopReason): void {
    for (const attempt of this.#held.values()) this.#stop(attempt, why);
  }

  #stop(attempt: HeldAttempt, why: StopReason): void {
    if (attempt.phase !== 'running') return;
    attempt.phase = 'stopping';
    attempt.why = why;
    this.#out.push({ type: 'stop', lease: attempt.lease, why });
  }

  #tellStopped({ lease, correlation, why }: HeldAttempt): void {
    this.#out.tell({
      type: 'stopped',
      ...lease,
      correlation,
      why: why === null ? 'unknown' : TOLD[why],
      detail: why === 'policy' ? POLICY_DETAIL : null,
    });
  }
}
