import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { OpenAIBrain } from '../../../node/brain/openai.ts';
import { ask, askJson } from '../../../node/brain/request.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { all, fails, never, request, textOf } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';

async function listening(server: Server, run: (port: number) => Promise<void>): Promise<void> {
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await run((server.address() as AddressInfo).port);
  } finally {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}
const answering = (answer: RequestListener, run: (port: number) => Promise<void>): Promise<void> =>
  listening(createHttpServer(answer), run);
const MiB = 1024 * 1024;

test('a connection that does not come to stand in its time is unreachable', () =>
  // It takes the connection, and never answers the handshake.
  listening(createServer(), async (port) => {
    const brain = new OpenAIBrain({ url: `https://127.0.0.1:${port}`, connectMs: 50 });
    await fails(all(brain, request()), 'unreachable', /does not answer/);
  }));

test('a certificate that proves nothing is unreachable', () =>
  listening(
    createServer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n')),
    async (port) => {
      await fails(all(new OpenAIBrain({ url: `https://127.0.0.1:${port}` }), request()), 'unreachable');
    },
  ));

test('a redirect is not followed', () =>
  answering(
    (_, response) => response.writeHead(302, { location: 'http://127.0.0.1:9/' }).end(),
    async (port) => {
      await fails(all(new OllamaBrain({ url: `http://127.0.0.1:${port}` }), request()), 'broken', /302/);
    },
  ));

test('names become addresses as the caller says, or not at all', async () => {
  const server = await new ScriptedOllama([MODEL]).listen();
  try {
    const url = server.url.replace('127.0.0.1', 'models.invalid');
    const here = new OllamaBrain({
      url,
      lookup: (_name, options, answer) =>
        options.all ? answer(null, [{ address: '127.0.0.1', family: 4 }]) : answer(null, '127.0.0.1', 4),
    });
    assert.is(textOf(await all(here, request())), 'ok');
    assert.match(server.asked[0]!.headers.host!, /^models\.invalid:/);
    const outside = new Error('models.invalid is outside the LAN');
    const nowhere = new OllamaBrain({ url, lookup: (_name, _options, answer) => answer(outside, '', 4) });
    await fails(all(nowhere, request()), 'unreachable', /outside the LAN/);
  } finally {
    await server.close();
  }
});

test('an answer without end is cut, and its connection closed', () => {
  const block = Buffer.alloc(MiB, 32);
  const left = Promise.withResolvers<void>();
  return answering(
    (_, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(block));
      };
      response.on('drain', more).on('close', () => left.resolve());
      more();
    },
    async (port) => {
      const url = `http://127.0.0.1:${port}`;
      const read = async (): Promise<void> => {
        for await (const part of await ask({ url }, { method: 'GET', url }, never))
          assert.ok(part.length > 0);
      };
      await fails(read(), 'broken', /has no end/);
      await left.promise;
      await fails(askJson({ url }, { method: 'GET', url }, never), 'broken', /other than JSON/);
    },
  );
});

test('a refusal is quoted, and no more of it read than people can', () =>
  answering(
    (_, response) => response.writeHead(403).end('no\n'.repeat(MiB)),
    async (port) => {
      const error = await fails(
        all(new OllamaBrain({ url: `http://127.0.0.1:${port}` }), request()),
        'refused',
      );
      assert.match(error.message, /403: no no/);
      assert.ok(error.message.length < 1_000);
    },
  ));

test('a line or an event without end is broken', async () => {
  const endless = { do: 'nonsense' as const, bytes: `data: ${'x'.repeat(9 * MiB)}` };
  const ollama = await new ScriptedOllama([MODEL], () => [endless, { do: 'hang' }]).listen();
  const openai = await new ScriptedOpenAI([MODEL], () => [endless, { do: 'hang' }]).listen();
  try {
    await fails(all(new OllamaBrain({ url: ollama.url }), request()), 'broken', /line without an end/);
    await fails(all(new OpenAIBrain({ url: openai.url }), request()), 'broken', /other than events/);
    assert.is(await ollama.asked[0]!.ended, 'left');
    assert.is(await openai.asked[0]!.ended, 'left');
  } finally {
    await Promise.all([ollama.close(), openai.close()]);
  }
});

test('only the silence of the server is measured, not the time its words are worked on', async () => {
  const worked = Promise.withResolvers<void>();
  const server = await new ScriptedOpenAI([MODEL], () => [
    { do: 'text', text: 'a' },
    { do: 'wait', until: worked.promise },
    { do: 'text', text: 'b' },
  ]).listen();
  try {
    const brain = new OpenAIBrain({ url: server.url, silenceMs: 200 });
    let heard = '';
    for await (const event of brain.chat(request(), never)) {
      if (event.type !== 'text') continue;
      heard += event.text;
      if (heard !== 'a') continue;
      await once(AbortSignal.timeout(600), 'abort');
      worked.resolve();
    }
    assert.is(heard, 'ab');
  } finally {
    await server.close();
  }
});

test('a signal that is aborted already asks nobody', async () => {
  const server = await new ScriptedOllama([MODEL]).listen();
  try {
    const brain = new OllamaBrain({ url: server.url });
    const reason = new Error('stopped');
    const thrown = await all(brain, request(), AbortSignal.abort(reason)).catch((error: unknown) => error);
    assert.is(thrown, reason);
    assert.is(await brain.models(AbortSignal.abort(reason)).catch((error: unknown) => error), reason);
    assert.is(server.asked.length, 0);
  } finally {
    await server.close();
  }
});

test.run();
