/** What members and strangers can do to a machine that lends its models. */
import type { Connection } from '@libp2p/interface';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chatAt, listAt } from '../../../node/infer/client.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import { frameOf, lengthPrefix, parseFrame } from '../../../protocol/frame.ts';
import {
  INFER_PROTOCOL,
  type InferEvent,
  inferCreditBytes,
  inferEventSchema,
  inferFrame,
  inferFrameBytesMax,
  inferRequestBytesMax,
} from '../../../protocol/infer.ts';
import { connect, type Net, withNet } from '../network/hosts.ts';
import { borrowing, eventsOf, lending, request, textOf } from './lender.ts';

const never = new AbortController().signal;

const channelTo = async (connection: Connection): Promise<FrameChannel> =>
  new FrameChannel(await connection.newStream(INFER_PROTOCOL), {
    frameBytesMax: inferFrameBytesMax,
    unreadBytesMax: inferCreditBytes + inferFrameBytesMax,
  });

const chatFrame = (fields: Parameters<typeof request>[0] = {}): Uint8Array => {
  const { messages, tools, ...rest } = request(fields);
  const chat = { ...rest, messages: [...messages], tools: [...tools] };
  return inferFrame({ type: 'chat', correlation: 'test', chat });
};

const firstOf = (frame: Uint8Array | null): InferEvent | undefined =>
  frame === null ? undefined : parseFrame(frame, inferEventSchema).messages[0];

async function pair(net: Net, limits: Parameters<typeof lending>[2] = {}) {
  const one = await lending(net, 'one', limits);
  const me = await net.member();
  return { one, me, connection: await connect(me, one.host) };
}

test(
  'a stranger gets nothing, neither the list nor an answer',
  withNet(async (net) => {
    const { one } = await pair(net);
    const stranger = await net.host();
    const connection = await connect(stranger, one.host);
    for (const frame of [inferFrame({ type: 'list' }), chatFrame()]) {
      const channel = await channelTo(connection);
      await channel.write(frame).catch(() => {});
      assert.is(await channel.read().catch(() => null), null);
    }
    assert.equal(one.errors, ['SF_REFUSED', 'SF_REFUSED']);
    assert.is(one.ollama.asked.length, 0);
  }),
);

test(
  'a request that is huge, or not of the form, costs its sender the stream and reaches no model',
  withNet(async (net) => {
    const { one, connection } = await pair(net);
    const chat = JSON.parse(Buffer.from(chatFrame()).toString())[0].chat;
    const bodies: Uint8Array[] = [
      Buffer.from('nonsense'),
      Buffer.from('[]'),
      frameOf({ type: 'grant', bytes: 1 } as { type: string }),
      ...[
        { model: '' },
        { maxTokens: -1 },
        { maxTokens: 1e9 },
        { messages: [] },
        { messages: [{ role: 'root', content: 'x' }] },
        { messages: [{ role: 'user', content: null }] },
        { messages: Array.from({ length: 5000 }, () => ({ role: 'user', content: '' })) },
        { tools: Array.from({ length: 129 }, () => ({ name: 'a', description: '', parameters: {} })) },
        { format: 'json' },
        { contextTokens: 0.5 },
      ].map((wrong) =>
        frameOf({ type: 'chat', correlation: 'c', chat: { ...chat, ...wrong } } as { type: string }),
      ),
      frameOf({ type: 'chat', correlation: 'spaces are not for ids', chat } as { type: string }),
    ];
    for (const body of bodies) {
      const channel = await channelTo(connection);
      await channel.write(body).catch(() => {});
      assert.is(await channel.read().catch(() => null), null, Buffer.from(body.subarray(0, 80)).toString());
    }
    const huge = await connection.newStream(INFER_PROTOCOL);
    huge.send(lengthPrefix(inferRequestBytesMax + 1));
    await new Promise((resolve) => huge.addEventListener('close', resolve, { once: true }));
    assert.equal(new Set(one.errors), new Set(['SF_FRAME']));
    assert.is(one.errors.length, bodies.length + 1);
    assert.is(one.ollama.to('/api/chat').length, 0);
    assert.is(one.serving.running, 0);
    assert.is(textOf(await eventsOf(chatAt(connection, request(), 'c', never))), 'ok', 'others are served');
  }),
);

test(
  'JSON nested beyond what can be written again is a fault of that request alone',
  withNet(async (net) => {
    const { connection } = await pair(net);
    const chat = JSON.parse(Buffer.from(chatFrame()).toString())[0].chat;
    const text = JSON.stringify([{ type: 'chat', correlation: 'c', chat: { ...chat, format: { a: 0 } } }]);
    const deep = text.replace('{"a":0}', `${'{"a":'.repeat(100_000)}0${'}'.repeat(100_000)}`);
    const channel = await channelTo(connection);
    await channel.write(Buffer.from(deep)).catch(() => {});
    const answer = firstOf(await channel.read().catch(() => null));
    assert.ok(answer === undefined || answer.type === 'error', JSON.stringify(answer));
    assert.is(textOf(await eventsOf(chatAt(connection, request(), 'c', never))), 'ok');
  }),
);

