import { SuperfleetError } from '../../protocol/errors.ts';
import { URGENT } from '../../protocol/session.ts';
import type { Session, SessionEnd, SessionHandlers } from '../network/session.ts';

/**
 * The session between the founder and its own member, which libp2p cannot carry (a host cannot dial itself): the same
 * interface, in one process. Messages are copied, so neither side can change what the other holds, and handed over in
 * order, each lane by itself as on the wire.
 */
export interface LoopbackSide<Out> extends Session<Out> {}

/** Messages waiting in one direction; the cores never have as many under way. */
const WAITING_MAX = 65_536;

interface Typed {
  type: string;
}

class Side<In extends Typed, Out extends Typed> implements LoopbackSide<Out> {
  readonly id: number;
  readonly peer: string;
  readonly closed: Promise<SessionEnd>;
  other: Side<Out, In> | null = null;
  #handlers: SessionHandlers<In> | null = null;
  #resolve: (end: SessionEnd) => void = () => {};
  #end: SessionEnd | null = null;
  readonly #lanes: { urgent: In[]; normal: In[] } = { urgent: [], normal: [] };
  readonly #handing = { urgent: false, normal: false };

  constructor(id: number, peer: string) {
    this.id = id;
    this.peer = peer;
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  run(handlers: SessionHandlers<In>): void {
    this.#handlers = handlers;
    void this.#handOver('urgent');
    void this.#handOver('normal');
  }

  send(message: Out): boolean {
    if (this.#end !== null || this.other === null) return false;
    return this.other.take(structuredClone(message));
  }

  take(message: In): boolean {
    if (this.#end !== null) return false;
    const lane = URGENT.has(message.type as 'grant') ? 'urgent' : 'normal';
    if (this.#lanes[lane].length >= WAITING_MAX) {
      this.close('SF_FULL', 'the in-process session holds no more');
      return false;
    }
    this.#lanes[lane].push(message);
    queueMicrotask(() => void this.#handOver(lane));
    return true;
  }

  close(code: string, message: string): void {
    this.finish({ code, message, by: 'us' });
    this.other?.finish({ code, message, by: 'peer' });
  }

  finish(end: SessionEnd): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.#handlers?.onClosed(end);
    this.#resolve(end);
  }

  async #handOver(lane: 'urgent' | 'normal'): Promise<void> {
    if (this.#handing[lane] || this.#handlers === null) return;
    this.#handing[lane] = true;
    try {
      for (let next = this.#lanes[lane].shift(); next !== undefined; next = this.#lanes[lane].shift()) {
        if (this.#end !== null) return;
        await this.#handlers.onMessage(next);
      }
    } catch (cause) {
      throw new SuperfleetError('SF_INTERNAL', 'a message of the in-process session was not handled', {
        cause,
      });
    } finally {
      this.#handing[lane] = false;
    }
  }
}

/** Both ends of one in-process session; each takes its handlers by `run`. */
export function loopbackSession<AtA extends Typed, AtB extends Typed>(
  id: number,
  peer: string,
): [Side<AtA, AtB>, Side<AtB, AtA>] {
  const a = new Side<AtA, AtB>(id, peer);
  const b = new Side<AtB, AtA>(id, peer);
  a.other = b;
  b.other = a;
  return [a, b];
}
