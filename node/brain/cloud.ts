import { open } from 'node:fs/promises';
import type { CloudConfig } from '../config.ts';
import { OpenAIBrain } from './openai.ts';
import { type Brain, BrainError, type ChatEvent, type ChatRequest, type Model } from './types.ts';

const keyBytesMax = 4_096;

/**
 * A provider outside the owner's network, which he named. Its models are those of the config: it is not asked what it has, so nothing
 * goes there but the prompts of goals that may. The key is read for each request, and stands in no message of a failure.
 */
export class CloudBrain implements Brain {
  readonly name: string;
  readonly server: string;
  readonly place = 'cloud';
  readonly #config: CloudConfig;

  constructor(config: CloudConfig) {
    this.#config = config;
    this.name = config.name;
    this.server = config.url;
  }

  async models(): Promise<Model[]> {
    return this.#config.models.map(({ name, contextTokens, tools }) => ({
      name,
      contextTokens,
      tools,
      bytes: null,
      parameters: null,
    }));
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent, void, void> {
    const { keyFile, maxTokensField } = this.#config;
    const key = keyFile === null ? null : await readKey(keyFile);
    const brain = new OpenAIBrain({
      url: this.server,
      name: this.name,
      place: 'cloud',
      maxTokensField,
      ...(key === null ? {} : { key }),
    });
    try {
      yield* brain.chat(request, signal);
    } catch (error) {
      if (key === null || !(error instanceof BrainError) || !error.message.includes(key)) throw error;
      // A provider may repeat what it was sent.
      const message = error.message.replaceAll(key, '[key]');
      throw new BrainError(error.fault, message, { begun: error.begun });
    }
  }
}

/** Rejects with a `BrainError` where others may read it, too. */
async function readKey(path: string): Promise<string> {
  try {
    const file = await open(path);
    try {
      const { mode, size } = await file.stat();
      if ((mode & 0o077) !== 0) throw new Error('others may read it: chmod 600');
      if (size > keyBytesMax) throw new Error(`it has more than ${keyBytesMax} bytes`);
      const key = (await file.readFile('utf8')).trim();
      if (!/^[\x21-\x7e]+$/.test(key)) throw new Error('it is empty, or no key');
      return key;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new BrainError('refused', `the key in ${path} cannot be used: ${(error as Error).message}`);
  }
}
