import { setTimeout as delay } from 'node:timers/promises';
import type { Context, Hono } from 'hono';
import { type ApiEnv, inTime, jsonBody } from '../../node/api/http.ts';
import type { PausedObject, StatusObject, UnreachedObject } from '../../node/api/objects.ts';
import type { Operation } from '../core/types.ts';
import { capacityBody, pauseBody, policyDefaultBody } from './bodies.ts';
import type { HubPort } from './port.ts';
import { need } from './rights.ts';

/** Members have so long to say that they stopped before the answer names them (promise 15), and are asked for so often. */
const STOPPED_MS = 1_000;
const LOOK_MS = 25;

/** Pause, resume, how many attempts the mesh may run, and when its machines work at most. */
export function addSuperviseRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  const request = (context: Context<ApiEnv>, operation: Operation): Promise<unknown> =>
    inTime(port.request(operation, context.get('by'), context.get('correlation')));

  app.post('/v1/mesh/pause', async (context) => {
    need(port, context, 'operate');
    // Without a body, as before there was anything to say.
    const said = context.req.header('content-type') !== undefined;
    const { drain } = said ? await jsonBody(context, pauseBody) : { drain: false };
    await request(context, { op: 'mesh.pause', drain });
    const look = async (): Promise<UnreachedObject[]> =>
      ((await request(context, { op: 'pause.unreached' })) as { items: UnreachedObject[] }).items;
    const until = performance.now() + STOPPED_MS;
    let unreached = await look();
    while (unreached.length > 0 && performance.now() < until) {
      await delay(LOOK_MS);
      unreached = await look();
    }
    const status = (await request(context, { op: 'status' })) as StatusObject;
    return context.json({ ...status, unreached } satisfies PausedObject);
  });
  app.post('/v1/mesh/resume', async (context) => {
    need(port, context, 'operate');
    await request(context, { op: 'mesh.resume' });
    return context.json((await request(context, { op: 'status' })) as StatusObject);
  });
  app.get('/v1/mesh/capacity', async (context) => {
    need(port, context, 'view');
    return context.json((await request(context, { op: 'capacity' })) as object);
  });
  app.post('/v1/mesh/capacity', async (context) => {
    need(port, context, 'operate');
    const { ring, elastic } = await jsonBody(context, capacityBody);
    const asked = { ...(ring === undefined ? {} : { ring }), ...(elastic === undefined ? {} : { elastic }) };
    return context.json((await request(context, { op: 'mesh.capacity', ...asked })) as object);
  });
  app.get('/v1/mesh/policy', async (context) => {
    need(port, context, 'view');
    return context.json((await request(context, { op: 'policy' })) as object);
  });
  app.post('/v1/mesh/policy', async (context) => {
    need(port, context, 'operate');
    const { policy } = await jsonBody(context, policyDefaultBody);
    return context.json((await request(context, { op: 'mesh.policy', policy })) as object);
  });
}
