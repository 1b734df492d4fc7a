import type { Brain, ChatEvent, ChatRequest, Model, Usage } from './types.ts';

/** Measured tokens a second; null: nothing measured yet. */
export interface Speed {
  promptTokensPerSecond: number | null;
  generateTokensPerSecond: number | null;
}

/** Tokens and the time they took, older ones counting less. */
interface Sum {
  tokens: number;
  ms: number;
}

/** What an answer counts for after the next one: about the last five decide. */
const KEPT = 0.8;
/** Fewer tokens than this measure the start of a request, not the machine. */
const TOKENS_MIN = 8;
const ENTRIES_MAX = 1_024;

/**
 * How fast models really are, by server and model. The mean is one of sums: before each answer the sums of tokens and of time
 * are multiplied by 0.8, then those of the answer are added; speed is their quotient. So a long answer weighs as much as it
 * took, and no clock ages what was measured. Holds 1024 entries; those longest without an answer go first.
 */
export class Speeds {
  readonly #sums = new Map<string, { prompt: Sum; generate: Sum }>();

  /** Takes in what a server counted. What it did not count, or too little to tell, changes nothing. */
  note(server: string, model: string, usage: Usage): void {
    const key = keyOf(server, model);
    const before = this.#sums.get(key);
    const prompt = add(before?.prompt, usage.promptFreshTokens, usage.promptMs);
    const generate = add(before?.generate, usage.generatedTokens, usage.generateMs);
    if (prompt.ms === 0 && generate.ms === 0) return;
    this.#sums.delete(key);
    this.#sums.set(key, { prompt, generate });
    if (this.#sums.size > ENTRIES_MAX) this.#sums.delete(this.#sums.keys().next().value!);
  }

  /** Null: nothing measured yet. */
  of(server: string, model: string): Speed | null {
    const sums = this.#sums.get(keyOf(server, model));
    if (sums === undefined) return null;
    return {
      promptTokensPerSecond: perSecond(sums.prompt),
      generateTokensPerSecond: perSecond(sums.generate),
    };
  }
}

const keyOf = (server: string, model: string): string => JSON.stringify([server, model]);

function add(sum: Sum = { tokens: 0, ms: 0 }, tokens: number | null, ms: number | null): Sum {
  if (tokens === null || ms === null || tokens < TOKENS_MIN || ms <= 0) return sum;
  return { tokens: sum.tokens * KEPT + tokens, ms: sum.ms * KEPT + ms };
}

const perSecond = ({ tokens, ms }: Sum): number | null => (ms === 0 ? null : (tokens / ms) * 1_000);

/**
 * The brain as it is, its answers measured. Where a server counts tokens and not time, the time is this machine's: generating
 * from the first event to the end, which counts the reader's pauses too, one token less. `now`: ms of a steady clock.
 */
export function measured(brain: Brain, speeds: Speeds, now: () => number = () => performance.now()): Brain {
  async function* chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    let firstAt: number | null = null;
    for await (const event of brain.chat(request, signal)) {
      if (event.type !== 'end') firstAt ??= now();
      else
        speeds.note(
          brain.server,
          request.model,
          timed(event.usage, firstAt === null ? null : now() - firstAt),
        );
      yield event;
    }
  }
  return {
    name: brain.name,
    server: brain.server,
    place: brain.place,
    models: (signal: AbortSignal): Promise<Model[]> => brain.models(signal),
    chat,
    ...(brain.unload === undefined ? {} : { unload: brain.unload.bind(brain) }),
  };
}

/** With this machine's time where the server gave none. */
function timed(usage: Usage, generateMs: number | null): Usage {
  if (usage.generateMs !== null || usage.generatedTokens === null || generateMs === null) return usage;
  return { ...usage, generatedTokens: usage.generatedTokens - 1, generateMs };
}

/** The same for every model, and long enough to be timed. */
const PROMPT = [
  'Write a function in Python that takes a list of numbers and returns the largest sum of neighbours.',
  'Explain each line. Then write it again in JavaScript, and in C, and compare the three in one paragraph.',
  'Say what it returns for an empty list, for one number, and for numbers that are all below zero.',
].join('\n');
const ANSWER_TOKENS = 64;

/**
 * One measurement with a fixed prompt, to be run when a machine joins; the first request loads the model, whose time is not
 * counted by servers that tell their times. `nonce` goes first, so that no cache of an earlier one answers: all of the
 * prompt is read. Give it the brain itself, not its `measured` form, which would count it twice. Rejects with a `BrainError`; null: the server counts nothing.
 */
export async function measure(
  brain: Brain,
  model: string,
  speeds: Speeds,
  nonce: string,
  signal: AbortSignal,
): Promise<Speed | null> {
  const request: ChatRequest = {
    model,
    messages: [{ role: 'user', content: `${nonce}\n${PROMPT}` }],
    tools: [],
    format: null,
    maxTokens: ANSWER_TOKENS,
    contextTokens: null,
    temperature: 0,
  };
  let firstAt: number | null = null;
  for await (const event of brain.chat(request, signal)) {
    if (event.type !== 'end') {
      firstAt ??= performance.now();
      continue;
    }
    const usage = timed(event.usage, firstAt === null ? null : performance.now() - firstAt);
    const promptFreshTokens = usage.promptFreshTokens ?? usage.promptTokens;
    speeds.note(brain.server, model, { ...usage, promptFreshTokens });
  }
  return speeds.of(brain.server, model);
}
