import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * No model: a server whose answers are scripted, and which speaks the HTTP of a real one where it lists its models, word
 * for word as Ollama (`GET /api/tags`) or an OpenAI-compatible server (`GET /v1/models`) does, 404s included.
 */
export class ScriptedModelServer {
  readonly #server: Server;
  readonly asked: string[] = [];
  port = 0;
  models: string[];

  private constructor(speaks: 'ollama' | 'openai', models: string[]) {
    this.models = models;
    this.#server = createServer((request, response) => {
      this.asked.push(`${request.method} ${request.url}`);
      const list = speaks === 'ollama' ? '/api/tags' : '/v1/models';
      if (request.method !== 'GET' || request.url !== list) {
        response.writeHead(404, { 'content-type': speaks === 'ollama' ? 'text/plain' : 'application/json' });
        response.end(
          speaks === 'ollama' ? '404 page not found' : '{"error":{"code":404,"message":"Not Found"}}',
        );
        return;
      }
      response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' });
      response.end(JSON.stringify(speaks === 'ollama' ? ollamaTags(this.models) : openaiModels(this.models)));
    });
  }

  static async listen(
    speaks: 'ollama' | 'openai',
    models: string[],
    port = 0,
    host = '127.0.0.1',
  ): Promise<ScriptedModelServer> {
    const scripted = new ScriptedModelServer(speaks, models);
    await new Promise<void>((resolve, reject) => {
      scripted.#server.once('error', reject);
      scripted.#server.listen(port, host, resolve);
    });
    scripted.port = (scripted.#server.address() as AddressInfo).port;
    return scripted;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const ollamaTags = (models: string[]): object => ({
  models: models.map((name) => ({
    name,
    model: name,
    modified_at: '2025-01-02T03:04:05.678901234Z',
    size: 4_661_224_676,
    digest: '365c0bd3c000a25d28ddbf732fe1c6add414de7275464c4e4d1c3b5fcb5d8ad1',
    details: {
      parent_model: '',
      format: 'gguf',
      family: 'llama',
      families: ['llama'],
      parameter_size: '8.0B',
      quantization_level: 'Q4_0',
    },
  })),
});

const openaiModels = (models: string[]): object => ({
  object: 'list',
  data: models.map((id) => ({ id, object: 'model', created: 1_735_787_045, owned_by: 'library' })),
});
