import { randomUUID } from 'node:crypto';
import type { Connection } from '@libp2p/interface';
import type { InferModel } from '../../protocol/infer.ts';
import { answering } from '../brain/answer.ts';
import { asBrainError } from '../brain/fault.ts';
import { type Brain, BrainError, type ChatEvent, type ChatRequest, type Model } from '../brain/types.ts';
import { chatAt, listAt, type Offering } from './client.ts';

/** A member that is said to lend models, and where it listens. */
export interface Lender {
  peer: string;
  /** For people. */
  name: string;
  addresses: readonly string[];
}

export interface MeshBrainOptions {
  /** Members that may lend models now, this machine not among them. */
  lenders(): readonly Lender[];
  connect(lender: Lender, signal: AbortSignal): Promise<Connection>;
  /** ms of a steady clock. @default performance.now */
  now?: () => number;
}

/** A request that is sent to a machine, which reads its prompt. */
export type Sent = (lender: Lender) => void;

/** Lenders that are looked at, and at a time. */
const LENDERS_MAX = 64;
const ASKED_AT_ONCE = 8;
/** What a lender said is asked anew after `fresh`, in the background until `stale`. */
const FRESH_MS = 3_000;
const STALE_MS = 30_000;
const CONNECT_MS = 5_000;
/** Whoever has not said by then what it lends is not waited for: one dead machine is not to hide the others. */
const PATIENCE_MS = 3_000;

/** Another machine may do better; the other faults are about the request itself. */
export const elsewhere = ({ fault }: BrainError): boolean => fault !== 'refused' && fault !== 'context';

/** The models of other members. */
export class MeshBrain implements Brain {
  readonly name = 'mesh';
  readonly server = 'the mesh';
  readonly place = 'mesh';
  readonly #options: MeshBrainOptions;
  readonly #now: () => number;
  readonly #offers = new Map<string, Offering>();
  /** Answers asked for from here and under way, by peer. */
  readonly #running = new Map<string, number>();
  #at = Number.NEGATIVE_INFINITY;
  #changes = 0;
  #asking: Promise<void> | null = null;

