import { readPolicy } from '../../protocol/policy.ts';
import { judge, type Moment, policyInForce, type Verdict } from './policy.ts';
import { PresenceSensor } from './presence.ts';
import { hasSeat } from './seat.ts';

export interface PolicyWatchOptions {
  /** What the owner said here; null: nothing. */
  owner: string | null;
  /** What the invite said; null: nothing. */
  invite: string | null;
  sensor?: PresenceSensor;
  seat?: () => boolean;
}

/** A person who comes back waits for their machine no longer than this and the stop itself. */
const LOOK_MS = 1_000;

/** The policy in force on this machine, looked at every second from `begin` to `close`. */
export class PolicyWatch {
  readonly #options: PolicyWatchOptions;
  readonly #sensor: PresenceSensor;
  readonly #seat: () => boolean;
  #timer: NodeJS.Timeout | null = null;
  #verdict: Verdict;

  constructor(options: PolicyWatchOptions) {
    this.#options = options;
    this.#sensor = options.sensor ?? new PresenceSensor();
    this.#seat = options.seat ?? hasSeat;
    this.#verdict = this.#judge();
  }

  /** Calls `onChange` when the policy begins or ceases to hold, or another part of it bars. */
  begin(onChange: (verdict: Verdict) => void): void {
    this.#timer ??= setInterval(() => this.#look(onChange), LOOK_MS);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#sensor.close();
  }

  /** The text in force now, and who said so. */
  get inForce(): { policy: string; from: string } {
    return policyInForce(this.#options.owner, this.#options.invite, this.#seat());
  }

  /** Somebody may sit at a screen here. */
  get seat(): boolean {
    return this.#seat();
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  #look(onChange: (verdict: Verdict) => void): void {
    const before = this.#verdict;
    this.#verdict = this.#judge();
    const { holds, told } = this.#verdict;
    if (holds !== before.holds || told !== before.told) onChange(this.#verdict);
  }

  #judge(): Verdict {
    const { policy } = this.inForce;
    const idle = readPolicy(policy).some(({ kind }) => kind === 'idle');
    return judge(policy, momentOf(new Date(), idle ? this.#sensor : null));
  }
}

/** Pure but for the sensor: a wall clock time as the machine's owner reads it. */
function momentOf(date: Date, sensor: PresenceSensor | null): Moment {
  const seen = sensor?.look(date.getTime()) ?? { idleMs: null, signal: null, seat: false };
  return { day: date.getDay(), minute: date.getHours() * 60 + date.getMinutes(), ...seen };
}
