import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Message, ToolCall } from '../../../node/brain/types.ts';
import { Conversation, shortened } from '../../../node/worker/conversation.ts';

const INSTRUCTIONS = 'You mend code.';
const GOAL = 'Make the test green.';

let calls = 0;
const call = (name: string, text: string): ToolCall => {
  calls += 1;
  return { id: `c${calls}`, name, arguments: {}, text };
};

/** Every result follows the answer that called for it, before the next answer; nothing is said twice. */
function soundly(messages: readonly Message[]): void {
  let open = new Set<string>();
  for (const message of messages) {
    if (message.role === 'tool') {
      assert.ok(open.delete(message.call), `a result without its call: ${message.call}`);
      continue;
    }
    assert.is(open.size, 0, 'a call without its result');
    open = new Set(message.role === 'assistant' ? message.calls.map(({ id }) => id) : []);
  }
}

const words = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.integer({ min: 0, max: 3000 }).map((length) => 'word '.repeat(length / 5)),
  fc.string({ unit: 'grapheme', minLength: 200, maxLength: 400 }),
);
const turn = fc.oneof(
  words.map((text) => ({ say: text })),
  fc.record({ text: words, results: fc.array(words, { maxLength: 3 }) }),
);

test('whatever was said, it fits as asked or says that it cannot, and no result stands without its call', () => {
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 30 }), fc.integer({ min: 1, max: 4000 }), (turns, max) => {
      const conversation = new Conversation(INSTRUCTIONS, GOAL);
      for (const each of turns) {
        if ('say' in each) conversation.say(each.say);
        else {
          const made = each.results.map(() => call('read', '{"path":"a"}'));
          conversation.answered(each.text, made);
          for (const [at, content] of each.results.entries()) conversation.result(made[at]!, content);
        }
      }
      soundly(conversation.messages());
      const before = JSON.stringify(conversation.messages());
      const tokens = conversation.tokens;
      const fitted = conversation.fit(max);
      const after = conversation.messages();
      soundly(after);
      assert.equal(after.slice(0, 2), [
        { role: 'system', content: INSTRUCTIONS },
        { role: 'user', content: GOAL },
      ]);
      assert.is(fitted === null, tokens <= max);
      if (fitted === null) assert.is(JSON.stringify(after), before);
      if (fitted !== false) assert.ok(conversation.tokens <= max);
      for (const { content } of after) assert.ok(content.isWellFormed());
    }),
    { numRuns: 500 },
  );
});

test('the oldest results go first, the newest stay whole, and what was called is still told', () => {
  const conversation = new Conversation(INSTRUCTIONS, GOAL);
  const long = (n: number): string => `${n}: ${'x'.repeat(3000)}`;
  for (let n = 0; n < 8; n += 1) {
    const made = call('read', `{"path":"file-${n}"}`);
    conversation.answered('', [made]);
    conversation.result(made, long(n));
  }
  assert.equal(conversation.fit(conversation.tokens - 500), { shortened: 1, removed: 0 });
  const results = conversation.messages().filter(({ role }) => role === 'tool');
  assert.match(results[0]!.content, /^0: x+\n\[… 2763 characters were removed/);
  assert.is(results[7]!.content, long(7));

  const compaction = conversation.fit(3200);
  assert.ok(compaction && compaction.removed > 0);
  const [, , summary] = conversation.messages();
  assert.match(summary!.content, /earlier steps were removed[\s\S]*- read {"path":"file-0"}/);
  assert.is(conversation.messages().at(-1)!.content, long(7));
});

test('what a server counts is held to from then on, unless nobody could believe it', () => {
  const conversation = new Conversation('x'.repeat(4000), GOAL);
  conversation.asking();
  const before = conversation.tokens;
  conversation.counted(1000);
  assert.ok(conversation.tokens < before && Math.abs(conversation.tokens - 1000) <= 1);
  conversation.counted(1_000_000);
  conversation.counted(1);
  assert.ok(Math.abs(conversation.tokens - 1000) <= 1);
});

test('a result that nobody called for is a fault of the caller', () => {
  const conversation = new Conversation(INSTRUCTIONS, GOAL);
  assert.throws(() => conversation.result(call('read', '{}'), 'x'), RangeError);
  conversation.answered('', [call('read', '{}')]);
  assert.throws(() => conversation.result(call('read', '{}'), 'x'), RangeError);
});

test('a text is cut on a character boundary, and never made longer', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 600 }),
      fc.integer({ min: 2, max: 300 }),
      (text, to) => {
        const short = shortened(text, to);
        assert.ok(short.length <= text.length);
        assert.ok(short.isWellFormed() || !text.isWellFormed());
      },
    ),
  );
});

test.run();
