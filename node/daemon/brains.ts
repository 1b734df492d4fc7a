import { OllamaBrain } from '../brain/ollama.ts';
import { OpenAIBrain } from '../brain/openai.ts';
import type { Brain } from '../brain/types.ts';
import { lookupOnLan } from '../offer/models.ts';
import type { LentModelServers } from './lent-models.ts';

/** What this machine may ask: the model servers found on it, and those on the LAN that it lends. Asked anew each time. */
export function brainsOf(servers: Pick<LentModelServers, 'list'>): () => Promise<Brain[]> {
  // A brain knows what it once learned of its models.
  const known = new Map<string, Brain>();
  return async () => {
    const answering = (await servers.list()).filter(({ speaks }) => speaks !== null);
    return answering.map(({ url, speaks }) => {
      const key = `${speaks} ${url}`;
      const options = { url, lookup: lookupOnLan };
      const brain =
        known.get(key) ?? (speaks === 'Ollama' ? new OllamaBrain(options) : new OpenAIBrain(options));
      known.set(key, brain);
      return brain;
    });
  };
}
