import { SuperfleetError } from '../../protocol/errors.ts';
import { errorOf, type Fault, faultOf } from './faults.ts';

/** What crosses between a node and its worker, in both directions. */
export type Message =
  | { type: 'ask'; id: number; of: string; args: unknown[] }
  | { type: 'answer'; id: number; value?: unknown; fault?: Fault }
  /** The asker no longer wants it; it is answered all the same. */
  | { type: 'abort'; id: number; fault: Fault }
  | { type: 'tell'; of: string; args: unknown[] };

/** What answers the other side. */
export interface Served {
  /** Rejects with what the asker is told. Throws (and does not reject) where the question is nonsense. */
  ask(of: string, args: unknown[], signal: AbortSignal): Promise<unknown>;
  /** Throws where that is nonsense. */
  tell(of: string, args: unknown[]): void;
}

/** Questions of the other side that are open at one time: far more than an attempt has steps under way. */
const openMax = 1_024;

const nonsense = (what: string): SuperfleetError => new SuperfleetError('SF_FRAME', what);

/** One side of a channel on which both ask. Nothing in it does IO; messages are given to `send` in order. */
export class Calls {
  readonly #send: (message: Message) => void;
  readonly #served: Served;
  readonly #asked = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #serving = new Map<number, AbortController>();
  #ids = 0;
  #closed: Error | null = null;

  constructor(send: (message: Message) => void, served: Served) {
    this.#send = send;
    this.#served = served;
  }

  /** Rejects with what the other side threw, or with the error of `close`. An aborted question still waits for its answer. */
  ask(of: string, args: unknown[], signal?: AbortSignal): Promise<unknown> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    const id = ++this.#ids;
    const asked = Promise.withResolvers<unknown>();
    this.#asked.set(id, asked);
    const abort = (): void => this.#send({ type: 'abort', id, fault: faultOf(signal?.reason) });
    signal?.addEventListener('abort', abort, { once: true });
    this.#send({ type: 'ask', id, of, args });
    return asked.promise.finally(() => signal?.removeEventListener('abort', abort));
  }

  tell(of: string, ...args: unknown[]): void {
    if (this.#closed === null) this.#send({ type: 'tell', of, args });
  }

  /** Takes a message of the other side. Throws where it is nonsense: nothing more is to be taken then. */
  receive(message: unknown): void {
    if (this.#closed !== null) return;
    const said = messageOf(message);
    switch (said.type) {
      case 'ask':
        this.#serve(said.id, said.of, said.args);
        return;
      case 'answer': {
        const asked = this.#asked.get(said.id);
        if (asked === undefined) throw nonsense('an answer that nobody asked for');
        // Where this throws the question stays open, and is rejected when the other side is closed for it.
        const error = said.fault === undefined ? null : errorOf(said.fault);
        this.#asked.delete(said.id);
        if (error === null) asked.resolve(said.value);
        else asked.reject(error);
        return;
      }
      case 'abort':
        this.#serving.get(said.id)?.abort(errorOf(said.fault));
        return;
      case 'tell':
        this.#served.tell(said.of, said.args);
        return;
      default:
        throw nonsense(`a message of no known type: ${String((said satisfies never as Message).type)}`);
    }
  }

  /** The other side is gone: what was asked of it rejects with `why`, what it asked for is aborted. */
  close(why: Error): void {
    if (this.#closed !== null) return;
    this.#closed = why;
    for (const asked of this.#asked.values()) asked.reject(why);
    this.#asked.clear();
    for (const abort of this.#serving.values()) abort.abort(why);
    this.#serving.clear();
  }

  #serve(id: number, of: string, args: unknown[]): void {
    if (this.#serving.has(id) || this.#serving.size >= openMax) throw nonsense('too many questions at once');
    const abort = new AbortController();
    const answer = this.#served.ask(of, args, abort.signal);
    this.#serving.set(id, abort);
    const done = (answered: { value?: unknown; fault?: Fault }): void => {
      this.#serving.delete(id);
      if (this.#closed !== null) return;
      try {
        this.#send({ type: 'answer', id, ...answered });
      } catch (thrown) {
        // Too large, or no plain value: the asker is told so, and nobody else falls over it.
        this.#send({ type: 'answer', id, fault: faultOf(thrown) });
      }
    };
    answer.then(
      (value) => done({ value }),
      (thrown: unknown) => done({ fault: faultOf(thrown) }),
    );
  }
}

function messageOf(message: unknown): Message {
  if (typeof message !== 'object' || message === null) throw nonsense('no message');
  const { type, id, of, args, fault } = message as Record<string, unknown>;
  const numbered = typeof id === 'number' && Number.isSafeInteger(id);
  const named = typeof of === 'string' && Array.isArray(args);
  const faulty = typeof fault === 'object' && fault !== null;
  const whole =
    (type === 'ask' && numbered && named) ||
    (type === 'answer' && numbered && (fault === undefined || faulty)) ||
    (type === 'abort' && numbered && faulty) ||
    (type === 'tell' && named);
  if (!whole) throw nonsense('a message that is not of the form agreed');
  return message as Message;
}
