import type { CodeSpec } from '../../protocol/task.ts';

/** Work of these kinds is done the same way each time: short instructions and short answers do. */
const ROUTINE: ReadonlySet<string> = new Set(['docs', 'formatting', 'testing', 'automated', 'review']);
const COMPLEX = 'complex';
/** A model of less context than this gets short instructions. */
const compactBelowTokens = 16_384;

/** Most tokens of one answer, by kind of work: a reviewer's are words, a builder's may be a whole file. */
const ANSWER_TOKENS = { routine: 4_096, ordinary: 8_192, complex: 16_384 };
/** Of the narrowest context: what is left is for what was said before. */
const answerPart = 4;

/** How a goal is put to a model. */
export interface Profile {
  style: 'full' | 'compact';
  /** It is told to plan first. */
  plans: boolean;
  /** Of one answer. */
  answerTokens: number;
}

/** By the goal's tags and mode, and the least context of the models that may be asked. Unknown tags say nothing. Pure. */
export function profileOf({ code }: Pick<CodeSpec, 'code'>, contextTokens: number): Profile {
  const tags = code.tags ?? [];
  const complex = tags.includes(COMPLEX) && code.mode === 'multi';
  const routine = !complex && tags.some((tag) => ROUTINE.has(tag));
  const small = contextTokens < compactBelowTokens;
  const most = ANSWER_TOKENS[complex ? 'complex' : routine ? 'routine' : 'ordinary'];
  return {
    style: code.mode === 'single' || small || routine ? 'compact' : 'full',
    plans: complex,
    answerTokens: Math.min(most, Math.floor(contextTokens / answerPart)),
  };
}