  constructor(options: MeshBrainOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Who lends has changed: what was heard before is asked anew. */
  changed(): void {
    this.#at = Number.NEGATIVE_INFINITY;
    this.#changes += 1;
  }

  async models(signal: AbortSignal): Promise<Model[]> {
    await this.#look(signal, FRESH_MS);
    const models = new Map<string, Model>();
    for (const { offer } of this.#known())
      for (const { generateTokensPerSecond: _, promptTokensPerSecond: __, ...model } of offer.models)
        if (!models.has(model.name)) models.set(model.name, model);
    return [...models.values()];
  }

  /** What each lender that answers offers now. */
  async offers(signal: AbortSignal): Promise<{ lender: Lender; offer: Offering }[]> {
    await this.#look(signal, FRESH_MS);
    return this.#known();
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return this.ask(request, signal, () => {});
  }

  /** As `chat`; `sent` hears of each machine that the prompt goes to, before it does. */
  ask(request: ChatRequest, signal: AbortSignal, sent: Sent): AsyncIterable<ChatEvent> {
    return answering(this.server, request, signal, (own) => this.#ask(request, own, sent));
  }

  async *#ask(request: ChatRequest, signal: AbortSignal, sent: Sent): AsyncGenerator<ChatEvent> {
    const correlation = randomUUID();
    let last = new BrainError(
      'model',
      `no machine of the mesh lends a model “${request.model}”; mesh-node models lists what there is`,
    );
    for (const lender of await this.#candidates(request.model, signal)) {
      let begun = false;
      this.#count(lender.peer, 1);
      try {
        const connection = await this.#connect(lender, signal);
        sent(lender);
        for await (const event of chatAt(connection, request, correlation, signal)) {
          begun = true;
          yield event;
        }
        return;
      } catch (thrown) {
        signal.throwIfAborted();
        last = faultAt(lender, thrown, begun);
        // Its word of before is not relied on again.
        if (!begun) this.#offers.delete(lender.peer);
        if (begun || !elsewhere(last)) throw last;
      } finally {
        this.#count(lender.peer, -1);
      }
    }
    throw last;
  }

  /** Who lends the model: by load, then by speed as measured, unknown last. */
  async #candidates(model: string, signal: AbortSignal): Promise<Lender[]> {
    await this.#look(signal, STALE_MS);
    if (!this.#known().some(({ offer }) => named(offer, model) !== null)) await this.#look(signal, 0);
    if (this.#now() - this.#at > FRESH_MS) this.#refresh().catch(() => {});
    return this.#known()
      .flatMap(({ lender, offer }) => {
        const found = named(offer, model);
        if (found === null) return [];
        const load = Math.max(offer.running, this.#running.get(lender.peer) ?? 0);
        return [{ lender, load, speed: found.generateTokensPerSecond ?? 0 }];
      })
      .sort((a, b) => a.load - b.load || b.speed - a.speed || (a.lender.peer < b.lender.peer ? -1 : 1))
      .map(({ lender }) => lender);
  }

  #known(): { lender: Lender; offer: Offering }[] {
    return this.#options.lenders().flatMap((lender) => {
      const offer = this.#offers.get(lender.peer);
      return offer === undefined || !offer.lends ? [] : [{ lender, offer }];
    });
  }

  async #look(signal: AbortSignal, freshMs: number): Promise<void> {
    if (this.#now() - this.#at < freshMs) return;
    const { promise: left, reject } = Promise.withResolvers<never>();
    const aborted = (): void => reject(signal.reason);
    const { promise: long, resolve } = Promise.withResolvers<void>();
    const patience = setTimeout(resolve, PATIENCE_MS);
    signal.addEventListener('abort', aborted, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([this.#refresh(), left, long]);
    } finally {
      clearTimeout(patience);
      signal.removeEventListener('abort', aborted);
    }
  }

  #refresh(): Promise<void> {
    this.#asking ??= this.#list().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #list(): Promise<void> {
    const changes = this.#changes;
    const lenders = this.#options.lenders().slice(0, LENDERS_MAX);
    const peers = new Set(lenders.map(({ peer }) => peer));
    for (const peer of this.#offers.keys()) if (!peers.has(peer)) this.#offers.delete(peer);
    const queue = lenders.values();
    const worker = async (): Promise<void> => {
      for (const lender of queue) {
        try {
          const signal = AbortSignal.timeout(CONNECT_MS);
          this.#offers.set(lender.peer, await listAt(await this.#connect(lender, signal), signal));
        } catch {
          // Who does not answer lends nothing now.
          this.#offers.delete(lender.peer);
        }
      }
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, worker));
    if (changes === this.#changes) this.#at = this.#now();
  }

  #connect(lender: Lender, signal: AbortSignal): Promise<Connection> {
    return this.#options.connect(lender, AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS)]));
  }

  #count(peer: string, change: number): void {
    const running = (this.#running.get(peer) ?? 0) + change;
    if (running > 0) this.#running.set(peer, running);
    else this.#running.delete(peer);
  }
}

const named = (offer: Offering, name: string): InferModel | null =>
  offer.models.find((model) => model.name === name) ??
  offer.models.find((model) => !name.includes(':') && model.name === `${name}:latest`) ??
  null;

/** What went wrong with a member: what broke below the answer is a member that went away. */
function faultAt(lender: Lender, thrown: unknown, begun: boolean): BrainError {
  if (thrown instanceof BrainError)
    return new BrainError(thrown.fault, `${lender.name}: ${thrown.message}`, { begun, cause: thrown });
  const error = asBrainError(thrown, lender.name, begun);
  const code = (thrown as { code?: unknown }).code;
  const fault =
    thrown instanceof Error && thrown.name === 'TimeoutError'
      ? 'timeout'
      : code === 'SF_FRAME'
        ? 'broken'
        : 'unreachable';
  return new BrainError(fault, error.message, { begun, cause: thrown });
}
