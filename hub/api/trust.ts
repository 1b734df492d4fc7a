import type { Hono } from 'hono';
import { type ApiEnv, inTime, jsonBody, parsed } from '../../node/api/http.ts';
import { nodeParam, samplingBody, trustBody } from './bodies.ts';
import type { HubPort } from './port.ts';
import { need } from './rights.ts';

/** Who is believed: what the log says of each member, and what a person says to it. */
export function addTrustRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  app.get('/v1/trust', async (context) => {
    need(port, context, 'view');
    return context.json(
      (await inTime(port.request({ op: 'trust.show' }, context.get('by'), null))) as object,
    );
  });
  app.post('/v1/trust/sampling', async (context) => {
    need(port, context, 'operate');
    const { on } = await jsonBody(context, samplingBody);
    const operation = { op: 'trust.sampling', on } as const;
    const answer = await inTime(port.request(operation, context.get('by'), context.get('correlation')));
    return context.json(answer as object);
  });
  app.post('/v1/nodes/:node/trust', async (context) => {
    need(port, context, 'operate');
    const { vouch } = await jsonBody(context, trustBody);
    const member = parsed(nodeParam, context.req.param('node'));
    const operation = { op: 'member.trust', member, vouched: vouch } as const;
    const answer = await inTime(port.request(operation, context.get('by'), context.get('correlation')));
    return context.json(answer as object);
  });
}
