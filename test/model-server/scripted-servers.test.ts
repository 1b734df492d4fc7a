import { Ollama } from 'ollama';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ScriptedOllama } from './scripted-ollama.ts';
import { ScriptedOpenAI } from './scripted-openai.ts';

const MODEL = 'qwen2.5-coder:7b';

test("Ollama's own client finds its API: version, list, show, load, ps, chat, unload", async () => {
  const server = await new ScriptedOllama([MODEL], () => [
    { do: 'text', text: 'I look.' },
    { do: 'call', name: 'read', arguments: { path: 'a' } },
  ]).listen();
  try {
    const client = new Ollama({ host: server.url });
    assert.match((await client.version()).version, 'scripted');
    assert.equal(
      (await client.list()).models.map(({ name }) => name),
      [MODEL],
    );
    assert.equal((await client.show({ model: MODEL })).capabilities, ['completion', 'tools']);
    const running = async (): Promise<string[]> => (await client.ps()).models.map(({ name }) => name);
    assert.equal(await running(), []);
    assert.is((await client.generate({ model: MODEL, prompt: '' })).done_reason, 'load');
    assert.equal(await running(), [MODEL]);
    let said = '';
    const called: string[] = [];
    const messages = [{ role: 'user', content: 'Fix it.' }];
    for await (const { message, done, eval_count } of await client.chat({
      model: MODEL,
      messages,
      stream: true,
    })) {
      said += message.content;
      for (const call of message.tool_calls ?? []) called.push(call.function.name);
      if (done) assert.ok(eval_count > 0);
    }
    assert.is(said, 'I look.');
    assert.equal(called, ['read']);
    const unloaded = await client.generate({ model: MODEL, prompt: '', keep_alive: 0 });
    assert.is(unloaded.done_reason, 'unload');
    assert.equal(await running(), []);
    const refused = await client.chat({ model: 'gone', messages }).catch((error: Error) => error);
    assert.match(String(refused), "model 'gone' not found");
  } finally {
    await server.close();
  }
});

test('what is not scripted is said, not made up', async () => {
  const ollama = await new ScriptedOllama([MODEL]).listen();
  const openai = await new ScriptedOpenAI([MODEL]).listen();
  const post = (url: string): Promise<Response> =>
    fetch(url, { method: 'POST', body: JSON.stringify({ model: MODEL, messages: [], stream: false }) });
  try {
    for (const [url, status] of [
      [`${ollama.url}/api/chat`, 500],
      [`${ollama.url}/api/embed`, 404],
      [`${openai.url}/v1/chat/completions`, 501],
      [`${openai.url}/v1/embeddings`, 404],
    ] as const) {
      const answer = await post(url);
      assert.is(answer.status, status, url);
      await answer.text();
    }
  } finally {
    await Promise.all([ollama.close(), openai.close()]);
  }
});

test.run();
