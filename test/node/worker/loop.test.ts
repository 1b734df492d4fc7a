import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BrainError, type BrainFault, type ToolCall } from '../../../node/brain/types.ts';
import { Conversation } from '../../../node/worker/conversation.ts';
import {
  type Bounds,
  type Hands,
  type LoopOptions,
  type LoopResult,
  runLoop,
} from '../../../node/worker/loop.ts';
import { type Answer, ScriptedBrain, USAGE } from './scripted-brain.ts';

const BOUNDS: Bounds = { turns: 20, tokens: 1_000_000, wallMs: 60_000, answerTokens: 1000 };
const FINISH: Answer = { text: 'Done.', calls: [['finish', { summary: 'mended' }]] };

/** Tools that do nothing but say that they did: `fail` fails, `finish` ends. */
class SaidHands implements Hands {
  readonly definitions = [{ name: 'read', description: 'Reads.', parameters: { type: 'object' } }];
  readonly done: ToolCall[] = [];

  async call(call: ToolCall): ReturnType<Hands['call']> {
    this.done.push(call);
    if (call.name === 'fail') {
      const repeats = this.done.filter(({ name, text }) => name === 'fail' && text === call.text).length;
      return { content: 'no such file', failed: true, repeats };
    }
    if (call.name !== 'finish') return { content: `${call.name} was done`, failed: false, repeats: 0 };
    const summary = String(call.arguments?.summary);
    return {
      content: 'ended',
      failed: false,
      repeats: 0,
      ending: { kind: 'finish', summary, lowConfidence: false },
    };
  }
}

interface Ran extends LoopResult {
  notes: string[];
  done: string[];
  waits: number[];
}

async function ran(
  brains: ScriptedBrain[],
  options: Partial<LoopOptions> = {},
  signal = new AbortController().signal,
): Promise<Ran> {
  const hands = new SaidHands();
  const notes: string[] = [];
  const waits: number[] = [];
  const result = await runLoop(
    {
      candidates: brains.map((brain) => ({ brain, model: `of-${brain.name}`, contextTokens: 8000 })),
      conversation: new Conversation('You mend code.', 'Make the test green.'),
      hands,
      bounds: BOUNDS,
      note: async (line) => {
        notes.push(line);
      },
      wait: async (ms) => waits.push(ms),
      ...options,
    },
    signal,
  );
  return { ...result, notes, done: hands.done.map(({ name }) => name), waits };
}

test('it carries out what is called, tells what came of it, and ends when the model says so', async () => {
  const brain = new ScriptedBrain([
    {
      calls: [
        ['read', { path: 'a' }],
        ['write', {}],
      ],
    },
    { calls: [['run', {}]] },
    FINISH,
  ]);
  const result = await ran([brain]);
  assert.equal(result.ending, { kind: 'finish', summary: 'mended', lowConfidence: false });
  assert.equal([result.turns, result.calls, result.model], [3, 4, 'of-scripted']);
  assert.equal([result.promptTokens, result.generatedTokens], [300, 30]);
  assert.equal(result.done, ['read', 'write', 'run', 'finish']);
  assert.equal(
    brain.asked[1]!.messages.slice(2).map(({ role, content }) => [role, content]),
    [
      ['assistant', ''],
      ['tool', 'read was done'],
      ['tool', 'write was done'],
    ],
  );
  assert.is(result.notes[0], 'turn 1, of-scripted, 100 + 10 tokens, 0.0 s: calls read, write');
});

test('what is called behind the end is not carried out', async () => {
  const { done } = await ran([
    new ScriptedBrain([
      {
        calls: [
          ['finish', { summary: 'x' }],
          ['write', {}],
        ],
      },
    ]),
  ]);
  assert.equal(done, ['finish']);
});

