import type { Connection, Stream } from '@libp2p/interface';
import { SuperfleetError } from '../../../protocol/errors.ts';
import type { Machine } from '../machine.ts';
import type { Random } from '../random.ts';
import type { Schedule } from '../schedule.ts';

/** One end of the network: a process that may be dialled by its peer id. */
export interface Port {
  readonly name: string;
  readonly peer: string;
  readonly machine: Machine;
  /** Serves a stream of the log protocol; null: nobody listens. */
  listener: ((stream: Stream, connection: Connection) => Promise<void>) | null;
  /** What it does to what it sends; null: it is honest. */
  readonly lie: ((bytes: Uint8Array) => Uint8Array[]) | null;
  /** Held up by this much more, ms. */
  slowMs: number;
}

/** The ways between machines. */
export interface Ways {
  readonly schedule: Schedule;
  readonly random: Random;
  up(from: Port, to: Port): boolean;
  latencyMs(from: Port, to: Port): number;
  /** Chance that a piece is lost for good, which breaks its stream. */
  lossy(): number;
  /** The process that answers for this peer id to whoever dials from there; null: none can be reached. */
  find(peer: string, from: Port): Port | null;
}

/**
 * A byte stream of libp2p, as far as `FrameChannel` uses one, over the simulated network: bytes of a direction come late,
 * in order and in pieces, or the stream breaks.
 */
class SimStream extends EventTarget {
  status: 'open' | 'closed' | 'aborted' | 'reset' = 'open';
  readableEnded = false;
  readonly readBufferLength = 0;
  readonly writableNeedsDrain = false;
  readonly writeBufferLength = 0;
  other!: SimStream;
  readonly #ways: Ways;
  readonly #own: Port;
  readonly #far: Port;
  readonly #life: number;
  #busyUntil = 0;
  #ended = false;

  constructor(ways: Ways, own: Port, far: Port) {
    super();
    this.#ways = ways;
    this.#own = own;
    this.#far = far;
    this.#life = own.machine.life;
    this.#keepAlive();
  }

  /** As a muxer's pings do: a side that the other cannot answer hears of it. */
  #keepAlive(): void {
    this.#ways.schedule.after(this.#ways.random.between(2_000, 6_000), () => {
      if (this.status !== 'open' || this.#own.machine.life !== this.#life) return;
      const there = this.#far.machine.alive && this.other.#life === this.#far.machine.life;
      const answers = there && this.other.status === 'open' && both(this.#ways, this.#own, this.#far);
      if (answers) this.#keepAlive();
      else this.reset();
    });
  }

  send(data: Uint8Array): boolean {
    if (this.status !== 'open' || this.#ended) throw new Error('the stream is closed');
    const copy = Uint8Array.from(data);
    for (const bytes of this.#own.lie?.(copy) ?? [copy]) this.#carry(() => this.other.take(bytes));
    return true;
  }

  async close(): Promise<void> {
    if (this.status !== 'open' || this.#ended) return;
    this.#ended = true;
    this.#carry(() => this.other.end());
    if (this.readableEnded) this.#over('closed', null);
  }

  abort(error: Error): void {
    if (this.status !== 'open') return;
    this.#over('aborted', error);
    this.#carry(() => this.other.reset());
  }

  take(bytes: Uint8Array): void {
    this.#here(() => {
      if (this.status === 'open') this.dispatchEvent(Object.assign(new Event('message'), { data: bytes }));
    });
  }

  end(): void {
    this.#here(() => {
      if (this.status !== 'open') return;
      this.readableEnded = true;
      this.dispatchEvent(new Event('end'));
      if (this.#ended) this.#over('closed', null);
    });
  }

  reset(): void {
    this.#here(() => {
      if (this.status === 'open') this.#over('reset', new Error('the stream broke'));
    });
  }

  #over(status: 'closed' | 'aborted' | 'reset', error: Error | null): void {
    this.status = status;
    this.readableEnded = true;
    this.dispatchEvent(Object.assign(new Event('close'), { error }));
  }

  /** A process that started anew has no part in what the old one opened. */
  #here(work: () => void): void {
    if (this.#own.machine.life === this.#life) this.#own.machine.deliver(work);
  }

  #carry(arrive: () => void): void {
    const { schedule, random } = this.#ways;
    const latency = this.#ways.latencyMs(this.#own, this.#far) * random.between(0.5, 1.5) + this.#own.slowMs;
    const at = Math.max(this.#busyUntil, schedule.now + latency);
    this.#busyUntil = at;
    const lost = random.chance(this.#ways.lossy());
    schedule.at(at, () => {
      const there = this.#far.machine.alive && this.other.#life === this.#far.machine.life;
      if (!lost && there && this.#ways.up(this.#own, this.#far)) arrive();
      // What cannot arrive breaks the stream, and each side hears of it by its own silence.
      else
        for (const end of [this, this.other]) schedule.after(random.between(500, 8_000), () => end.reset());
    });
  }
}

/** A connection from one machine to a peer; rejects with `SF_UNREACHABLE` where nobody answers. */
export function dial(ways: Ways, from: Port, peer: string, signal?: AbortSignal): Promise<Connection> {
  const { schedule, random } = ways;
  const { life } = from.machine;
  return new Promise((resolve, reject) => {
    const far = ways.find(peer, from);
    const waitMs = far === null ? random.between(100, 3_000) : 2 * ways.latencyMs(from, far);
    schedule.after(waitMs, () => {
      if (from.machine.life !== life) return;
      from.machine.deliver(() => {
        if (signal?.aborted === true) reject(signal.reason);
        else if (far === null || !both(ways, from, far) || !far.machine.alive || far.listener === null) {
          reject(new SuperfleetError('SF_UNREACHABLE', `${peer} does not answer`));
        } else resolve(connection(ways, from, far));
      });
    });
  });
}

const both = (ways: Ways, one: Port, other: Port): boolean => ways.up(one, other) && ways.up(other, one);

function connection(ways: Ways, from: Port, far: Port): Connection {
  const life = far.machine.life;
  return {
    remotePeer: { toString: () => far.peer },
    newStream: async () => {
      const [own, other] = [new SimStream(ways, from, far), new SimStream(ways, far, from)];
      own.other = other;
      other.other = own;
      const back = { remotePeer: { toString: () => from.peer } } as unknown as Connection;
      if (far.machine.life === life) {
        far.listener?.(other as unknown as Stream, back).then(
          () => other.close(),
          (error: unknown) => other.abort(error instanceof Error ? error : new Error(String(error))),
        );
      }
      return own as unknown as Stream;
    },
  } as unknown as Connection;
}