test(
  'one member has two answers at a time, all have four; more are told busy before a model is asked',
  withNet(async (net) => {
    const { one, connection } = await pair(net);
    one.ollama.script = () => [{ do: 'hang' }];
    const asked = async (to: Connection): Promise<FrameChannel> => {
      const before = one.serving.running;
      const channel = await channelTo(to);
      await channel.write(chatFrame());
      while (one.serving.running === before) await new Promise((resolve) => setImmediate(resolve));
      return channel;
    };
    const refused = async (to: Connection): Promise<void> => {
      const channel = await channelTo(to);
      await channel.write(chatFrame());
      const answer = firstOf(await channel.expect());
      assert.ok(answer?.type === 'error' && answer.fault === 'busy');
    };
    const held = [await asked(connection), await asked(connection)];
    await refused(connection);
    const others = [await net.member(), await net.member()];
    for (const other of others) held.push(await asked(await connect(other, one.host)));
    await refused(await connect(others[0]!, one.host));
    assert.is(one.serving.running, 4);
    const { running } = await listAt(connection, never);
    assert.is(running, 4, 'members are told how much it has to do');
    for (const channel of held) channel.abort(new Error('enough'));
    while (one.serving.running > 0) await new Promise((resolve) => setImmediate(resolve));
    one.ollama.script = () => [{ do: 'text', text: 'free again' }];
    assert.is(textOf(await eventsOf(chatAt(connection, request(), 'c', never))), 'free again');
  }),
);

test(
  'a member that opens streams and says nothing keeps no other out, and is let go',
  withNet(async (net) => {
    const { one, connection } = await pair(net, { requestMs: 300 });
    const silent: FrameChannel[] = [];
    for (let count = 0; count < 8; count++) silent.push(await channelTo(connection));
    const other = await net.member();
    assert.is(textOf(await eventsOf(borrowing(other, [one.lender]).chat(request(), never))), 'ok');
    for (const channel of silent) assert.is(await channel.read().catch(() => null), null);
  }),
);

test(
  'a member that takes nothing of its answer is let go, and the model with it',
  withNet(async (net) => {
    const { one, connection } = await pair(net, { stallMs: 200 });
    one.ollama.script = () => [
      ...Array.from({ length: 40 }, () => ({ do: 'text' as const, text: 'x'.repeat(30_000) })),
      { do: 'hang' },
    ];
    const channel = await channelTo(connection);
    await channel.write(chatFrame({ maxTokens: 100_000 }));
    // Read, and never granted for.
    let bytes = 0;
    for (;;) {
      const frame = await channel.read().catch(() => null);
      if (frame === null) break;
      bytes += frame.byteLength;
    }
    assert.ok(bytes >= inferCreditBytes && bytes <= inferCreditBytes + inferFrameBytesMax, `${bytes}`);
    assert.is(await one.ollama.to('/api/chat')[0]!.ended, 'left');
    assert.equal(one.errors, ['SF_TIMEOUT']);
  }),
);

test(
  'a grant for more than was sent ends the answer',
  withNet(async (net) => {
    const { one, connection } = await pair(net);
    one.ollama.script = () => [{ do: 'text', text: 'x' }, { do: 'hang' }];
    const channel = await channelTo(connection);
    await channel.write(chatFrame());
    await channel.expect();
    await channel.write(inferFrame({ type: 'grant', bytes: inferCreditBytes }));
    assert.is(await channel.read().catch(() => null), null);
    assert.is(await one.ollama.to('/api/chat')[0]!.ended, 'left');
    assert.equal(one.errors, ['SF_FRAME']);
  }),
);

test(
  'a member that answers with what is no answer is a fault of that member, told as one',
  withNet(async (net) => {
    const me = await net.member();
    for (const answer of [
      frameOf({ type: 'end', reason: 'because' } as { type: string }),
      frameOf({ type: 'models', models: [], running: 0, lends: true } as { type: string }),
      Buffer.from('{'),
    ]) {
      const liar = await net.member();
      const { registry } = net.registry(liar);
      await registry.handleProtocol({
        protocol: INFER_PROTOCOL,
        access: 'members',
        maxInboundStreams: 8,
        handler: async (stream) => {
          const channel = new FrameChannel(stream);
          await channel.read();
          await channel.write(answer);
        },
      });
      const error = await eventsOf(chatAt(await connect(me, liar), request(), 'c', never)).catch(
        (thrown: unknown) => thrown,
      );
      assert.is((error as { code?: string }).code, 'SF_FRAME');
    }
  }),
);

test(
  'a member that only says that it is there is given up, one that speaks is not (promise 18)',
  withNet(async (net) => {
    const me = await net.member();
    const liar = await net.member();
    const { registry } = net.registry(liar);
    let speaks = false;
    const word: { type: string; text: string } = { type: 'text', text: 'x' };
    await registry.handleProtocol({
      protocol: INFER_PROTOCOL,
      access: 'members',
      maxInboundStreams: 8,
      handler: async (stream) => {
        const channel = new FrameChannel(stream);
        await channel.read();
        const alive = setInterval(() => {
          const frame = speaks ? frameOf({ type: 'alive' }, word) : frameOf({ type: 'alive' });
          void channel.write(frame).catch(() => {});
        }, 20);
        // Until the one who asked has left.
        await channel.read().catch(() => null);
        clearInterval(alive);
      },
    });
    const connection = await connect(me, liar);
    const error = await eventsOf(chatAt(connection, request(), 'c', never, 200)).catch(
      (thrown: unknown) => thrown,
    );
    assert.is((error as { fault?: string }).fault, 'timeout', String(error));
    speaks = true;
    let words = 0;
    for await (const _ of chatAt(connection, request(), 'c', never, 200)) if (++words === 30) break;
    assert.is(words, 30);
  }),
);

test.run();
