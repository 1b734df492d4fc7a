import { EXIT } from '../../protocol/errors.ts';
import type { ModelObject, ModelServerObject, Page } from '../api/objects.ts';
import type { NodeCommand } from './command.ts';
import { cell, table } from './render.ts';
import { type Session, show } from './session.ts';

type ModelsCommand = Extract<NodeCommand, { verb: `models ${string}` }>;

/** `mesh-node models …`: the owner's word to the node that runs. */
export async function runModels(command: ModelsCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'models all':
      show(session, await client.get<Page<ModelObject>>('/v1/node/models/all'), ({ items }) =>
        modelsText(items),
      );
      return EXIT.ok;
    case 'models list':
      show(session, await client.get<Page<ModelServerObject>>('/v1/node/models'), ({ items }) =>
        serversText(items),
      );
      return EXIT.ok;
    case 'models add': {
      const server = await client.post<ModelServerObject>('/v1/node/models', { url: command.url });
      show(session, server, ({ url, models }) => `lends ${cell(url)}: ${cell(models.join(' '))}`);
      if (server.fault !== null) {
        session.voice.note(
          `it offers nothing now (${cell(server.fault)}); it is kept, and asked every minute`,
        );
      }
      return EXIT.ok;
    }
    case 'models remove': {
      const path = `/v1/node/models?url=${encodeURIComponent(command.url)}`;
      show(
        session,
        await client.json({ method: 'DELETE', path }),
        () => `lends ${cell(command.url)} no longer`,
      );
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

function modelsText(models: ModelObject[]): string {
  if (models.length === 0)
    return 'no model server answers on this machine, and no member lends its models: mesh-node models add URL';
  const rows = models.map((model) => [
    cell(model.name),
    readerOf(model),
    perSecond(model.promptTokensPerSecond),
    perSecond(model.generateTokensPerSecond),
    cell(model.contextTokens),
    model.tools === null ? '-' : model.tools ? 'yes' : 'no',
  ]);
  return table(['MODEL', 'PROMPT READ BY', 'READS/S', 'WRITES/S', 'CONTEXT', 'TOOLS'], rows);
}

/** Whose machine sees the prompt, for people. */
export const readerOf = ({ own, node, server }: ModelObject): string => {
  if (!own) return cell(node.name ?? node.id);
  return server === null ? 'this machine' : `this machine and ${cell(server)}`;
};

/** Tokens a second as measured. */
const perSecond = (speed: number | null): string =>
  speed === null ? '-' : speed < 10 ? speed.toFixed(1) : String(Math.round(speed));

function serversText(servers: ModelServerObject[]): string {
  if (servers.length === 0)
    return 'no model server answers on this machine, and none is lent: mesh-node models add URL';
  const rows = servers.map(({ url, from, speaks, models, fault }) => [
    cell(url),
    from,
    cell(speaks),
    fault === null ? cell(models.join(' ')) : `does not answer: ${cell(fault)}`,
  ]);
  return table(['URL', 'FROM', 'SPEAKS', 'MODELS'], rows);
}
