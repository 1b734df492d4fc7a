import { countsOf, type Script, type ScriptedBody, type Step, whole } from './script.ts';
import { type Asked, type Reply, ScriptedServer } from './scripted-server.ts';

/** Whose extensions it has beside OpenAI's own API. */
export type Dialect = 'openai' | 'llama.cpp' | 'vllm' | 'lmstudio';

/**
 * No model: a server with OpenAI's chat completions over real HTTP (server-sent events), whose answers come from a script.
 * Each model holds 16384 tokens.
 */
export class ScriptedOpenAI extends ScriptedServer {
  readonly models: string[];
  readonly dialect: Dialect;
  /** Without it a request is answered 401. @default none is asked for */
  key: string | null = null;
  script: Script;

  constructor(
    models: string[],
    script: Script = () => [{ do: 'text', text: 'ok' }],
    dialect: Dialect = 'openai',
  ) {
    super();
    this.models = models;
    this.dialect = dialect;
    this.script = script;
  }

  protected override async answer({ method, path, body, headers }: Asked, reply: Reply): Promise<void> {
    if (this.key !== null && headers.authorization !== `Bearer ${this.key}`) {
      return reply.json(
        401,
        failure('Incorrect API key provided', 'invalid_request_error', 'invalid_api_key'),
      );
    }
    const route = `${method} ${path}`;
    if (route === 'GET /v1/models') return reply.json(200, this.#list());
    if (route === 'GET /props' && this.dialect === 'llama.cpp') {
      return reply.json(200, {
        default_generation_settings: { n_ctx: CONTEXT },
        chat_template_caps: { supports_tools: true },
      });
    }
    if (route === 'GET /api/v0/models' && this.dialect === 'lmstudio') {
      return reply.json(200, { object: 'list', data: this.models.map(studioModel) });
    }
    if (route !== 'POST /v1/chat/completions') {
      return reply.json(404, failure('Not Found', 'not_found_error'));
    }
    const asked = body as ScriptedBody;
    if (!this.models.includes(asked.model)) {
      const message = `The model \`${asked.model}\` does not exist.`;
      return reply.json(404, failure(message, 'NotFoundError', 'model_not_found'));
    }
    await this.#chat(asked, reply);
  }

  #list(): object {
    const extra = (id: string): object => {
      if (this.dialect === 'vllm') return { max_model_len: CONTEXT, root: id };
      if (this.dialect === 'llama.cpp')
        return { meta: { n_ctx_train: 131_072, n_params: 8_030_261_312, size: 4_912_898_304 } };
      return {};
    };
    const model = (id: string): object => ({ id, object: 'model', created: CREATED, owned_by: 'scripted' });
    return { object: 'list', data: this.models.map((id) => ({ ...model(id), ...extra(id) })) };
  }

  async #chat(asked: ScriptedBody, reply: Reply): Promise<void> {
    if (asked.stream !== true) {
      return reply.json(501, failure('this server is scripted for streams only', 'not_supported_error'));
    }
    const steps = whole(this.script(asked, this.to('/v1/chat/completions').length - 1));
    const chunk = chunksFor(asked, steps, this.dialect);
    for (const step of steps) {
      if (reply.response.destroyed) return;
      if (step.do === 'refuse') return reply.json(step.status, failure(step.message, 'error', step.code));
      if (step.do === 'hang') return;
      if (step.do === 'stop') return void reply.response.end();
      if (step.do === 'disconnect') return reply.cut();
      if (step.do === 'wait') await Promise.race([step.until, reply.closed]);
      else if (step.do === 'slow') await new Promise((resolve) => setTimeout(resolve, step.ms));
      else {
        if (!reply.response.headersSent)
          reply.response.writeHead(200, { 'content-type': 'text/event-stream' });
        if (step.do === 'nonsense') reply.response.write(step.bytes);
        else for (const part of chunk(step)) reply.response.write(`data: ${JSON.stringify(part)}\n\n`);
        if (step.do === 'fail') return void reply.response.end();
      }
    }
    reply.response.end('data: [DONE]\n\n');
  }
}

const CONTEXT = 16_384;
const CREATED = 1_735_787_045;

/** The chunks of a step. Calls come in pieces: the id and name, then the arguments in two. */
function chunksFor(asked: ScriptedBody, steps: readonly Step[], dialect: Dialect): (step: Step) => object[] {
  let calls = 0;
  const chunk = (rest: object): object => ({
    id: 'chatcmpl-scripted',
    object: 'chat.completion.chunk',
    created: CREATED,
    model: asked.model,
    ...rest,
  });
  const piece = (delta: object, finish_reason: string | null = null): object =>
    chunk({ choices: [{ index: 0, delta, finish_reason }] });
  const call = (id: string, name: string, text: string): object[] => {
    const index = calls++;
    const half = Math.ceil(text.length / 2);
    const rest = (part: string): object => piece({ tool_calls: [{ index, function: { arguments: part } }] });
    return [
      piece({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] }),
      rest(text.slice(0, half)),
      rest(text.slice(half)),
    ];
  };
  return (step) => {
    switch (step.do) {
      case 'text':
        return [piece({ content: step.text })];
      case 'thinking':
        return [piece({ reasoning_content: step.text })];
      case 'call':
        return call(step.id ?? `call_scripted_${calls}`, step.name, JSON.stringify(step.arguments));
      case 'malformed-call':
        return call(`call_scripted_${calls}`, step.name, step.text);
      case 'fail':
        return [failure(step.message, 'server_error')];
      case 'end': {
        const counts = { ...countsOf(asked, steps), ...step.counts };
        const timings = {
          prompt_n: counts.promptTokens,
          prompt_ms: counts.promptMs,
          predicted_n: counts.generatedTokens,
          predicted_ms: counts.generateMs,
        };
        const usage = { prompt_tokens: counts.promptTokens, completion_tokens: counts.generatedTokens };
        const wanted = (asked.stream_options as { include_usage?: boolean } | undefined)?.include_usage;
        return [
          piece({}, step.reason ?? (calls > 0 ? 'tool_calls' : 'stop')),
          ...(wanted === true
            ? [chunk({ choices: [], usage, ...(dialect === 'llama.cpp' ? { timings } : {}) })]
            : []),
        ];
      }
      default:
        throw new Error(`no part of an answer: ${step.do}`);
    }
  };
}

const failure = (message: string, type: string, code?: string): object => ({
  error: { message, type, param: null, code: code ?? null },
});

const studioModel = (id: string): object => ({
  id,
  object: 'model',
  type: 'llm',
  max_context_length: 131_072,
  loaded_context_length: CONTEXT,
  capabilities: ['tool_use'],
});
