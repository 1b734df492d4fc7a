import type { GoalWorker } from '../attempt/goal.ts';
import type { Speed, Speeds } from '../brain/speed.ts';
import { type Brain, BrainError, type ChatEvent, type ChatRequest, type Model } from '../brain/types.ts';
import { type RuntimeParts, SandboxRuntime } from '../environment/runtime.ts';
import type { Persona } from '../worker/persona.ts';
import { ConvergenceWorker } from '../worker/worker.ts';
import type { Calls } from './calls.ts';
import type { WorkerOrder } from './order.ts';

/** Pursues goals with the models of the node. */
export function remoteGoals(calls: Calls, goals: NonNullable<WorkerOrder['goals']>): GoalWorker {
  const speeds = new KnownSpeeds(calls);
  const { agents, mcp, hosts } = goals;
  const runtime = async (): Promise<SandboxRuntime> =>
    new SandboxRuntime((await calls.ask('runtime', [])) as RuntimeParts);
  return new ConvergenceWorker({
    agents: () => agents,
    mcp: () => mcp,
    hosts: () => hosts,
    brains: async () => {
      const told = (await calls.ask('brains', [])) as BrainFacts[];
      return told.map((facts) => new RemoteBrain(calls, facts, speeds));
    },
    speeds,
    prompts: {
      instructions: async ({ style, plans }, name) =>
        (await calls.ask('instructions', [{ style, plans }, name])) as { text: string; persona: Persona },
    },
    ...(goals.runtime ? { runtime } : {}),
  });
}

interface BrainFacts extends Pick<Brain, 'name' | 'server' | 'place'> {
  at: number;
}

/** As the node measured them when it last told of the models. */
class KnownSpeeds implements Pick<Speeds, 'of' | 'note'> {
  readonly #known = new Map<string, Speed | null>();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  learn(server: string, model: string, speed: Speed | null): void {
    this.#known.set(JSON.stringify([server, model]), speed);
  }

  of(server: string, model: string): Speed | null {
    return this.#known.get(JSON.stringify([server, model])) ?? null;
  }

  note(...told: Parameters<Speeds['note']>): void {
    this.#calls.tell('speed', ...told);
  }
}

/** A server of models, asked by the node. */
class RemoteBrain implements Brain {
  readonly name: string;
  readonly server: string;
  readonly place: Brain['place'];
  readonly #at: number;
  readonly #calls: Calls;
  readonly #speeds: KnownSpeeds;

  constructor(calls: Calls, { at, name, server, place }: BrainFacts, speeds: KnownSpeeds) {
    this.name = name;
    this.server = server;
    this.place = place;
    this.#at = at;
    this.#calls = calls;
    this.#speeds = speeds;
  }

  async models(signal: AbortSignal): Promise<Model[]> {
    const told = await this.#asked('models', [this.#at], signal);
    return (told as { model: Model; speed: Speed | null }[]).map(({ model, speed }) => {
      this.#speeds.learn(this.server, model.name, speed);
      return model;
    });
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const chat = await this.#asked('chat', [this.#at, request], signal);
    try {
      for (;;) {
        const event = (await this.#asked('chatNext', [chat], signal)) as ChatEvent | null;
        if (event === null) return;
        yield event;
      }
    } finally {
      this.#calls.tell('chatDone', chat);
    }
  }

  /** What an aborted signal made of it is the signal's reason, unless the server's fault was told. */
  async #asked(of: string, args: unknown[], signal: AbortSignal): Promise<unknown> {
    try {
      return await this.#calls.ask(of, args, signal);
    } catch (error) {
      if (!(error instanceof BrainError)) signal.throwIfAborted();
      throw error;
    }
  }
}
