import * as assert from 'uvu/assert';
import {
  type Brain,
  BrainError,
  type BrainFault,
  type ChatEvent,
  type ChatRequest,
} from '../../../node/brain/types.ts';

export const never = new AbortController().signal;

export const request = (change: Partial<ChatRequest> = {}): ChatRequest => ({
  model: 'qwen2.5-coder:7b',
  messages: [{ role: 'user', content: 'Fix the sum.' }],
  tools: [],
  format: null,
  maxTokens: 256,
  contextTokens: null,
  ...change,
});

export const READ = {
  name: 'read',
  description: 'Reads a file.',
  parameters: { type: 'object', properties: { path: { type: 'string' } }, required: ['path'] },
};

export async function all(
  brain: Brain,
  asked: ChatRequest,
  signal: AbortSignal = never,
): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const event of brain.chat(asked, signal)) events.push(event);
  return events;
}

export const textOf = (events: readonly ChatEvent[]): string =>
  events.map((event) => (event.type === 'text' ? event.text : '')).join('');

/** What a promise rejects with, which must be a `BrainError` of this fault. */
export async function fails(
  run: Promise<unknown>,
  fault: BrainFault,
  said: RegExp = /./,
): Promise<BrainError> {
  const error = await run.then(
    () => assert.unreachable(`no failure where ${fault} was to be`),
    (thrown: unknown) => thrown,
  );
  assert.instance(error, BrainError, String(error));
  const failed = error as BrainError;
  assert.is(failed.fault, fault, failed.message);
  assert.match(failed.message, said);
  return failed;
}
