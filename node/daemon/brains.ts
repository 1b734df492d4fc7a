import { OllamaBrain } from '../brain/ollama.ts';
import { OpenAIBrain } from '../brain/openai.ts';
import type { Brain } from '../brain/types.ts';
import { lookupOnLan } from '../offer/models.ts';
import type { LentModelServers } from './lent-models.ts';

/** A server has this long to free a model's memory. */
const UNLOAD_MS = 5_000;

/** Models that were asked through this machine's brains since they were last let go. */
export class UsedModels {
  readonly #used = new Map<string, { brain: Brain; model: string }>();

  note(brain: Brain, model: string): void {
    this.#used.set(`${brain.server} ${model}`, { brain, model });
  }

  /** Frees the memory they take, where their servers have a way to say so. Never rejects: a server that is gone holds nothing. */
  async letGo(): Promise<void> {
    const used = [...this.#used.values()];
    this.#used.clear();
    await Promise.all(
      used.map(({ brain, model }) =>
        Promise.resolve(brain.unload?.(model, AbortSignal.timeout(UNLOAD_MS))).catch(() => {}),
      ),
    );
  }
}

/** What this machine may ask: the model servers found on it, and those on the LAN that it lends. Asked anew each time. */
export function brainsOf(
  servers: Pick<LentModelServers, 'list'>,
  used = new UsedModels(),
): () => Promise<Brain[]> {
  // A brain knows what it once learned of its models.
  const known = new Map<string, Brain>();
  return async () => {
    const answering = (await servers.list()).filter(({ speaks }) => speaks !== null);
    return answering.map(({ url, speaks }) => {
      const key = `${speaks} ${url}`;
      const options = { url, lookup: lookupOnLan };
      const brain =
        known.get(key) ??
        noting(speaks === 'Ollama' ? new OllamaBrain(options) : new OpenAIBrain(options), used);
      known.set(key, brain);
      return brain;
    });
  };
}

/** The brain, each model that is asked noted. */
function noting(brain: Brain, used: UsedModels): Brain {
  return {
    name: brain.name,
    server: brain.server,
    place: brain.place,
    models: (signal) => brain.models(signal),
    chat: (request, signal) => {
      used.note(brain, request.model);
      return brain.chat(request, signal);
    },
    ...(brain.unload && { unload: (model, signal) => brain.unload!(model, signal) }),
  };
}
