import { z } from 'zod';
import type { ChatRequest, Message } from './types.ts';

/** The name of a recorded model begins with this, so that nobody takes it for one that thinks. */
export const RECORDED = 'recorded/';

const Arguments = z.record(z.string(), z.unknown());
const Call = z.strictObject({
  id: z.string(),
  name: z.string(),
  arguments: Arguments.nullable(),
  text: z.string(),
});
/** Null: whatever it says, for what differs from run to run. */
const Content = z.string().nullable();
const RecordedMessage = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal(['system', 'user']), content: Content }),
  z.strictObject({ role: z.literal('assistant'), content: Content, calls: z.array(Call) }),
  z.strictObject({ role: z.literal('tool'), call: z.string(), name: z.string(), content: Content }),
]);
export type RecordedMessage = z.infer<typeof RecordedMessage>;

const Count = z.number().nonnegative().nullable();
const RecordedEvent = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal(['text', 'thinking']), text: z.string() }),
  z.strictObject({ type: z.literal('call'), call: Call }),
  z.strictObject({
    type: z.literal('end'),
    reason: z.enum(['stop', 'length']),
    usage: z.strictObject({
      promptTokens: Count,
      promptFreshTokens: Count,
      generatedTokens: Count,
      promptMs: Count,
      generateMs: Count,
    }),
  }),
]);

const Turn = z.strictObject({
  model: z.string().startsWith(RECORDED),
  /** Messages at the start that are those of the turn before; what was asked is these and `add`. */
  keep: z.int().nonnegative(),
  add: z.array(RecordedMessage),
  /** Names of the tools that were offered. */
  tools: z.array(z.string()),
  events: z.array(RecordedEvent),
  /** How the answer broke off; null: it ended. */
  fault: z
    .strictObject({
      fault: z.enum(['unreachable', 'model', 'refused', 'busy', 'context', 'timeout', 'broken']),
      message: z.string(),
    })
    .nullable(),
});

/** A recorded transcript, format 1: conversations turn by turn, each told by what it adds to the one before. */
export const Transcript = z.strictObject({ format: z.literal(1), about: z.string(), turns: z.array(Turn) });
export type Transcript = z.infer<typeof Transcript>;
export type Turn = z.infer<typeof Turn>;

/** The conversation each turn was asked with. Null: a turn keeps more than the one before has. */
export function conversations(turns: readonly Turn[]): RecordedMessage[][] | null {
  const asked: RecordedMessage[][] = [];
  for (const { keep, add: added } of turns) {
    const before = asked.at(-1) ?? [];
    if (keep > before.length) return null;
    asked.push([...before.slice(0, keep), ...added]);
  }
  return asked;
}

/** The turn that would ask this, after the conversation of the turn before. */
export function turnOf(before: readonly Message[], request: ChatRequest): Omit<Turn, 'events' | 'fault'> {
  const { messages } = request;
  let keep = 0;
  while (keep < Math.min(before.length, messages.length) && same(before[keep]!, messages[keep]!)) keep++;
  const model = request.model.startsWith(RECORDED) ? request.model : `${RECORDED}${request.model}`;
  return { model, keep, add: messages.slice(keep), tools: request.tools.map(({ name }) => name) };
}

/** The first message that is not what was recorded; null: all are. */
export function firstDifference(
  recorded: readonly RecordedMessage[],
  asked: readonly Message[],
): number | null {
  const length = Math.max(recorded.length, asked.length);
  for (let index = 0; index < length; index++) {
    const [told, said] = [recorded[index], asked[index]];
    if (told === undefined || said === undefined || !same(told, said)) return index;
  }
  return null;
}

function same(recorded: RecordedMessage, asked: Message): boolean {
  if (recorded.role !== asked.role) return false;
  if (recorded.content !== null && recorded.content !== asked.content) return false;
  if (recorded.role === 'tool' && asked.role === 'tool')
    return recorded.name === asked.name && recorded.call === asked.call;
  if (recorded.role !== 'assistant' || asked.role !== 'assistant') return true;
  const calls = (message: { calls: { name: string; text: string }[] }): string =>
    JSON.stringify(message.calls.map(({ name, text }) => [name, text]));
  return calls(recorded) === calls(asked);
}
