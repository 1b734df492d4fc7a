import { EXIT } from '../../protocol/errors.ts';
import type { EndpointObject, EndpointWish, ModelObject, Page } from '../api/objects.ts';
import { readerOf } from './models.ts';
import { cell, fields } from './render.ts';
import { type Session, show } from './session.ts';

/** `mesh-node endpoint [on|off]`; null: only says how it is. */
export async function runEndpoint(wish: EndpointWish | null, session: Session): Promise<number> {
  const client = session.client();
  const endpoint =
    wish === null
      ? await client.get<EndpointObject>('/v1/node/endpoint')
      : await client.post<EndpointObject>('/v1/node/endpoint', wish);
  const { items } =
    endpoint.url === null ? { items: [] } : await client.get<Page<ModelObject>>('/v1/node/models/all');
  const models = items.map(({ name, node, own, server }) => ({ name, node, own, server }));
  show(session, { ...endpoint, models }, () => endpointText(endpoint, items, session.typed));
  return EXIT.ok;
}

function endpointText(
  { on, url, token, fault }: EndpointObject,
  models: ModelObject[],
  typed: string,
): string {
  if (!on) return `off; ${typed} endpoint on`;
  if (url === null) return `on, and does not answer: ${cell(fault)}; ${typed} endpoint on --port N`;
  const readers = Map.groupBy(models, readerOf);
  const told = [...readers].map(([reader, of]): [string, string] => [
    'models',
    `${of.map(({ name }) => name).join(' ')} (prompts are read by ${reader})`,
  ]);
  const none: [string, string][] = [['models', 'none now']];
  return fields([
    ['Ollama', `OLLAMA_HOST=${url}`],
    ['OpenAI', `OPENAI_BASE_URL=${url}/v1`],
    [
      'token',
      token === null ? `none: whoever is on this machine may ask; ${typed} endpoint on --token` : token,
    ],
    ...(told.length === 0 ? none : told),
  ]);
}
