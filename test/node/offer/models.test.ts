import { createServer as createTcpServer } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { askModels, modelServerUrl } from '../../../node/offer/models.ts';
import { ScriptedModelServer } from '../../net/scripted-model-server.ts';

for (const [typed, kept] of [
  ['http://192.168.1.7:11434', 'http://192.168.1.7:11434'],
  ['http://192.168.1.7:11434/', 'http://192.168.1.7:11434'],
  ['http://10.0.0.2:8080/v1', 'http://10.0.0.2:8080'],
  ['http://10.0.0.2:8080/v1/', 'http://10.0.0.2:8080'],
  ['https://gpu.lan/llm/v1', 'https://gpu.lan/llm'],
  ['HTTP://GPU.local:80', 'http://gpu.local'],
  ['http://[fd00::1]:11434', 'http://[fd00::1]:11434'],
] as const) {
  test(`${typed} is kept as ${kept}`, () => assert.is(modelServerUrl(typed), kept));
}

for (const [bad, why] of [
  ['192.168.1.7:11434', /no URL|neither http/],
  ['ftp://192.168.1.7', /neither http nor https/],
  ['unix:/run/ollama.sock', /neither/],
  ['http://a:b@192.168.1.7', /password/],
  ['http://192.168.1.7/?key=1', /query/],
  ['http://8.8.8.8:11434', /outside the LAN/],
  ['http://[2606:4700::1111]/', /outside the LAN/],
  ['', /no URL/],
] as const) {
  test(`${bad || 'nothing'} is refused: ${why.source}`, () => {
    assert.throws(
      () => modelServerUrl(bad),
      (error: { code: string; message: string; hint: string }) =>
        error.code === 'SF_USAGE' && why.test(error.message) && error.hint.includes('mesh-node models add'),
    );
  });
}

test('a server is asked as Ollama lists its models, and then as OpenAI does', async () => {
  const ollama = await ScriptedModelServer.listen('ollama', ['llama3:8b', 'phi:latest']);
  const openai = await ScriptedModelServer.listen('openai', ['qwen2.5-coder']);
  try {
    assert.equal(await askModels(ollama.url), {
      url: ollama.url,
      speaks: 'Ollama',
      models: ['llama3:8b', 'phi:latest'],
      fault: null,
    });
    assert.equal(await askModels(openai.url), {
      url: openai.url,
      speaks: 'OpenAI',
      models: ['qwen2.5-coder'],
      fault: null,
    });
    assert.equal(openai.asked, ['GET /api/tags', 'GET /v1/models']);
    openai.models = [];
    assert.is((await askModels(openai.url)).fault, null, 'a server without models answers');
    const named = `http://localhost:${ollama.port}`;
    assert.is((await askModels(named)).fault, null, 'a name is looked up');
    assert.is((await askModels(`${ollama.url}/else`)).fault, '/api/tags answers 404; /v1/models answers 404');
  } finally {
    await ollama.close();
    await openai.close();
  }
  assert.is((await askModels(ollama.url)).fault, 'ECONNREFUSED');
});

test('a server that takes the connection and says nothing is given up, asked once', async () => {
  let connections = 0;
  const silent = createTcpServer((socket) => {
    connections += 1;
    socket.resume().on('error', () => {});
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const address = silent.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const asked = await askModels(`http://127.0.0.1:${port}`);
  assert.equal(asked.models, []);
  assert.is(asked.fault, 'no answer within 2 s');
  assert.is(connections, 1);
  await new Promise((resolve) => silent.close(resolve));
});

test.run();
