import type { Message, ToolCall } from '../brain/types.ts';

/** Until a server has counted: what a token of prose and code is in common tokenizers, rounded down. */
const CHARACTERS_PER_TOKEN = 3;
/** A server's count that would make a token shorter or longer than this is not believed. */
const CHARACTERS_PER_TOKEN_RANGE = [1, 8] as const;
/** What a message costs beside its text: its role and the marks around it. */
const MESSAGE_CHARACTERS = 16;
/** The newest results stay whole as long as anything older can make room. */
const RESULTS_KEPT = 4;
const SHORT_RESULT_CHARACTERS = 240;
const SHORT_TEXT_CHARACTERS = 400;
/** Lines of what was removed that are still told. */
const REMOVED_LINES_MAX = 40;
const REMOVED_LINE_CHARACTERS = 160;

/** What one `fit` took away. */
export interface Compaction {
  /** Results and texts that were cut short. */
  shortened: number;
  /** Turns of which a line each is left. */
  removed: number;
  /** What was remembered of earlier work was taken out. @default false */
  forgot?: true;
}

/** One answer of the model and what came of it, or words to the model between answers. */
interface Turn {
  said: Message[];
}

/**
 * The messages of a task with a model, in the order they came, and how much of its context they take. What does not fit is made to
 * by a fixed rule, without asking a model: what was remembered of earlier work goes, then old results are cut short, then old words,
 * then whole turns are replaced by a line for each call. The instructions and the goal stay as they are, and no result is ever left without the call it answers.
 */
export class Conversation {
  readonly #instructions: string;
  readonly #goal: string;
  #remembered: string | null;
  #removed: string[] = [];
  #removedTurns = 0;
  #turns: Turn[] = [];
  #charactersPerToken = CHARACTERS_PER_TOKEN;
  /** Characters of what was asked last. */
  #asked = 0;

  /** `remembered`: what earlier work taught, said before the goal. */
  constructor(instructions: string, goal: string, remembered: string | null = null) {
    this.#instructions = instructions;
    this.#goal = goal;
    this.#remembered = remembered;
  }

  /** What a model is asked. */
  messages(): Message[] {
    // In one message: not every model's template takes two of a person's in a row.
    const goal = this.#remembered === null ? this.#goal : `${this.#remembered}\n\n${this.#goal}`;
    const opening: Message[] = [
      { role: 'system', content: this.#instructions },
      { role: 'user', content: goal },
    ];
    return [...opening, ...this.#summary(), ...this.#turns.flatMap(({ said }) => said)];
  }

  /** The model's answer; each of its calls is to get a result. */
  answered(content: string, calls: readonly ToolCall[]): void {
    this.#turns.push({ said: [{ role: 'assistant', content, calls: [...calls] }] });
  }

  /** What a call of the last answer gave back. Throws where that answer has no such call. */
  result(call: ToolCall, content: string): void {
    const said = this.#turns.at(-1)?.said;
    const answer = said?.[0];
    if (answer?.role !== 'assistant' || !answer.calls.some(({ id }) => id === call.id)) {
      throw new RangeError(`the last answer has no call ${call.id}`);
    }
    said!.push({ role: 'tool', call: call.id, name: call.name, content });
  }

  /** Words to the model. */
  say(content: string): void {
    this.#turns.push({ said: [{ role: 'user', content }] });
  }

  /** Notes what is asked, so that the server's count of it can be held against it. */
  asking(): Message[] {
    const messages = this.messages();
    this.#asked = charactersOf(messages);
    return messages;
  }

  /** The server counted so many tokens in what was asked last, `extra` characters of tools and schema among them. */
  counted(promptTokens: number, extra = 0): void {
    const measured = (this.#asked + extra) / promptTokens;
    const [least, most] = CHARACTERS_PER_TOKEN_RANGE;
    if (measured >= least && measured <= most) this.#charactersPerToken = measured;
  }

  /** Tokens of a text, as far as is known. */
  tokensOf(characters: number): number {
    return Math.ceil(characters / this.#charactersPerToken);
  }

  get tokens(): number {
    return this.tokensOf(charactersOf(this.messages()));
  }

  /**
   * Makes the messages take at most so many tokens, as far as they are counted. Null: they did; false: what must stay is longer than
   * that.
   */
  fit(tokensMax: number): Compaction | null | false {
    if (this.tokens <= tokensMax) return null;
    const compaction: Compaction = { shortened: 0, removed: 0 };
    const fits = (): boolean => this.tokens <= tokensMax;
    if (this.#remembered !== null) {
      this.#remembered = null;
      compaction.forgot = true;
    }
    if (!fits())
      this.#shorten(this.#results().slice(0, -RESULTS_KEPT), SHORT_RESULT_CHARACTERS, compaction, fits);
    if (!fits()) this.#shorten(this.#texts().slice(0, -1), SHORT_TEXT_CHARACTERS, compaction, fits);
    while (!fits() && this.#turns.length > 1) {
      this.#remove(this.#turns.shift()!);
      compaction.removed += 1;
    }
    if (!fits()) this.#shorten(this.#results(), SHORT_RESULT_CHARACTERS, compaction, fits);
    if (!fits()) this.#shorten(this.#texts(), SHORT_TEXT_CHARACTERS, compaction, fits);
    return fits() ? compaction : false;
  }

  #results(): Message[] {
    return this.#turns.flatMap(({ said }) => said.filter(({ role }) => role === 'tool'));
  }

  #texts(): Message[] {
    return this.#turns.flatMap(({ said }) => said.filter(({ role }) => role !== 'tool'));
  }

  #shorten(messages: Message[], to: number, compaction: Compaction, done: () => boolean): void {
    for (const message of messages) {
      if (done()) return;
      const short = shortened(message.content, to);
      if (short === message.content) continue;
      message.content = short;
      compaction.shortened += 1;
    }
  }

  #remove({ said }: Turn): void {
    this.#removedTurns += 1;
    const [first] = said;
    const calls = first?.role === 'assistant' ? first.calls : [];
    for (const { name, text } of calls) {
      this.#removed.push(`${name} ${text}`.slice(0, REMOVED_LINE_CHARACTERS).replaceAll('\n', ' '));
    }
    this.#removed = this.#removed.slice(-REMOVED_LINES_MAX);
  }

  #summary(): Message[] {
    if (this.#removedTurns === 0) return [];
    const lines = this.#removed.map((line) => `- ${line}`).join('\n');
    const content = `${this.#removedTurns} earlier steps were removed to save room. You called:\n${lines || '- nothing'}`;
    return [{ role: 'user', content }];
  }
}

/** The beginning and the end of a text, and how much is missing between; whole where that is no shorter. */
export function shortened(text: string, to: number): string {
  const half = Math.floor(to / 2);
  const begin = wholeCharacters(text.slice(0, half));
  const end = wholeCharacters(text.slice(-half));
  const short = `${begin}\n[… ${text.length - begin.length - end.length} characters were removed to save room …]\n${end}`;
  return short.length < text.length ? short : text;
}

/** Without the half of a character at either end. */
const wholeCharacters = (text: string): string =>
  text.replace(/^[\udc00-\udfff]/, '').replace(/[\ud800-\udbff]$/, '');

function charactersOf(messages: readonly Message[]): number {
  let sum = 0;
  for (const message of messages) {
    sum += message.content.length + MESSAGE_CHARACTERS;
    if (message.role === 'assistant')
      for (const call of message.calls) sum += call.name.length + call.text.length;
  }
  return sum;
}
