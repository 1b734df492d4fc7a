/** Models of other members, over real hosts; behind each is a scripted Ollama. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BrainError } from '../../../node/brain/types.ts';
import { withNet } from '../network/hosts.ts';
import { borrowing, eventsOf, lending, MODEL, request, textOf } from './lender.ts';

const never = new AbortController().signal;

async function faultOf(answer: Promise<unknown>): Promise<BrainError> {
  try {
    await answer;
  } catch (error) {
    assert.instance(error, BrainError);
    return error as BrainError;
  }
  throw new Error('it was answered');
}

const usage = (generatedTokens: number, generateMs: number) => ({
  promptTokens: 20,
  promptFreshTokens: 20,
  generatedTokens,
  promptMs: 20,
  generateMs,
});

test(
  'an answer comes from another machine as its server gives it: text, thoughts, calls and counts',
  withNet(async (net) => {
    const one = await lending(net, 'one');
    const me = await net.member();
    one.ollama.script = () => [
      { do: 'thinking', text: 'hm' },
      { do: 'text', text: 'Zwölf 🦊' },
      { do: 'call', name: 'read', arguments: { path: 'a', deep: [{ b: null }] }, id: 'c1' },
      {
        do: 'end',
        reason: 'length',
        counts: { promptTokens: 7, generatedTokens: 9, promptMs: 2, generateMs: 3 },
      },
    ];
    const brain = borrowing(me, [one.lender]);
    assert.equal(await brain.models(never), [
      {
        name: MODEL,
        contextTokens: 32_768,
        tools: true,
        bytes: 4_683_087_332,
        parameters: 7_615_616_512,
      },
    ]);
    const asked = request({
      messages: [
        { role: 'system', content: 'be short' },
        { role: 'user', content: 'x' },
        {
          role: 'assistant',
          content: '',
          calls: [{ id: 'c0', name: 'list', arguments: {}, text: '{}' }],
        },
        { role: 'tool', call: 'c0', name: 'list', content: 'a' },
      ],
      tools: [{ name: 'read', description: 'reads', parameters: { type: 'object' } }],
      temperature: 0.5,
      contextTokens: 4096,
    });
    const events = await eventsOf(brain.chat(asked, never));
    assert.equal(
      events.map(({ type }) => type),
      ['thinking', 'text', 'call', 'end'],
    );
    assert.is(textOf(events), 'Zwölf 🦊');
    const [, , call, end] = events;
    assert.ok(call?.type === 'call' && end?.type === 'end');
    assert.equal(call.call.arguments, { path: 'a', deep: [{ b: null }] });
    assert.is(end.reason, 'length');
    assert.equal([end.usage.promptTokens, end.usage.generatedTokens], [7, 9]);
    const body = one.ollama.to('/api/chat')[0]!.body as Record<string, unknown>;
    assert.equal(
      (body.messages as { role: string }[]).map(({ role }) => role),
      ['system', 'user', 'assistant', 'tool'],
    );
    assert.equal(body.options, { num_predict: 100, num_ctx: 4096, temperature: 0.5 });
  }),
);

test(
  'it streams: the first words are here before the last are thought of',
  withNet(async (net) => {
    const one = await lending(net, 'one');
    const me = await net.member();
    const gate = Promise.withResolvers<void>();
    one.ollama.script = () => [
      { do: 'text', text: 'first' },
      { do: 'wait', until: gate.promise },
      { do: 'text', text: ' last' },
    ];
    let text = '';
    for await (const event of borrowing(me, [one.lender]).chat(request(), never)) {
      if (event.type !== 'text') continue;
      text += event.text;
      gate.resolve();
    }
    assert.is(text, 'first last');
    assert.is(one.serving.running, 0);
  }),
);

test(
  'who leaves stops the model at its server, in the middle of an answer and before its first word',
  withNet(async (net) => {
    const one = await lending(net, 'one');
    const me = await net.member();
    const brain = borrowing(me, [one.lender]);
    one.ollama.script = () => [{ do: 'text', text: 'on and on' }, { do: 'hang' }];
    for await (const event of brain.chat(request(), never)) {
      assert.is(event.type, 'text');
      break;
    }
    assert.is(await one.ollama.to('/api/chat')[0]!.ended, 'left');

    one.ollama.script = () => [{ do: 'hang' }];
    one.ollama.asked.length = 0;
    const leaving = new AbortController();
    const answer = eventsOf(brain.chat(request(), leaving.signal)).catch((error: unknown) => error);
    const asked = await one.ollama.request('/api/chat');
    leaving.abort(new Error('enough'));
    assert.is(((await answer) as Error).message, 'enough');
    assert.is(await asked.ended, 'left');
  }),
);

test(
  'a machine that refuses, is gone or breaks before its first word is followed by another; each is said to have read the prompt only if it was sent there',
  withNet(async (net) => {
    const [busy, gone, broken, good] = [
      await lending(net, 'busy'),
      await lending(net, 'gone'),
      await lending(net, 'broken'),
      await lending(net, 'good'),
    ];
    const me = await net.member();
    // The fastest are asked first.
    busy.speeds.note(busy.ollama.url, MODEL, usage(400, 1_000));
    broken.speeds.note(broken.ollama.url, MODEL, usage(300, 1_000));
    gone.speeds.note(gone.ollama.url, MODEL, usage(200, 1_000));
    good.speeds.note(good.ollama.url, MODEL, usage(100, 1_000));
    busy.ollama.script = () => [{ do: 'refuse', status: 503, message: 'server busy' }];
    broken.ollama.script = () => [{ do: 'disconnect' }];
    good.ollama.script = () => [{ do: 'text', text: 'here' }];
    const brain = borrowing(me, [good.lender, gone.lender, broken.lender, busy.lender]);
    await brain.models(never);
    await gone.host.stop();
    const sent: string[] = [];
    const events = await eventsOf(brain.ask(request(), never, ({ name }) => sent.push(name)));
    assert.is(textOf(events), 'here');
    assert.equal(sent, ['busy', 'broken', 'good']);
  }),
);

test(
  'after its first word nobody else is asked, and the fault is that of the machine',
  withNet(async (net) => {
    const [one, two] = [await lending(net, 'one'), await lending(net, 'two')];
    const me = await net.member();
    one.speeds.note(one.ollama.url, MODEL, usage(400, 1_000));
    one.ollama.script = () => [{ do: 'text', text: 'half a' }, { do: 'disconnect' }];
    const brain = borrowing(me, [two.lender, one.lender]);
    const fault = await faultOf(eventsOf(brain.chat(request(), never)));
    assert.is(fault.fault, 'broken');
    assert.ok(fault.begun);
    assert.match(fault.message, /^one: /);
    assert.is(two.ollama.to('/api/chat').length, 0);
  }),
);

test(
  'what is wrong with the request is not tried elsewhere',
  withNet(async (net) => {
    const [one, two] = [await lending(net, 'one'), await lending(net, 'two')];
    const me = await net.member();
    for (const { ollama } of [one, two])
      ollama.script = () => [
        {
          do: 'refuse',
          status: 400,
          message: 'input length exceeds the context length: exceeds maximum context',
        },
      ];
    const fault = await faultOf(eventsOf(borrowing(me, [one.lender, two.lender]).chat(request(), never)));
    assert.is(fault.fault, 'context');
    assert.is(one.ollama.to('/api/chat').length + two.ollama.to('/api/chat').length, 1);
    const unknown = await faultOf(
      eventsOf(borrowing(me, [one.lender]).chat(request({ model: 'other:1b' }), never)),
    );
    assert.is(unknown.fault, 'model');
  }),
);

test(
  'the machine with less to do is asked, then the one that is faster as measured',
  withNet(async (net) => {
    const [fast, slow] = [await lending(net, 'fast'), await lending(net, 'slow')];
    const me = await net.member();
    fast.speeds.note(fast.ollama.url, MODEL, usage(400, 1_000));
    slow.speeds.note(slow.ollama.url, MODEL, usage(10, 1_000));
    const gate = Promise.withResolvers<void>();
    fast.ollama.script = () => [{ do: 'wait', until: gate.promise }];
    const brain = borrowing(me, [slow.lender, fast.lender]);
    const where: string[] = [];
    const ask = () => eventsOf(brain.ask(request(), never, ({ name }) => where.push(name)));
    const first = ask();
    await fast.ollama.request('/api/chat');
    await ask();
    assert.equal(where, ['fast', 'slow']);
    gate.resolve();
    await first;
  }),
);

test(
  'an owner who lends no more lets go of the model at once, and offers none',
  withNet(async (net) => {
    const one = await lending(net, 'one');
    const me = await net.member();
    const brain = borrowing(me, [one.lender]);
    one.ollama.script = () => [{ do: 'hang' }];
    const answer = faultOf(eventsOf(brain.chat(request(), never)));
    const asked = await one.ollama.request('/api/chat');
    one.owner.lends = false;
    one.serving.drop();
    assert.is(await asked.ended, 'left');
    const fault = await answer;
    assert.is(fault.fault, 'busy');
    assert.match(fault.message, /does not lend its models now/);
    assert.equal(await borrowing(me, [one.lender]).models(never), []);
  }),
);

test(
  'an answer larger than what may be under way comes whole to a reader that takes its time',
  withNet(async (net) => {
    const one = await lending(net, 'one');
    const me = await net.member();
    const piece = '🦊'.repeat(50_000);
    one.ollama.script = () => Array.from({ length: 12 }, () => ({ do: 'text' as const, text: piece }));
    let text = '';
    let events = 0;
    for await (const event of borrowing(me, [one.lender]).chat(request({ maxTokens: 100_000 }), never)) {
      if (event.type === 'text') text += event.text;
      events += 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(text === piece.repeat(12), `${text.length} characters`);
    assert.ok(events > 12);
  }),
);

test.run();
