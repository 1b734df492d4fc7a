import { type Counts, countsOf, type Script, type ScriptedBody, type Step, whole } from './script.ts';
import { type Asked, type Reply, ScriptedServer } from './scripted-server.ts';

/** A model as the scripted server lists and shows it. */
export interface ScriptedOllamaModel {
  name: string;
  /** @default ['completion', 'tools']; null: a server too old to tell */
  capabilities?: string[] | null;
  /** @default 32768 */
  contextTokens?: number;
  /** @default 7_615_616_512 */
  parameters?: number;
  /** @default 4_683_087_332 */
  bytes?: number;
}

const MS = 1_000_000;

/**
 * No model: a server with Ollama's API (docs.ollama.com/api) over real HTTP, whose answers to `/api/chat` come from a script,
 * always as a stream. It says what it is in its version.
 */
export class ScriptedOllama extends ScriptedServer {
  readonly models: ScriptedOllamaModel[];
  readonly loaded = new Set<string>();
  script: Script;

  constructor(models: (string | ScriptedOllamaModel)[], script: Script = () => [{ do: 'text', text: 'ok' }]) {
    super();
    this.models = models.map((model) => (typeof model === 'string' ? { name: model } : model));
    this.script = script;
  }

  protected override async answer({ method, path, body }: Asked, reply: Reply): Promise<void> {
    const route = `${method} ${path}`;
    if (route === 'GET /api/version') return reply.json(200, { version: '0.0.0-scripted' });
    if (route === 'GET /api/tags') return reply.json(200, { models: this.models.map(tag) });
    if (route === 'GET /api/ps') {
      const loaded = this.models.filter(({ name }) => this.loaded.has(name));
      return reply.json(200, { models: loaded.map((model) => ({ ...tag(model), size_vram: 0 })) });
    }
    if (!['POST /api/show', 'POST /api/chat', 'POST /api/generate'].includes(route)) {
      return reply.text(404, '404 page not found');
    }
    const asked = body as ScriptedBody;
    const model = this.models.find(({ name }) => name === asked.model || name === `${asked.model}:latest`);
    if (model === undefined) return reply.json(404, { error: `model '${asked.model}' not found` });
    if (path === '/api/show') return reply.json(200, show(model));
    if (path === '/api/generate') return this.#load(model, asked, reply);
    await this.#chat(model, asked, reply);
  }

  /** An empty prompt loads a model, and with `keep_alive` 0 unloads it. */
  #load(model: ScriptedOllamaModel, asked: ScriptedBody, reply: Reply): void {
    if (asked.prompt) {
      reply.json(500, { error: 'this server is scripted for /api/chat' });
      return;
    }
    const unload = asked.keep_alive === 0;
    this.loaded[unload ? 'delete' : 'add'](model.name);
    const done_reason = unload ? 'unload' : 'load';
    reply.json(200, { model: asked.model, created_at: CREATED, response: '', done: true, done_reason });
  }

  async #chat(model: ScriptedOllamaModel, asked: ScriptedBody, reply: Reply): Promise<void> {
    const tools = Array.isArray(asked.tools) && asked.tools.length > 0;
    if (tools && model.capabilities && !model.capabilities.includes('tools')) {
      const error = `registry.ollama.ai/library/${model.name} does not support tools`;
      return reply.json(400, { error });
    }
    if (asked.stream === false) return reply.json(500, { error: 'this server is scripted for streams only' });
    this.loaded.add(model.name);
    const steps = whole(this.script(asked, this.to('/api/chat').length - 1));
    for (const step of steps) {
      if (reply.response.destroyed) return;
      if (step.do === 'refuse') return reply.json(step.status, { error: step.message });
      if (step.do === 'hang') return;
      if (step.do === 'stop') return void reply.response.end();
      if (step.do === 'disconnect') return reply.cut();
      if (step.do === 'wait') await Promise.race([step.until, reply.closed]);
      else if (step.do === 'slow') await new Promise((resolve) => setTimeout(resolve, step.ms));
      else {
        if (!reply.response.headersSent)
          reply.response.writeHead(200, { 'content-type': 'application/x-ndjson' });
        reply.response.write(line(step, asked, steps));
        if (step.do === 'fail') break;
      }
    }
    reply.response.end();
  }
}

const CREATED = '2025-01-02T03:04:05.678901234Z';

function line(step: Step, asked: ScriptedBody, steps: readonly Step[]): string | Uint8Array {
  const part = (message: object, rest: object = { done: false }): string =>
    `${JSON.stringify({ model: asked.model, created_at: CREATED, message: { role: 'assistant', content: '', ...message }, ...rest })}\n`;
  switch (step.do) {
    case 'text':
      return part({ content: step.text });
    case 'thinking':
      return part({ thinking: step.text });
    case 'call': {
      const called = { name: step.name, arguments: step.arguments };
      return part({ tool_calls: [{ ...(step.id ? { id: step.id } : {}), function: called }] });
    }
    case 'malformed-call':
      return part({ content: `{"name": "${step.name}", "arguments": ${step.text}` });
    case 'fail':
      return `${JSON.stringify({ error: step.message })}\n`;
    case 'nonsense':
      return step.bytes;
    case 'end':
      return part(
        {},
        {
          done: true,
          done_reason: step.reason ?? 'stop',
          ...counted({ ...countsOf(asked, steps), ...step.counts }),
        },
      );
    default:
      throw new Error(`no part of an answer: ${step.do}`);
  }
}

const counted = ({ promptTokens, generatedTokens, promptMs, generateMs }: Counts): object => ({
  total_duration: (promptMs + generateMs) * MS,
  load_duration: 0,
  ...(promptTokens === null
    ? {}
    : { prompt_eval_count: promptTokens, prompt_eval_duration: Math.round(promptMs * MS) }),
  ...(generatedTokens === null
    ? {}
    : { eval_count: generatedTokens, eval_duration: Math.round(generateMs * MS) }),
});

const details = ({ parameters = 7_615_616_512 }: ScriptedOllamaModel): object => ({
  parent_model: '',
  format: 'gguf',
  family: 'qwen2',
  families: ['qwen2'],
  parameter_size: `${(parameters / 1e9).toFixed(1)}B`,
  quantization_level: 'Q4_K_M',
});

const tag = (model: ScriptedOllamaModel): object => ({
  name: model.name,
  model: model.name,
  modified_at: CREATED,
  size: model.bytes ?? 4_683_087_332,
  digest: Buffer.from(model.name).toString('hex').padEnd(64, '0').slice(0, 64),
  details: details(model),
});

const show = (model: ScriptedOllamaModel): object => ({
  modelfile: '',
  template: '{{ .Prompt }}',
  details: details(model),
  model_info: {
    'general.architecture': 'qwen2',
    'general.parameter_count': model.parameters ?? 7_615_616_512,
    'qwen2.context_length': model.contextTokens ?? 32_768,
  },
  ...(model.capabilities === null ? {} : { capabilities: model.capabilities ?? ['completion', 'tools'] }),
  modified_at: CREATED,
});
