import { answering } from '../brain/answer.ts';
import { BrainError, type ChatEvent, type ChatRequest, type Model } from '../brain/types.ts';
import { elsewhere, type MeshBrain, type Sent } from './brain.ts';
import type { OfferedModels } from './offered.ts';

export interface AllModelsOptions {
  /** This machine, as people know it. */
  me(): { peer: string; name: string };
  local: Pick<OfferedModels, 'all' | 'find' | 'chat'>;
  mesh: Pick<MeshBrain, 'models' | 'ask'>;
}

/** The models of this machine and of the others of its mesh: a prompt leaves this machine only where it has to. */
export class AllModels {
  readonly #options: AllModelsOptions;

  constructor(options: AllModelsOptions) {
    this.#options = options;
  }

  /** Each once, those of this machine first. */
  async list(signal: AbortSignal): Promise<Model[]> {
    const { local, mesh } = this.#options;
    const [here, there] = await Promise.all([local.all(), mesh.models(signal)]);
    const models = new Map<string, Model>();
    for (const model of [...here.map(({ model }) => model), ...there])
      if (!models.has(model.name)) models.set(model.name, model);
    return [...models.values()];
  }

  /** A name without a tag stands for `:latest` too. Null: nobody offers it. */
  async find(name: string, signal: AbortSignal): Promise<Model | null> {
    const models = await this.list(signal);
    const named = (wanted: string): Model | undefined => models.find((model) => model.name === wanted);
    return named(name) ?? (name.includes(':') ? null : (named(`${name}:latest`) ?? null));
  }

  /** As `Brain.chat`; `sent` hears of each machine that reads the prompt, this one too, before it does. */
  ask(request: ChatRequest, signal: AbortSignal, sent: Sent): AsyncIterable<ChatEvent> {
    return answering('the mesh', request, signal, (own) => this.#ask(request, own, sent));
  }

  async *#ask(request: ChatRequest, signal: AbortSignal, sent: Sent): AsyncGenerator<ChatEvent> {
    const { local, mesh, me } = this.#options;
    let own: BrainError | null = null;
    if ((await local.find(request.model)) !== null) {
      let begun = false;
      try {
        sent({ ...me(), addresses: [] });
        for await (const event of local.chat(request, signal)) {
          begun = true;
          yield event;
        }
        return;
      } catch (error) {
        if (begun || !(error instanceof BrainError) || !elsewhere(error)) throw error;
        own = error;
      }
    }
    let begun = false;
    try {
      for await (const event of mesh.ask(request, signal, sent)) {
        begun = true;
        yield event;
      }
    } catch (error) {
      // Nobody else has it: what went wrong here says more.
      const none = !begun && error instanceof BrainError && error.fault === 'model';
      throw none && own !== null ? own : error;
    }
  }
}
