import { z } from 'zod';
import { listedModelName } from '../../protocol/infer.ts';
import { askJson, type ServerOptions } from './request.ts';
import { BrainError, type Model } from './types.ts';

const MODELS_MAX = 512;

const Positive = z.number().positive().nullish().catch(null);
const List = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      /** vLLM. */
      max_model_len: Positive,
      /** llama.cpp. `n_ctx_train` is what the model could, not what the server holds. */
      meta: z.object({ n_params: Positive, size: Positive, n_ctx: Positive }).nullish().catch(null),
    }),
  ),
});
/** llama.cpp, of the one model it has loaded. */
const Props = z.object({
  default_generation_settings: z.object({ n_ctx: Positive }).nullish().catch(null),
  chat_template_caps: z
    .object({ supports_tools: z.boolean().nullish().catch(null) })
    .nullish()
    .catch(null),
});
/** LM Studio's own list. */
const LmStudio = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      type: z.string().nullish(),
      max_context_length: Positive,
      loaded_context_length: Positive,
      capabilities: z.array(z.string()).nullish().catch(null),
    }),
  ),
});

/** The models of a server, with what llama.cpp, vLLM or LM Studio tells beyond OpenAI's list. */
export async function listOpenAIModels(server: ServerOptions, signal: AbortSignal): Promise<Model[]> {
  const get = (path: string): Promise<unknown> =>
    askJson(server, { method: 'GET', url: `${server.url}${path}` }, signal);
  /** A path that only some servers have: without it nothing more is known. */
  const more = async (path: string): Promise<unknown> =>
    get(path).catch((error) => {
      if (signal.aborted) throw error;
      return null;
    });

  const parsed = List.safeParse(await get('/v1/models'));
  if (!parsed.success) {
    throw new BrainError('broken', `${server.url} lists its models in a form that is not OpenAI's`);
  }
  const named = parsed.data.data.filter(({ id }) => listedModelName.safeParse(id).success);
  const listed = named.slice(0, MODELS_MAX);
  const models: Model[] = listed.map(({ id, max_model_len, meta }) => ({
    name: id,
    contextTokens: max_model_len ?? meta?.n_ctx ?? null,
    tools: null,
    bytes: meta?.size ?? null,
    parameters: meta?.n_params ?? null,
  }));
  // A cloud has none of these paths, and is not asked for them.
  if (server.place === 'cloud') return models;
  if (listed.some(({ meta }) => meta)) {
    const props = Props.safeParse(await more('/props'));
    const [only] = models;
    if (props.success && only !== undefined && models.length === 1) {
      only.contextTokens = props.data.default_generation_settings?.n_ctx ?? only.contextTokens;
      only.tools = props.data.chat_template_caps?.supports_tools ?? null;
    }
    return models;
  }
  if (listed.some(({ max_model_len }) => max_model_len)) return models;
  const studio = LmStudio.safeParse(await more('/api/v0/models'));
  if (!studio.success) return models;
  const facts = new Map(studio.data.data.map((model) => [model.id, model]));
  return models.flatMap((model) => {
    const told = facts.get(model.name);
    if (told === undefined) return [model];
    if (told.type === 'embeddings') return [];
    const tools = told.capabilities ? told.capabilities.includes('tool_use') : null;
    return [
      { ...model, tools, contextTokens: told.loaded_context_length ?? told.max_context_length ?? null },
    ];
  });
}
