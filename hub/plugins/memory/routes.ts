import type { Context, Hono } from 'hono';
import { type ApiEnv, inTime, jsonBody, parsed } from '../../../node/api/http.ts';
import { memoryId } from '../../../protocol/memory.ts';
import type { HubPort } from '../../api/port.ts';
import { need } from '../../api/rights.ts';
import { listQuery, noteBody, searchQuery } from './bodies.ts';

/** `/v1/memory`: what is remembered, for whoever sent it or may read everybody's work. */
export function addMemoryRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  const ask = async (
    context: Context<ApiEnv>,
    op: 'plugin.read' | 'plugin.write',
    verb: string,
    body: unknown,
  ): Promise<object> => {
    const operation = { op, plugin: 'memory', verb, body } as const;
    return (await inTime(port.request(operation, context.get('by'), context.get('correlation')))) as object;
  };
  const record = (context: Context<ApiEnv>): { record: string } => ({
    record: parsed(memoryId, context.req.param('record')),
  });

  app.get('/v1/memory', async (context) => {
    need(port, context, 'view');
    return context.json(await ask(context, 'plugin.read', 'list', parsed(listQuery, context.req.query())));
  });
  app.get('/v1/memory/search', async (context) => {
    need(port, context, 'view');
    const { q: words, ...rest } = parsed(searchQuery, context.req.query());
    return context.json(await ask(context, 'plugin.read', 'search', { words, ...rest }));
  });
  app.get('/v1/memory/:record', async (context) => {
    need(port, context, 'view');
    return context.json(await ask(context, 'plugin.read', 'show', record(context)));
  });
  app.post('/v1/memory', async (context) => {
    need(port, context, 'submit');
    const note = await jsonBody(context, noteBody);
    return context.json(await ask(context, 'plugin.write', 'note', note), 201);
  });
  app.post('/v1/memory/:record/forget', async (context) => {
    need(port, context, 'submit');
    return context.json(await ask(context, 'plugin.write', 'forget', record(context)));
  });
}
