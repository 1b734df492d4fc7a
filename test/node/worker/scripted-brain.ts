/** A brain of a script, in the test's own process: for what the loop makes of answers. Servers are scripted in `test/model-server/`. */
import type {
  Brain,
  BrainError,
  ChatEvent,
  ChatRequest,
  Model,
  ToolCall,
  Usage,
} from '../../../node/brain/types.ts';

/** One answer: its words and calls, what breaks it off, or silence until it is cancelled. */
export type Answer =
  | { text?: string; calls?: [name: string, args: Record<string, unknown>][]; cut?: boolean; usage?: Usage }
  | { error: BrainError }
  | 'silence';

export const USAGE: Usage = {
  promptTokens: 100,
  promptFreshTokens: 100,
  generatedTokens: 10,
  promptMs: 20,
  generateMs: 200,
};

let ids = 0;
export function callOf(name: string, args: Record<string, unknown>): ToolCall {
  ids += 1;
  return { id: `call-${ids}`, name, arguments: args, text: JSON.stringify(args) };
}

export class ScriptedBrain implements Brain {
  readonly name: string;
  readonly server = 'in this process';
  readonly place: 'local' | 'cloud' = 'local';
  readonly asked: ChatRequest[] = [];
  readonly #answers: Answer[];

  /** Its answers in order; after them the last one again and again. */
  constructor(answers: Answer[], name = 'scripted') {
    this.#answers = answers;
    this.name = name;
  }

  async models(): Promise<Model[]> {
    return [];
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    signal.throwIfAborted();
    this.asked.push(structuredClone(request));
    const answer = this.#answers[Math.min(this.asked.length, this.#answers.length) - 1]!;
    if (answer === 'silence') {
      // As a socket would, it keeps the process.
      const socket = setInterval(() => {}, 60_000);
      try {
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      } finally {
        clearInterval(socket);
      }
      return;
    }
    if ('error' in answer) throw answer.error;
    if (answer.text !== undefined) yield { type: 'text', text: answer.text };
    for (const [name, args] of answer.calls ?? []) yield { type: 'call', call: callOf(name, args) };
    yield { type: 'end', reason: answer.cut ? 'length' : 'stop', usage: answer.usage ?? USAGE };
  }
}