test('of many calls in one answer none is carried out when the time is over, or once the same one failed three times', async () => {
  let clock = 0;
  const reads = Array.from({ length: 10 }, (): [string, Record<string, unknown>] => ['read', {}]);
  const late = await ran([new ScriptedBrain([{ calls: reads }])], { now: () => (clock += 10_000) });
  assert.is((late.ending as { why: string }).why, 'time');
  assert.ok(late.done.length < 6, `${late.done.length} were carried out`);
  const fails = reads.map((): [string, Record<string, unknown>] => ['fail', {}]);
  const looping = await ran([new ScriptedBrain([{ calls: fails }])]);
  assert.is((looping.ending as { why: string }).why, 'looping');
  assert.is(looping.done.length, 3);
});

test('figures of a server that does not count are null, and its answers count against the bound all the same', async () => {
  const none = {
    promptTokens: null,
    promptFreshTokens: null,
    generatedTokens: null,
    promptMs: null,
    generateMs: null,
  };
  const brain = new ScriptedBrain([{ calls: [['read', {}]], usage: none }]);
  const result = await ran([brain], { bounds: { ...BOUNDS, turns: 1000, tokens: 2000 } });
  assert.equal([result.promptTokens, result.generatedTokens], [null, null]);
  assert.is((result.ending as { why: string }).why, 'tokens');
});

const stopped = async (
  answers: Answer[],
  options: Partial<LoopOptions> = {},
): Promise<Ran & { why: string }> => {
  const result = await ran([new ScriptedBrain(answers)], options);
  assert.is(result.ending.kind, 'stopped', JSON.stringify(result.ending));
  return { ...result, why: (result.ending as { why: string }).why };
};

test('every bound ends it, and is named', async () => {
  const loops: Answer[] = [{ calls: [['read', {}]] }];
  assert.is((await stopped(loops)).why, 'turns');
  assert.is((await stopped(loops, { bounds: { ...BOUNDS, tokens: 500 } })).why, 'tokens');
  let clock = 0;
  const now = (): number => {
    clock += 10_000;
    return clock;
  };
  assert.is((await stopped(loops, { now })).why, 'time');
  assert.is((await stopped(['silence'], { bounds: { ...BOUNDS, wallMs: 30 } })).why, 'time');
  const long = new Conversation('x'.repeat(100_000), 'y');
  assert.is((await stopped(loops, { conversation: long })).why, 'context');
  const spent = await stopped(loops, {
    mayAsk: () => ({ why: 'the budget of today is spent', others: false }),
  });
  assert.equal(spent.ending, { kind: 'stopped', why: 'budget', text: 'the budget of today is spent' });
  assert.is(spent.turns, 0);
});

test('a model that only talks is told so, and ends stalled', async () => {
  const brain = new ScriptedBrain([{ text: 'I would read the file.' }]);
  const result = await ran([brain]);
  assert.is((result.ending as { why: string }).why, 'stalled');
  assert.is(result.turns, 3);
  assert.match(brain.asked[1]!.messages.at(-1)!.content, /called no tool/);
  assert.is(
    (await ran([new ScriptedBrain([{ text: 'Hm.' }, { text: 'Hm.' }, FINISH])])).ending.kind,
    'finish',
  );
});

test('one that was cut off is told so', async () => {
  const brain = new ScriptedBrain([{ text: 'and so', cut: true }, FINISH]);
  assert.is((await ran([brain])).ending.kind, 'finish');
  assert.match(brain.asked[1]!.messages.at(-1)!.content, /cut off/);
});

test('one that makes the same failing calls again is told so, and ends looping; other failures do not', async () => {
  const brain = new ScriptedBrain([{ calls: [['fail', { path: 'a' }]] }]);
  const result = await ran([brain]);
  assert.equal([(result.ending as { why: string }).why, result.turns], ['looping', 3]);
  assert.match(brain.asked[2]!.messages.at(-1)!.content, /exactly this call before/);
  const others = Array.from({ length: 6 }, (_, n): Answer => ({ calls: [['fail', { path: `${n}` }]] }));
  assert.is((await ran([new ScriptedBrain([...others, FINISH])])).ending.kind, 'finish');
});

const failing = (fault: BrainFault): Answer => ({ error: new BrainError(fault, `it is ${fault}`) });

