import { type InferModel, inferModelsMax } from '../../protocol/infer.ts';
import { measured, type Speed, type Speeds } from '../brain/speed.ts';
import { type Brain, BrainError, type ChatEvent, type ChatRequest, type Model } from '../brain/types.ts';

/** A list is used for so long; who asks for a model that is not in it has it made anew. */
const FRESH_MS = 10_000;
/** Not more often than so, whatever is asked for. */
const AGAIN_MS = 1_000;
const LIST_MS = 5_000;

/** The speed of a model that has answered nothing yet. */
export const unmeasured: Speed = { promptTokensPerSecond: null, generateTokensPerSecond: null };

export interface OfferedModel {
  brain: Brain;
  model: Model;
}

/** The models that the servers of this machine offer, by name; of two servers with one model the first counts. */
export class OfferedModels {
  readonly #brains: () => Promise<readonly Brain[]>;
  readonly #speeds: Speeds;
  readonly #now: () => number;
  #list: Map<string, OfferedModel> = new Map();
  #at = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | null = null;

  constructor(
    brains: () => Promise<readonly Brain[]>,
    speeds: Speeds,
    now: () => number = () => performance.now(),
  ) {
    this.#brains = brains;
    this.#speeds = speeds;
    this.#now = now;
  }

  async all(): Promise<OfferedModel[]> {
    await this.#look(FRESH_MS);
    return [...this.#list.values()];
  }

  /** As members are told of them. */
  async told(): Promise<InferModel[]> {
    return (await this.all()).slice(0, inferModelsMax).map(({ brain, model }) => ({
      ...model,
      ...(this.#speeds.of(brain.server, model.name) ?? unmeasured),
    }));
  }

  /** Who offers it; a name without a tag stands for `:latest` too. Null: nobody. */
  async find(name: string): Promise<OfferedModel | null> {
    await this.#look(FRESH_MS);
    const found = this.#named(name);
    if (found !== null) return found;
    await this.#look(AGAIN_MS);
    return this.#named(name);
  }

  /** An answer of whoever offers the model, measured. Throws a `BrainError`, as `Brain.chat`. */
  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const found = await this.find(request.model);
    if (found === null) throw new BrainError('model', `no model server of this machine has ${request.model}`);
    try {
      const brain = measured(found.brain, this.#speeds);
      yield* brain.chat({ ...request, model: found.model.name }, signal);
    } catch (error) {
      // What it offers has changed: looked at again before the next request.
      const gone = error instanceof BrainError && ['unreachable', 'model'].includes(error.fault);
      if (gone) this.#at = Number.NEGATIVE_INFINITY;
      throw error;
    }
  }

  #named(name: string): OfferedModel | null {
    return this.#list.get(name) ?? (name.includes(':') ? null : (this.#list.get(`${name}:latest`) ?? null));
  }

  async #look(freshMs: number): Promise<void> {
    if (this.#now() - this.#at < freshMs) return;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    await this.#asking;
  }

  async #ask(): Promise<void> {
    const brains = await this.#brains();
    const lists = await Promise.all(
      brains.map(async (brain) => {
        // A server that does not answer offers nothing.
        const models = await brain.models(AbortSignal.timeout(LIST_MS)).catch(() => []);
        return models.map((model) => ({ brain, model }));
      }),
    );
    const list = new Map<string, OfferedModel>();
    for (const one of lists.flat()) if (!list.has(one.model.name)) list.set(one.model.name, one);
    this.#list = list;
    this.#at = this.#now();
  }
}
