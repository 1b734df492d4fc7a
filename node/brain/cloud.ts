import { open } from 'node:fs/promises';
import type { CloudConfig } from '../config.ts';
import { OpenAIBrain } from './openai.ts';
import { type Brain, BrainError, type ChatEvent, type ChatRequest, type Model } from './types.ts';

const keyBytesMax = 4_096;
/** Of a key so much is known for it, wherever it stands. */
const keyHeadLength = 8;

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
      if (key === null || !(error instanceof BrainError)) throw error;
      const message = withoutKey(error.message, key);
      throw message === error.message ? error : new BrainError(error.fault, message, { begun: error.begun });
    }
  }
}

/** A provider may repeat what it was sent, and its words may be cut in the midst of it. */
function withoutKey(message: string, key: string): string {
  const head = key.slice(0, keyHeadLength);
  return message.split(head).reduce((told, rest) => {
    let at = 0;
    while (at < rest.length && rest[at] === key[head.length + at]) at += 1;
    return `${told}[key]${rest.slice(at)}`;
  });
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
