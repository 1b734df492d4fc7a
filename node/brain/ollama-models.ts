import type { Ollama } from 'ollama';
import { z } from 'zod';
import { listedModelName } from '../../protocol/infer.ts';
import { asBrainError } from './fault.ts';
import { abortReason } from './request.ts';
import { BrainError, type Model } from './types.ts';

/** Models of one server that are looked at, and asked about at a time. */
const MODELS_MAX = 512;
const ASKED_AT_ONCE = 4;

const Details = z.object({ parameter_size: z.string().nullish() }).nullish();
const Tags = z.object({
  models: z.array(
    z.object({
      name: z.string(),
      size: z.number().nonnegative().nullish(),
      digest: z.string().nullish(),
      details: Details,
    }),
  ),
});
const Show = z.object({
  capabilities: z.array(z.string()).nullish(),
  details: Details,
  model_info: z.record(z.string(), z.unknown()).nullish(),
});

/** The models that can hold a conversation, with their facts. `known`: facts by digest, kept between calls. */
export async function listOllamaModels(
  client: Ollama,
  server: string,
  known: Map<string, Model>,
  signal: AbortSignal,
): Promise<Model[]> {
  try {
    const tags = Tags.safeParse(await client.list());
    if (!tags.success)
      throw new BrainError('broken', `${server} lists its models in a form that is not Ollama's`);
    const named = tags.data.models.filter(({ name }) => listedModelName.safeParse(name).success);
    const listed = named.slice(0, MODELS_MAX);
    const waiting = listed.entries();
    const found: (Model | null)[] = [];
    await Promise.all(
      Array.from({ length: ASKED_AT_ONCE }, async () => {
        for (const [index, tag] of waiting) {
          const before = tag.digest ? known.get(`${tag.name} ${tag.digest}`) : undefined;
          found[index] = before ?? (await describe(client, tag, signal));
        }
      }),
    );
    known.clear();
    for (const [index, tag] of listed.entries()) {
      const model = found[index];
      // What could not be asked is asked again.
      if (tag.digest && model && model.tools !== null) known.set(`${tag.name} ${tag.digest}`, model);
    }
    return found.filter((model) => model !== null);
  } catch (error) {
    if (signal.aborted) throw abortReason(signal, server);
    throw asBrainError(error, server, false);
  }
}

type Tag = z.infer<typeof Tags>['models'][number];

/** Null: it holds no conversation, such as one for embeddings. */
async function describe(client: Ollama, tag: Tag, signal: AbortSignal): Promise<Model | null> {
  const shown = await client.show({ model: tag.name }).catch((error) => {
    if (signal.aborted || (error instanceof BrainError && error.fault === 'unreachable')) throw error;
    // Removed in between, or damaged: it is listed, and nothing is known of it.
    return null;
  });
  const parsed = Show.safeParse(shown);
  const { capabilities = null, model_info: info = null, details = null } = parsed.success ? parsed.data : {};
  if (capabilities && !capabilities.includes('completion')) return null;
  const exact = info?.['general.parameter_count'];
  return {
    name: tag.name,
    contextTokens: contextLength(info),
    tools: capabilities ? capabilities.includes('tools') : null,
    bytes: tag.size ?? null,
    parameters:
      typeof exact === 'number' && exact > 0
        ? exact
        : parameterCount(details?.parameter_size ?? tag.details?.parameter_size),
  };
}

function contextLength(info: Record<string, unknown> | null): number | null {
  const family = info?.['general.architecture'];
  const length = typeof family === 'string' ? info?.[`${family}.context_length`] : undefined;
  return typeof length === 'number' && length > 0 ? length : null;
}

/** `7.6B` as a number; null: not of that form. */
export function parameterCount(text: string | null | undefined): number | null {
  const parts = /^(\d+(?:\.\d+)?)\s*([KMBT])$/i.exec(text ?? '');
  if (parts === null) return null;
  const unit = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[parts[2]!.toUpperCase()]!;
  return Math.round(Number(parts[1]) * unit);
}
