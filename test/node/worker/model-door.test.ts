/** The door to one model, over a real Unix socket, with a scripted server behind it. */
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { dirname } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ModelDoor } from '../../../node/worker/model-door.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';

const MODEL = 'scripted:7b';
const ollama = await new ScriptedOllama([MODEL, 'other:7b']).listen();
const openai = await new ScriptedOpenAI([MODEL]).listen();
test.after(async () => {
  await Promise.all([ollama.close(), openai.close()]);
});

interface Answered {
  status: number;
  text: string;
}

function ask(door: ModelDoor, method: string, path: string, body?: unknown): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: door.socket, method, path, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part: string) => {
        text += part;
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
      answer.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}

const chat = (model: string): object => ({
  model,
  messages: [{ role: 'user', content: 'hi' }],
  stream: true,
});

async function opened<T>(
  url: string,
  tokensMax: number,
  use: (door: ModelDoor) => Promise<T>,
  requestsMax = 1000,
): Promise<T> {
  const door = await ModelDoor.open({ url, model: MODEL, tokensMax, requestsMax });
  try {
    return await use(door);
  } finally {
    await door.close();
    assert.not.ok(existsSync(dirname(door.socket)));
  }
}

for (const [name, server, path] of [
  ['Ollama', ollama, '/api/chat'],
  ['OpenAI', openai, '/v1/chat/completions'],
] as const) {
  test(`the one model is asked through it and its tokens are counted, as ${name} says them`, () =>
    opened(server.url, 1e9, async (door) => {
      const wish = { ...chat(MODEL), stream_options: { include_usage: true } };
      const { status, text } = await ask(door, 'POST', path, wish);
      assert.is(status, 200, text);
      assert.match(text, /ok/);
      const { requests, promptTokens, generatedTokens } = door.use;
      assert.is(requests, 1);
      assert.ok(promptTokens! > 0 && generatedTokens! > 0, JSON.stringify(door.use));
    }));
}

test('another model, another path, another method, no JSON and no end are refused before the server hears of them', () =>
  opened(ollama.url, 1e9, async (door) => {
    const before = ollama.asked.length;
    const refused: [string, string, unknown, number, RegExp][] = [
      ['POST', '/api/chat', chat('other:7b'), 403, /the model of this task is scripted:7b, not other:7b/],
      ['POST', '/api/chat', '{', 403, /no JSON/],
      ['POST', '/api/chat', '[]', 403, /not null/],
      ['POST', '/api/chat', 'null', 403, /not null/],
      ['POST', '/api/pull', { model: MODEL }, 403, /not allowed/],
      ['DELETE', '/api/delete', { model: MODEL }, 403, /not allowed/],
      ['POST', '/api/create', { model: MODEL }, 403, /not allowed/],
      ['GET', '/api/chat', undefined, 403, /not allowed/],
      ['GET', '/../etc/passwd', undefined, 403, /not allowed/],
      ['GET', '//evil.example/v1/models', undefined, 403, /not allowed/],
      ['POST', '/api/chat', `"${'x'.repeat(17 * 1024 * 1024)}"`, 413, /at most/],
    ];
    for (const [method, path, body, status, words] of refused) {
      const answered = await ask(door, method, path, body).catch((error: Error) => {
        // A body that is cut off may break the connection before the answer is read.
        assert.is(status, 413, error.message);
        return { status: 413, text: 'at most' };
      });
      assert.is(answered.status, status, `${method} ${path}`);
      assert.match(answered.text, words);
    }
    assert.is(ollama.asked.length, before);
    assert.is((await ask(door, 'GET', '/api/tags')).status, 200);
    assert.is(door.use.requests, 0);
  }));

test('what is spent is spent: no more is asked, and the words say so', () =>
  opened(ollama.url, 1, async (door) => {
    assert.is((await ask(door, 'POST', '/api/chat', chat(MODEL))).status, 200);
    const over = await ask(door, 'POST', '/api/chat', chat(MODEL));
    assert.equal([over.status, /tokens of this task are spent/.test(over.text)], [403, true]);
  }));

test('no spelling of a key gets another model, nor keeps one in memory', () =>
  opened(ollama.url, 1e9, async (door) => {
    const messages = '"messages":[{"role":"user","content":"hi"}],"stream":true';
    for (const body of [
      `{"model":"${MODEL}","MODEL":"other:7b","Model":"other:7b",${messages}}`,
      `{"model":"other:7b","model":"${MODEL}","keep_alive":-1,"Keep_Alive":0,${messages}}`,
      `{"model":"${MODEL}","name":"other:7b",${messages}}`,
    ]) {
      const answered = await ask(door, 'POST', '/api/chat', body);
      assert.is(answered.status, 200, answered.text);
      const sent = ollama.to('/api/chat').at(-1)!.body as object;
      assert.equal(Object.keys(sent), ['model', 'messages', 'stream']);
      assert.is((sent as { model: string }).model, MODEL);
    }
  }));

