import { request } from 'node:http';
import { z } from 'zod';

/** Where model servers listen when nobody told them otherwise. Loopback only: nothing else is asked. */
const SERVERS = [
  { name: 'Ollama', port: 11_434, path: '/api/tags' },
  { name: 'llama.cpp', port: 8080, path: '/v1/models' },
  { name: 'LM Studio', port: 1234, path: '/v1/models' },
  { name: 'vLLM', port: 8000, path: '/v1/models' },
] as const;
const ANSWER_MS = 1_000;
const ANSWER_BYTES_MAX = 1024 * 1024;
const MODELS_MAX = 64;

const modelName = z.string().min(1).max(128);
const ollamaAnswer = z.object({ models: z.array(z.object({ name: modelName })).max(10_000) });
const openaiAnswer = z.object({ data: z.array(z.object({ id: modelName })).max(10_000) });

export interface ModelServer {
  name: string;
  port: number;
  models: string[];
}

/** Model servers that answer on this machine, with the models they list. Silence and nonsense mean: none there. */
export async function modelServers(): Promise<ModelServer[]> {
  const asked = await Promise.all(
    SERVERS.map(async ({ name, port, path }) => {
      const models = parseModels(await get(port, path));
      return models === null ? [] : [{ name, port, models }];
    }),
  );
  return asked.flat();
}

/** Pure: names of the models in either form of answer; null for anything else. */
export function parseModels(body: string): string[] | null {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return null;
  }
  const ollama = ollamaAnswer.safeParse(json);
  const openai = openaiAnswer.safeParse(json);
  const names = ollama.success
    ? ollama.data.models.map(({ name }) => name)
    : openai.success
      ? openai.data.data.map(({ id }) => id)
      : null;
  return names === null ? null : [...new Set(names)].slice(0, MODELS_MAX);
}

function get(port: number, path: string): Promise<string> {
  return new Promise((resolve) => {
    let body = '';
    const asked = request(
      { host: '127.0.0.1', port, path, signal: AbortSignal.timeout(ANSWER_MS), agent: false },
      (answer) => {
        answer.setEncoding('utf8');
        answer.on('error', () => resolve(''));
        answer.on('end', () => resolve(answer.statusCode === 200 ? body : ''));
        answer.on('data', (part: string) => {
          body += part;
          if (body.length > ANSWER_BYTES_MAX) asked.destroy();
        });
      },
    );
    asked.on('error', () => resolve(''));
    asked.end();
  });
}
