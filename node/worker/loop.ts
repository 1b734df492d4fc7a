import { setTimeout as delay } from 'node:timers/promises';
import {
  type Brain,
  BrainError,
  type BrainFault,
  type ToolCall,
  type ToolDefinition,
  type Usage,
} from '../brain/types.ts';
import type { Conversation } from './conversation.ts';
import type { CallSpent, Refused } from './meter.ts';
import type { Ending } from './tools/tool.ts';

/** A model that may be asked, in the order they are to be tried. */
export interface Candidate {
  brain: Brain;
  model: string;
  /** Of prompt and answer together. */
  contextTokens: number;
}

/** What came of a call. */
export interface Outcome {
  content: string;
  failed: boolean;
  /** How often this very call failed in a row, this time included. */
  repeats: number;
  ending?: Ending;
}

/** What the loop does for the model. */
export interface Hands {
  readonly definitions: readonly ToolDefinition[];
  /** Carries a call out. Rejects where this machine fails, or with the signal's reason; what the model got wrong is an outcome. */
  call(call: ToolCall, signal: AbortSignal): Promise<Outcome>;
}

/** What a loop may use. */
export interface Bounds {
  turns: number;
  /** Of prompts and answers together. */
  tokens: number;
  wallMs: number;
  /** Of one answer. */
  answerTokens: number;
}

export interface LoopOptions {
  candidates: readonly Candidate[];
  conversation: Conversation;
  hands: Hands;
  bounds: Bounds;
  /** One answer, all its calls carried out, and done: for goals that need no looking around. @default false */
  singleTurn?: boolean;
  /** Before each request, whose prompt takes about so many tokens: null, or why it is not to be made. */
  mayAsk?(candidate: Candidate, promptTokens: number): Refused | null;
  /** After each request that was sent: what it took, also where no whole answer came. */
  spent?(candidate: Candidate, spent: CallSpent): Promise<void> | void;
  /** When nobody is left to ask, and somebody answered since the last time: who may be asked now. @default nobody */
  again?(): Promise<readonly Candidate[]>;
  /** A line for the log of the attempt. */
  note(line: string): Promise<void>;
  /** After each answer: what it took. */
  answered?(candidate: Candidate, usage: Usage, ms: number): void;
  /** Monotonic ms. @default performance.now */
  now?(): number;
  /** Before a request is made again; resolves early when the signal is aborted. @default a timer */
  wait?(ms: number): Promise<unknown>;
}

/** Why a loop ended where the model did not end it. */
export type Stopped = 'turns' | 'tokens' | 'time' | 'context' | 'stalled' | 'looping' | 'budget' | 'brain';

export interface LoopResult {
  ending: Ending | { kind: 'stopped'; why: Stopped; text: string };
  turns: number;
  calls: number;
  /** As the servers counted; null once one of them did not. */
  promptTokens: number | null;
  generatedTokens: number | null;
  /** Of prompts and answers, estimated where a server does not count. */
  tokens: number;
  /** Of the model that answered last; null: none did. */
  model: string | null;
}

/** A server that breaks off or stays silent is asked so often again, after these waits, before the next candidate is. */
const AGAIN_MS = [500, 2_000] as const;
/** Faults that may be gone the next time. */
const MAY_PASS: ReadonlySet<BrainFault> = new Set(['unreachable', 'busy', 'broken', 'timeout']);
/** Faults after which the prompt had been read, as far as can be known. */
const READ: ReadonlySet<BrainFault> = new Set(['broken', 'timeout']);
/** Answers in a row that call nothing. */
const SILENT_MAX = 3;
/** Failures of the same call. */
const REPEATS_MAX = 3;
/** Of a name in the log: longer than any tool's. */
const NAME_CHARACTERS = 120;
const NUDGE =
  'You called no tool, so nothing was done. Call a tool; when the goal is reached call finish, and when you cannot go on call signal.';
const CUT = 'Your answer was cut off because it was too long. Take a smaller step.';
const SAME =
  'You made exactly this call before, and it failed in the same way. Do something else, or call signal.';

/**
 * Asks a model, carries out what it calls, tells it what came of that, until it says that it is done or a bound is reached. Never
 * rejects for what a model or its server does; rejects with the reason of `signal` once that is aborted.
 */
export function runLoop(options: LoopOptions, signal: AbortSignal): Promise<LoopResult> {
  return new Loop(options, signal).run();
}

interface Answer {
  text: string;
  calls: ToolCall[];
  cut: boolean;
}

