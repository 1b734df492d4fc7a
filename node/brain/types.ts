/** What turns a conversation into a model's answer: one server of models, whatever it speaks. */
export interface Brain {
  /** How people name it: `ollama`, `openai`, `recorded`. */
  readonly name: string;
  /** Where it is, for people and for measured speed, such as `http://127.0.0.1:11434`: two servers may speak one language. */
  readonly server: string;
  /** Whose machine reads the prompt: this one, another of the mesh, or somebody else's for money. */
  readonly place: 'local' | 'mesh' | 'cloud';
  /** Models it offers now. Rejects with a `BrainError`. */
  models(signal: AbortSignal): Promise<Model[]>;
  /**
   * One answer, as it comes. The last event is `end`; where the answer breaks off before, it throws a `BrainError`. Ending
   * the iteration or aborting closes the request at the server. Aborted by a time limit (`TimeoutError`) it is the fault
   * `timeout`; by anything else it throws the signal's reason, since nothing went wrong.
   */
  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Frees the memory a model takes, where the server has a way to say so. Rejects with a `BrainError`. */
  unload?(model: string, signal: AbortSignal): Promise<void>;
}

/** A model as its server tells of it; null where it does not say. */
export interface Model {
  name: string;
  /** Prompt and answer together, as much as this server can give the model. */
  contextTokens: number | null;
  /** It calls tools. */
  tools: boolean | null;
  /** Of its weights. */
  bytes: number | null;
  /** Weights as a number: 7.6e9 for what is called 7.6B. */
  parameters: number | null;
}

export type Message =
  | { role: 'system' | 'user'; content: string }
  | { role: 'assistant'; content: string; calls: ToolCall[] }
  /** What a tool gave back; `call` is the id of its `ToolCall`. */
  | { role: 'tool'; call: string; name: string; content: string };

export interface ToolCall {
  id: string;
  name: string;
  /** As the model wrote them, which need not be what the tool takes; null: no JSON object. */
  arguments: Record<string, unknown> | null;
  /** The text they were read from. */
  text: string;
}

/** A tool as a model is told of it. `parameters` is a JSON schema of one object. */
export interface ToolDefinition {
  name: string;
  description: string;
  parameters: Record<string, unknown>;
}

export interface ChatRequest {
  model: string;
  messages: readonly Message[];
  tools: readonly ToolDefinition[];
  /** JSON schema of the whole answer; null: free text. */
  format: Record<string, unknown> | null;
  /** Tokens of the answer at most. */
  maxTokens: number;
  /** Tokens of prompt and answer that the server is to hold; null: as it does by itself. */
  contextTokens: number | null;
  /** @default the server's */
  temperature?: number;
  /** The model stays in memory for so long after the answer. @default the server's */
  keepAliveMs?: number;
}

export type ChatEvent =
  | { type: 'text' | 'thinking'; text: string }
  | { type: 'call'; call: ToolCall }
  /** `length`: it was cut at `maxTokens` or at the end of the context. */
  | { type: 'end'; reason: 'stop' | 'length'; usage: Usage };

/** As the server counted; null where it did not. */
export interface Usage {
  promptTokens: number | null;
  /** Of the prompt, those read now and not found in the server's cache: what `promptMs` was spent on. */
  promptFreshTokens: number | null;
  generatedTokens: number | null;
  /** Time of the server, for measured speed. */
  promptMs: number | null;
  generateMs: number | null;
}

/**
 * Why there is no answer. `unreachable`: nobody listens; `model`: the server has no such model; `refused`: it says no (key, quota,
 * policy, a request it does not take); `busy`: not now (queue full, rate limit, model still loading); `context`: the prompt does not fit; `timeout`: it took too long; `broken`: it spoke something else or broke off.
 */
export type BrainFault = 'unreachable' | 'model' | 'refused' | 'busy' | 'context' | 'timeout' | 'broken';

export class BrainError extends Error {
  readonly fault: BrainFault;
  /** Something of the answer had come before. */
  readonly begun: boolean;

  constructor(fault: BrainFault, message: string, options: { begun?: boolean; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'BrainError';
    this.fault = fault;
    this.begun = options.begun ?? false;
  }
}