test('a server that is gone or breaks off is asked again, then the next candidate is', async () => {
  for (const fault of ['unreachable', 'busy', 'broken', 'timeout'] as const) {
    const healed = await ran([new ScriptedBrain([failing(fault), failing(fault), FINISH])]);
    assert.equal([healed.ending.kind, healed.waits.length], ['finish', 2]);
    const next = await ran([
      new ScriptedBrain([failing(fault)], 'first'),
      new ScriptedBrain([FINISH], 'second'),
    ]);
    assert.equal([next.ending.kind, next.model], ['finish', 'of-second']);
    assert.ok(
      next.notes.some((line) => line.startsWith('asking of-second')),
      next.notes.join('\n'),
    );
  }
});

test('one that refuses or has no such model is not asked again', async () => {
  for (const fault of ['refused', 'model'] as const) {
    const brain = new ScriptedBrain([failing(fault)], 'first');
    const next = await ran([brain, new ScriptedBrain([FINISH], 'second')]);
    assert.equal([brain.asked.length, next.waits.length, next.model], [1, 0, 'of-second']);
  }
});

test('no model, no answer: the reason is the last server’s, and nothing is made up', async () => {
  const { ending, turns, model } = await ran([new ScriptedBrain([failing('refused')])]);
  assert.equal(ending, { kind: 'stopped', why: 'brain', text: 'it is refused' });
  assert.equal([turns, model], [0, null]);
  assert.equal((await ran([])).ending, { kind: 'stopped', why: 'brain', text: 'there is no model to ask' });
});

test('what does not fit is made to, once more than it seemed to need where the server says so', async () => {
  const conversation = new Conversation('You mend code.', 'Make the test green.');
  for (let n = 0; n < 12; n += 1) conversation.say('word '.repeat(300));
  const brain = new ScriptedBrain([failing('context'), FINISH]);
  const result = await ran([brain], { conversation });
  assert.is(result.ending.kind, 'finish');
  const sizes = brain.asked.map(({ messages }) => JSON.stringify(messages).length);
  assert.ok(sizes[1]! < sizes[0]! * 0.7, String(sizes));
});

test('what a model cannot hold goes to one that can; where none can, that is the reason', async () => {
  const told = await ran([
    new ScriptedBrain([failing('context')], 'small'),
    new ScriptedBrain([FINISH], 'large'),
  ]);
  assert.equal([told.ending.kind, told.model], ['finish', 'of-large']);
  const candidates = [4000, 40_000].map((contextTokens) => ({
    brain: new ScriptedBrain([FINISH]),
    model: `of-${contextTokens}`,
    contextTokens,
  }));
  const conversation = new Conversation('x'.repeat(30_000), 'y');
  const seen = await ran([], { candidates, conversation });
  assert.equal([seen.ending.kind, seen.model], ['finish', 'of-40000']);
  const { ending } = await ran([new ScriptedBrain([failing('context')])]);
  assert.equal(ending, { kind: 'stopped', why: 'context', text: 'it is context' });
});

test('a single turn carries out one answer and is done', async () => {
  const result = await ran([new ScriptedBrain([{ text: 'It was a typo.', calls: [['write', {}]] }])], {
    singleTurn: true,
  });
  assert.equal(result.ending, { kind: 'finish', summary: 'It was a typo.', lowConfidence: false });
  assert.equal([result.turns, result.done], [1, ['write']]);
});

test('what is said of an answer is what the server counted', async () => {
  const told: unknown[] = [];
  await ran([new ScriptedBrain([FINISH])], {
    answered: ({ model }, usage, ms) => told.push([model, usage, ms >= 0]),
  });
  assert.equal(told, [['of-scripted', USAGE, true]]);
});

test('an aborted signal ends it with its reason, in the middle of an answer too', async () => {
  const stop = new AbortController();
  const reason = new Error('stopped');
  const running = ran([new ScriptedBrain(['silence'])], {}, stop.signal);
  stop.abort(reason);
  await running.then(
    () => assert.unreachable(),
    (error) => assert.is(error, reason),
  );
});

test.run();