class Loop {
  readonly #options: LoopOptions;
  readonly #signal: AbortSignal;
  readonly #now: () => number;
  readonly #ends: number;
  readonly #result: Omit<LoopResult, 'ending'> = {
    turns: 0,
    calls: 0,
    promptTokens: 0,
    generatedTokens: 0,
    tokens: 0,
    model: null,
  };
  #candidates: readonly Candidate[];
  /** Place of the candidate that is asked. */
  #at = 0;
  /** Since they were chosen. */
  #answered = false;
  /** The answer that was asked for took all the time that was left. */
  #late = false;
  #silent = 0;

  constructor(options: LoopOptions, signal: AbortSignal) {
    this.#options = options;
    this.#candidates = options.candidates;
    this.#signal = signal;
    this.#now = options.now ?? (() => performance.now());
    this.#ends = this.#now() + options.bounds.wallMs;
  }

  async run(): Promise<LoopResult> {
    const { bounds, singleTurn = false } = this.#options;
    for (;;) {
      const { turns } = this.#result;
      if (turns >= bounds.turns) return this.#stopped('turns', `after ${turns} turns`);
      const answer = await this.#ask();
      if ('ending' in answer) return answer;
      this.#result.turns += 1;
      const ending = await this.#act(answer);
      if (ending !== null) return { ...this.#result, ending };
      if (!singleTurn) continue;
      if (answer.calls.length === 0) return this.#stopped('stalled', 'the one answer called no tool');
      return {
        ...this.#result,
        ending: { kind: 'finish', summary: answer.text.trim(), lowConfidence: false },
      };
    }
  }

  /** An answer of the first candidate that gives one, or why there is none. */
  async #ask(): Promise<Answer | LoopResult> {
    const { bounds, conversation, hands, mayAsk, note } = this.#options;
    const wait =
      this.#options.wait ?? ((ms) => delay(ms, undefined, { signal: this.#signal }).catch(() => {}));
    let tries = 0;
    let squeezed = false;
    let last: BrainError | null = null;
    let barred: string | null = null;
    for (;;) {
      this.#signal.throwIfAborted();
      const candidate = this.#candidates[this.#at];
      if (candidate === undefined) {
        if (await this.#chooseAgain()) {
          tries = 0;
          squeezed = false;
          continue;
        }
        if (last === null && barred !== null) return this.#stopped('budget', barred);
        return this.#stopped(
          last?.fault === 'context' ? 'context' : 'brain',
          last?.message ?? 'there is no model to ask',
        );
      }
      const left = this.#ends - this.#now();
      if (left <= 0) return this.#stopped('time', `after ${bounds.wallMs} ms`);
      const toolTokens = conversation.tokensOf(JSON.stringify(hands.definitions).length);
      const room = candidate.contextTokens - bounds.answerTokens - toolTokens;
      const compaction = conversation.fit(squeezed ? Math.floor(room / 2) : room);
      if (compaction === false) {
        last = new BrainError('context', `what must be said takes more than ${candidate.model} holds`);
        await this.#goOn();
        tries = 0;
        squeezed = false;
        continue;
      }
      if (compaction !== null) {
        const forgot = compaction.forgot === true ? ', what was remembered taken out' : '';
        await note(
          `made room: ${compaction.shortened} texts shortened, ${compaction.removed} turns removed${forgot}`,
        );
      }
      if (this.#result.tokens + conversation.tokens + toolTokens > bounds.tokens) {
        return this.#stopped('tokens', `${this.#result.tokens} of ${bounds.tokens} tokens are spent`);
      }
      const refused = mayAsk?.(candidate, conversation.tokens + toolTokens) ?? null;
      if (refused !== null) {
        barred = refused.why;
        if (!refused.others) return this.#stopped('budget', barred);
        await note(`not asking ${candidate.model} (${candidate.brain.name}): ${barred}`);
        await this.#goOn();
        continue;
      }
      try {
        return await this.#askOne(candidate, left, toolTokens);
      } catch (error) {
        this.#signal.throwIfAborted();
        if (this.#late || this.#ends - this.#now() <= 0) {
          return this.#stopped('time', `after ${bounds.wallMs} ms`);
        }
        if (!(error instanceof BrainError)) throw error;
        last = error;
        await note(`no answer of ${candidate.model} (${candidate.brain.name}): ${error.message}`);
        const { fault } = error;
        if (fault === 'context' && !squeezed) {
          squeezed = true;
          continue;
        }
        const again = AGAIN_MS[tries];
        if (again !== undefined && MAY_PASS.has(fault)) {
          tries += 1;
          await wait(again);
          continue;
        }
        await this.#goOn();
        tries = 0;
        squeezed = false;
      }
    }
  }

  /** False: there is nobody new, or nobody has answered since they were chosen. */
  async #chooseAgain(): Promise<boolean> {
    const { again, note } = this.#options;
    if (again === undefined || !this.#answered) return false;
    const candidates = await again();
    const [first] = candidates;
    if (first === undefined) return false;
    this.#answered = false;
    this.#candidates = candidates;
    this.#at = 0;
    await note(`going on with ${first.model} (${first.brain.name}), which is told all that was said so far`);
    return true;
  }

  /** To the next candidate, where there is one. */
  async #goOn(): Promise<void> {
    this.#at += 1;
    const next = this.#candidates[this.#at];
    if (next !== undefined) await this.#options.note(`asking ${next.model} (${next.brain.name}) instead`);
  }

  async #askOne(candidate: Candidate, leftMs: number, toolTokens: number): Promise<Answer> {
    const { bounds, conversation, hands, note } = this.#options;
    const { brain, model, contextTokens } = candidate;
    const messages = conversation.asking();
    const prompt = conversation.tokens + toolTokens;
    const began = this.#now();
    const late = AbortSignal.timeout(Math.min(Math.ceil(leftMs), 2 ** 31 - 1));
    const answer: Answer = { text: '', calls: [], cut: false };
    let usage: Usage | null = null;
    let failed: unknown = null;
    try {
      const request = {
        model,
        messages,
        tools: hands.definitions,
        format: null,
        maxTokens: bounds.answerTokens,
        contextTokens,
      };
      for await (const event of brain.chat(request, AbortSignal.any([this.#signal, late]))) {
        if (event.type === 'text') answer.text += event.text;
        else if (event.type === 'call') answer.calls.push(event.call);
        else if (event.type === 'end') {
          usage = event.usage;
          answer.cut = event.reason === 'length';
        }
      }
    } catch (error) {
      failed = error;
      throw error;
    } finally {
      this.#late = late.aborted;
      if (failed === null || (failed instanceof BrainError && (failed.begun || READ.has(failed.fault)))) {
        await this.#options.spent?.(candidate, this.#spentOn(usage, prompt, answer, this.#now() - began));
      }
    }
    if (usage === null) throw new BrainError('broken', 'the answer has no end', { begun: true });
    const ms = this.#now() - began;
    const spent = this.#spentOn(usage, prompt, answer, ms);
    this.#count(usage, spent);
    if (usage.promptTokens)
      conversation.counted(usage.promptTokens, JSON.stringify(hands.definitions).length);
    this.#result.model = model;
    this.#answered = true;
    this.#options.answered?.(candidate, usage, ms);
    const called = answer.calls.map(({ name }) => name.slice(0, NAME_CHARACTERS)).join(', ') || 'nothing';
    await note(
      `turn ${this.#result.turns + 1}, ${model}, ${wordsOf(usage)}${(ms / 1000).toFixed(1)} s: calls ${called}`,
    );
    return answer;
  }

  /** As the server counted, else by length. */
  #spentOn(usage: Usage | null, prompt: number, { text, calls }: Answer, ms: number): CallSpent {
    const written = text.length + calls.reduce((sum, call) => sum + call.text.length, 0);
    const { promptTokens = null, generatedTokens = null } = usage ?? {};
    return {
      promptTokens: promptTokens ?? prompt,
      generatedTokens: generatedTokens ?? this.#options.conversation.tokensOf(written),
      estimated: promptTokens === null || generatedTokens === null,
      ms,
    };
  }

  #count(usage: Usage, spent: CallSpent): void {
    const add = (sum: number | null, tokens: number | null): number | null =>
      sum === null || tokens === null ? null : sum + tokens;
    this.#result.promptTokens = add(this.#result.promptTokens, usage.promptTokens);
    this.#result.generatedTokens = add(this.#result.generatedTokens, usage.generatedTokens);
    this.#result.tokens += spent.promptTokens + spent.generatedTokens;
  }

  /** Carries out what was called, in order; an ending ends it there. */
  async #act({ text, calls, cut }: Answer): Promise<Ending | LoopResult['ending'] | null> {
    const { conversation, hands, note } = this.#options;
    if (text.trim() !== '') await note(`the model says: ${text.trim()}`);
    conversation.answered(text, calls);
    let repeats = 0;
    let ending: Ending | null = null;
    for (const call of calls) {
      if (ending !== null) {
        conversation.result(call, 'not carried out: the task has ended');
        continue;
      }
      if (repeats >= REPEATS_MAX || this.#now() >= this.#ends) {
        conversation.result(call, 'not carried out');
        continue;
      }
      const done = await hands.call(call, this.#signal);
      this.#signal.throwIfAborted();
      this.#result.calls += 1;
      conversation.result(call, done.content);
      repeats = Math.max(repeats, done.repeats);
      ending = done.ending ?? null;
    }
    if (ending !== null) return ending;
    this.#silent = calls.length === 0 ? this.#silent + 1 : 0;
    if (this.#silent >= SILENT_MAX) {
      return { kind: 'stopped', why: 'stalled', text: `${SILENT_MAX} answers in a row called no tool` };
    }
    if (cut) conversation.say(CUT);
    else if (calls.length === 0) conversation.say(NUDGE);
    if (repeats >= REPEATS_MAX) {
      return { kind: 'stopped', why: 'looping', text: `the same call failed ${repeats} times` };
    }
    if (repeats > 1) conversation.say(SAME);
    return null;
  }

  #stopped(why: Stopped, text: string): LoopResult {
    return { ...this.#result, ending: { kind: 'stopped', why, text } };
  }
}

function wordsOf({ promptTokens, generatedTokens }: Usage): string {
  if (promptTokens === null || generatedTokens === null) return '';
  return `${promptTokens} + ${generatedTokens} tokens, `;
}
