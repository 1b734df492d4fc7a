import { readPolicy } from '../../protocol/policy.ts';
import { LoadSensor } from './load.ts';
import {
  closesInMinutes,
  type Judged,
  judge,
  judgeEach,
  type Moment,
  policyInForce,
  type Said,
  type Verdict,
} from './policy.ts';
import { onBattery } from './power.ts';
import { type Presence, PresenceSensor, type SignalReading } from './presence.ts';
import { hasSeat } from './seat.ts';

export interface PolicyWatchOptions {
  /** What the owner said here; null: nothing. */
  owner: string | null;
  /** What the invite said; null: nothing. */
  invite: string | null;
  /** The mesh's default, as it was heard last. @default null: none */
  mesh?: string | null;
  sensor?: PresenceSensor;
  seat?: () => boolean;
  load?: LoadSensor;
  battery?: () => boolean;
}

/** A policy as it would be judged now. */
export interface Examined {
  policy: string;
  from: string;
  verdict: Verdict;
  conditions: Judged[];
  signals: SignalReading[];
}

/** A person who comes back waits for their machine no longer than this and the stop itself. */
const LOOK_MS = 1_000;

/** The policy in force on this machine, looked at every second from `begin` to `close`. */
export class PolicyWatch {
  #said: Said;
  #onChange: ((verdict: Verdict) => void) | null = null;
  readonly #sensor: PresenceSensor;
  readonly #seat: () => boolean;
  readonly #load: LoadSensor;
  readonly #battery: () => boolean;
  #timer: NodeJS.Timeout | null = null;
  #verdict: Verdict;

  constructor(options: PolicyWatchOptions) {
    this.#said = { owner: options.owner, invite: options.invite, mesh: options.mesh ?? null };
    this.#sensor = options.sensor ?? new PresenceSensor();
    this.#seat = options.seat ?? hasSeat;
    this.#load = options.load ?? new LoadSensor();
    this.#battery = options.battery ?? onBattery;
    this.#verdict = this.#judge();
  }

  /** Calls `onChange` when the policy begins or ceases to hold, or another part of it bars. */
  begin(onChange: (verdict: Verdict) => void): void {
    this.#onChange = onChange;
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
  }

  /** The owner says something else, null: nothing; it holds from now on. */
  setOwner(policy: string | null): void {
    this.#said = { ...this.#said, owner: policy };
    this.#look();
  }

  /** The mesh has another default, null: none; it holds from now on. */
  setMesh(policy: string | null): void {
    this.#said = { ...this.#said, mesh: policy };
    this.#look();
  }

  /** What the owner, the invite and the mesh say. */
  get said(): Said {
    return this.#said;
  }

  /** What would hold now if the owner said this, condition by condition, and all signs that there are to judge it by. */
  examine(owner: string | null): Examined {
    const inForce = policyInForce({ ...this.#said, owner }, this.#seat());
    const { mesh } = this.#said;
    const date = new Date();
    const seen = this.#sensor.look(date.getTime());
    const battery = this.#battery();
    const load = this.#load.look(performance.now());
    const moment = { ...timeOf(date), ...seen, battery, load };
    const others =
      load === null
        ? 'what others take is not known yet'
        : `others take ${Math.round(load)}% of the processors`;
    return {
      ...inForce,
      verdict: judge(inForce.policy, moment, mesh),
      conditions: judgeEach(inForce.policy, moment, mesh),
      signals: [
        {
          name: 'seat',
          says: seen.seat ? 'somebody may sit at a screen here' : 'nobody can sit at a screen here',
        },
        ...seen.signals,
        { name: 'power', says: battery ? 'its battery' : 'the mains' },
        { name: 'load', says: others },
      ],
    };
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#sensor.close();
  }

  /** The text in force now, and who said so. */
  get inForce(): { policy: string; from: string } {
    return policyInForce(this.#said, this.#seat());
  }

  /** Somebody may sit at a screen here. */
  get seat(): boolean {
    return this.#seat();
  }

  /** When its hours are over, Unix ms by this machine's clock, to the minute; null: they have no end, or are over. */
  get worksUntil(): number | null {
    const now = new Date();
    const minutes = closesInMinutes(this.inForce.policy, timeOf(now));
    if (minutes === null) return null;
    return Math.floor(now.getTime() / MINUTE_MS) * MINUTE_MS + minutes * MINUTE_MS;
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  #look(): void {
    const before = this.#verdict;
    this.#verdict = this.#judge();
    const { holds, told } = this.#verdict;
    if (holds !== before.holds || told !== before.told) this.#onChange?.(this.#verdict);
  }

  #judge(): Verdict {
    const { policy } = this.inForce;
    return judge(policy, this.#moment(policy), this.#said.mesh);
  }

  /** Looks only at what the policy asks for. */
  #moment(policy: string): Moment {
    const date = new Date();
    const asks = new Set(readPolicy(policy).map(({ kind }) => kind));
    const seen = asks.has('idle') ? this.#sensor.look(date.getTime()) : UNSEEN;
    return {
      ...timeOf(date),
      ...seen,
      battery: asks.has('on-mains') && this.#battery(),
      load: asks.has('load') ? this.#load.look(performance.now()) : null,
    };
  }
}

const MINUTE_MS = 60_000;
const UNSEEN: Presence = { idleMs: null, signal: null, seat: false, signals: [] };

/** A wall clock time as the machine's owner reads it. */
const timeOf = (date: Date): { day: number; minute: number } => ({
  day: date.getDay(),
  minute: date.getHours() * 60 + date.getMinutes(),
});