test('what is not counted is spent all the same: without counts, and where the agent leaves before them', async () => {
  await opened(openai.url, 20, async (door) => {
    const path = '/v1/chat/completions';
    assert.is((await ask(door, 'POST', path, chat(MODEL))).status, 200);
    assert.equal([door.use.requests, door.use.promptTokens, door.use.generatedTokens], [1, null, null]);
    assert.is((await ask(door, 'POST', path, chat(MODEL))).status, 403);
  });
  const before = ollama.script;
  ollama.script = () => [{ do: 'text', text: 'I think' }, { do: 'hang' }];
  try {
    await opened(ollama.url, 20, async (door) => {
      const asked = request({ socketPath: door.socket, method: 'POST', path: '/api/chat', agent: false });
      asked.on('error', () => {});
      const number = ollama.to('/api/chat').length;
      asked.end(JSON.stringify(chat(MODEL)));
      await new Promise((resolve) => asked.on('response', (answer) => answer.once('data', resolve)));
      asked.destroy();
      assert.is(await ollama.to('/api/chat')[number]!.ended, 'left');
      const over = await ask(door, 'POST', '/api/chat', chat(MODEL));
      assert.is(over.status, 403, over.text);
      assert.is(door.use.requests, 1);
    });
  } finally {
    ollama.script = before;
  }
});

test('a count that cannot be is none: it is estimated, and told to nobody as it came', async () => {
  const counts = { promptTokens: 2 ** 50, generatedTokens: 1, promptMs: 1, generateMs: 1 };
  const liar = await new ScriptedOllama([MODEL], () => [{ do: 'end', counts }]).listen();
  try {
    await opened(liar.url, 1_000_000, async (door) => {
      assert.is((await ask(door, 'POST', '/api/chat', chat(MODEL))).status, 200);
      assert.is((await ask(door, 'POST', '/api/chat', chat(MODEL))).status, 200, 'not spent by the first');
      assert.equal([door.use.requests, door.use.promptTokens], [2, null]);
    });
  } finally {
    await liar.close();
  }
});

test('requests that never end are few, and take no memory of others', () =>
  opened(ollama.url, 1e9, async (door) => {
    const begun = Array.from({ length: 8 }, () => {
      const asked = request({ socketPath: door.socket, method: 'POST', path: '/api/chat', agent: false });
      asked.on('error', () => {});
      asked.write('{"model":');
      return asked;
    });
    await Promise.all(
      begun.map(
        (asked) =>
          new Promise((resolve) => asked.once('socket', (socket) => socket.once('connect', resolve))),
      ),
    );
    let over = await ask(door, 'POST', '/api/chat', chat(MODEL));
    while (over.status === 200) over = await ask(door, 'POST', '/api/chat', chat(MODEL));
    assert.is(over.status, 429, over.text);
    for (const asked of begun) asked.destroy();
  }));

test('answers are as many as the task has, whatever is asked at one time', () =>
  opened(
    ollama.url,
    1e9,
    async (door) => {
      const all = await Promise.all(
        Array.from({ length: 6 }, () => ask(door, 'POST', '/api/chat', chat(MODEL))),
      );
      const done = all.filter(({ status }) => status === 200).length;
      assert.ok(done <= 2, `${done} answers`);
      while ((await ask(door, 'POST', '/api/chat', chat(MODEL))).status === 200);
      const over = await ask(door, 'POST', '/api/chat', chat(MODEL));
      assert.equal([over.status, /answers of this task are used up/.test(over.text)], [403, true]);
      assert.is(door.exhausted, 'the answers of this task are used up');
      assert.ok(door.use.requests <= 2);
    },
    2,
  ));

test('who leaves lets go of the model', () =>
  opened(ollama.url, 1e9, async (door) => {
    const before = ollama.to('/api/chat').length;
    ollama.script = () => [{ do: 'text', text: 'I think' }, { do: 'hang' }];
    const asked = request({ socketPath: door.socket, method: 'POST', path: '/api/chat', agent: false });
    asked.on('error', () => {});
    asked.end(JSON.stringify(chat(MODEL)));
    await new Promise((resolve) => asked.on('response', (answer) => answer.once('data', resolve)));
    asked.destroy();
    assert.is(await ollama.to('/api/chat')[before]!.ended, 'left');
  }));

test('a server that is gone is said to be', () =>
  opened('http://127.0.0.1:1', 1e9, async (door) => {
    const { status, text } = await ask(door, 'POST', '/api/chat', chat(MODEL));
    assert.equal([status, /does not answer/.test(text)], [502, true]);
  }));

test.run();
