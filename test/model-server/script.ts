/** What a scripted server does next in an answer. */
export type Step =
  | { do: 'text' | 'thinking'; text: string }
  | { do: 'call'; name: string; arguments: Record<string, unknown>; id?: string }
  /** As each server passes on what its model got wrong: Ollama as text, the others as arguments that are no JSON. */
  | { do: 'malformed-call'; name: string; text: string }
  /** Instead of an answer, in the server's form of an error. `code` only where its form has one. */
  | { do: 'refuse'; status: number; message: string; code?: string }
  /** In mid-answer, as the server tells of it there. */
  | { do: 'fail'; message: string }
  | { do: 'nonsense'; bytes: string | Uint8Array }
  /** Nothing more until the client leaves. */
  | { do: 'hang' }
  /** The connection is cut. */
  | { do: 'disconnect' }
  /** The answer ends in order, without the end its protocol asks for. */
  | { do: 'stop' }
  /** Nothing until this comes to pass. */
  | { do: 'wait'; until: Promise<unknown> }
  /** A slow machine. */
  | { do: 'slow'; ms: number }
  /** @default an answer ends with `stop` and counts that follow from its text */
  | { do: 'end'; reason?: 'stop' | 'length'; counts?: Partial<Counts> };

/** As the server counted and timed; absent counts are left out of the answer. */
export interface Counts {
  promptTokens: number | null;
  generatedTokens: number | null;
  promptMs: number;
  generateMs: number;
}

/** What the server does, given the body of a request and how many came before it. */
export type Script = (body: ScriptedBody, number: number) => Step[];

export interface ScriptedBody {
  model: string;
  messages: { role: string; content: string | null; [field: string]: unknown }[];
  [field: string]: unknown;
}

/** Counts of an answer nobody counted: four characters a token, 1 ms a token of the prompt and 10 ms one of the answer. */
export function countsOf(body: ScriptedBody, steps: readonly Step[]): Counts {
  const tokens = (text: string): number => Math.ceil(text.length / 4);
  const said = steps.map((step) =>
    'text' in step ? step.text : step.do === 'call' ? JSON.stringify(step) : '',
  );
  const promptTokens = tokens(JSON.stringify(body.messages));
  const generatedTokens = tokens(said.join(''));
  return { promptTokens, generatedTokens, promptMs: promptTokens, generateMs: 10 * generatedTokens };
}

/** The steps with the end that every answer has unless the script gave one. */
export const whole = (steps: readonly Step[]): Step[] =>
  steps.some((step) => step.do === 'end') ? [...steps] : [...steps, { do: 'end' }];
