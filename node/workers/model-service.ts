import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Brain, ChatEvent, ChatRequest } from '../brain/types.ts';
import type { WorkerOptions } from '../worker/worker.ts';
import { type Answer, answer, type Hearer, hearer, nextNumber, number, type Service } from './answers.ts';

/** Answers that one attempt reads at a time. */
const chatsMax = 16;

const content = z.string();
const plain = z.record(z.string(), z.unknown());
const call = z.object({ id: z.string(), name: z.string(), arguments: plain.nullable(), text: z.string() });
const message = z.discriminatedUnion('role', [
  z.object({ role: z.literal('system'), content }),
  z.object({ role: z.literal('user'), content }),
  z.object({ role: z.literal('assistant'), content, calls: z.array(call) }),
  z.object({ role: z.literal('tool'), call: z.string(), name: z.string(), content }),
]);
const request = z.object({
  model: z.string().min(1).max(512),
  messages: z.array(message),
  tools: z.array(z.object({ name: z.string(), description: z.string(), parameters: plain })),
  format: plain.nullable(),
  maxTokens: z.int(),
  contextTokens: z.int().nullable(),
  temperature: z.number().optional(),
  keepAliveMs: z.number().optional(),
});
const counted = z.number().nullable();
const spent = z.object({
  promptTokens: counted,
  promptFreshTokens: counted,
  generatedTokens: counted,
  promptMs: counted,
  generateMs: counted,
});

interface Chat {
  events: AsyncIterator<ChatEvent>;
  stop: AbortController;
}

/**
 * The models that this machine may ask, and the texts that they are told: keys of providers, the way to other members, and who is asked
 * how much stay with the node.
 */
export class ModelService implements Service {
  readonly asks: Readonly<Record<string, Answer>>;
  readonly tells: Readonly<Record<string, Hearer>>;
  readonly #brains: Brain[] = [];
  readonly #chats = new Map<number, Chat>();

  constructor({ brains, prompts, runtime, speeds }: WorkerOptions) {
    this.asks = {
      brains: answer(z.tuple([]), async () =>
        (await brains()).map((brain) => {
          const at = this.#brains.push(brain) - 1;
          return { at, name: brain.name, server: brain.server, place: brain.place };
        }),
      ),
      models: answer(z.tuple([number]), async ([at], signal) => {
        const brain = this.#brain(at);
        const models = await brain.models(signal);
        return models.map((model) => ({ model, speed: speeds.of(brain.server, model.name) }));
      }),
      chat: answer(z.tuple([number, request]), ([at, wanted]) =>
        this.#chat(this.#brain(at), wanted as ChatRequest),
      ),
      chatNext: answer(z.tuple([number]), ([chat], signal) => this.#next(chat, signal)),
      instructions: answer(
        z.tuple([
          z.object({ style: z.enum(['full', 'compact']), plans: z.boolean() }),
          z.string().max(1_024),
        ]),
        ([profile, name]) => prompts.instructions(profile, name),
      ),
      runtime: answer(z.tuple([]), async () => {
        if (runtime !== undefined) return (await runtime()).parts;
        throw new SuperfleetError('SF_INTERNAL', 'this machine gives sandboxes no way out');
      }),
    };
    this.tells = {
      chatDone: hearer(z.tuple([number]), ([chat]) => this.#end(chat)),
      speed: hearer(z.tuple([z.string(), z.string(), spent]), ([server, model, usage]) =>
        speeds.note(server, model, usage),
      ),
    };
  }

  close(): void {
    for (const chat of this.#chats.keys()) this.#end(chat);
  }

  #brain(at: number): Brain {
    const brain = this.#brains[at];
    if (brain === undefined) throw new SuperfleetError('SF_NOT_FOUND', 'no such server of models');
    return brain;
  }

  #chat(brain: Brain, wanted: ChatRequest): number {
    if (this.#chats.size >= chatsMax) throw new SuperfleetError('SF_FULL', 'too many answers at once');
    const stop = new AbortController();
    const number = nextNumber();
    this.#chats.set(number, { events: brain.chat(wanted, stop.signal)[Symbol.asyncIterator](), stop });
    return number;
  }

  /** The next event; null: there are no more. */
  async #next(number: number, signal: AbortSignal): Promise<ChatEvent | null> {
    const chat = this.#chats.get(number);
    if (chat === undefined) throw new SuperfleetError('SF_NOT_FOUND', 'no such answer');
    const stop = (): void => chat.stop.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      const { done, value } = await chat.events.next();
      return done === true ? null : value;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #end(number: number): void {
    const chat = this.#chats.get(number);
    this.#chats.delete(number);
    chat?.stop.abort(new Error('nobody reads the answer any more'));
    chat?.events.return?.()?.catch(() => {});
  }
}
