import { Hono } from 'hono';
import { z } from 'zod';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { knownPolicy } from '../../protocol/policy-schema.ts';
import { type ApiEnv, errorResponse, guard, inTime, jsonBody, parsed } from './http.ts';
import type { MemberPort, OwnerPort } from './port.ts';
import { createReadOnlyApp } from './read-only.ts';

/** How long a stop of all attempts, or the founder's word on a leave, may take. */
const actMs = 5 * 60_000;
/** The longest pause with an end; longer ones have none. */
const pauseMsMax = 366 * 86_400_000;

const modelsBody = z.strictObject({ url: z.string().max(512) });
const endpointBody = z.strictObject({
  on: z.boolean(),
  port: z.int().min(0).max(65_535).optional(),
  token: z.boolean().optional(),
});
const policyBody = z.strictObject({ policy: knownPolicy.nullable() });
const pauseBody = z.strictObject({ ms: z.int().min(1).max(pauseMsMax).nullable() });

/** An app with the guard, the error answers and `/v1/process`; `stop` begins after its answer was sent. */
export function createBaseApp(stop: () => void): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>();
  app.onError((thrown, context) => errorResponse(context, thrown));
  app.notFound((context) =>
    errorResponse(
      context,
      new SuperfleetError('SF_NOT_FOUND', 'there is no such route', {
        got: `${context.req.method} ${context.req.path}`,
      }),
    ),
  );
  app.use(guard);
  app.get('/v1/process', (context) => context.json({ pid: process.pid }));
  app.post('/v1/process/stop', (context) => {
    localOnly(context.get('by').kind);
    setImmediate(stop);
    return context.json({ pid: process.pid }, 202);
  });
  return app;
}

/** Refuses a request that was forwarded for a peer. */
export function localOnly(kind: string): void {
  if (kind !== 'local') {
    throw new SuperfleetError('SF_REFUSED', 'this is answered on the own socket of the machine only');
  }
}

/** The owner's verbs: what this machine does, whoever the founder is. */
export function addMemberRoutes(app: Hono<ApiEnv>, port: OwnerPort): void {
  app.use('/v1/node/*', async (context, next) => {
    localOnly(context.get('by').kind);
    await next();
  });
  app.get('/v1/node', async (context) => context.json(await inTime(port.status())));
  app.post('/v1/node/pause', async (context) => {
    const { ms } = await jsonBody(context, pauseBody);
    await inTime(port.pause(ms), actMs);
    return context.json(await inTime(port.status()));
  });
  app.post('/v1/node/resume', async (context) => {
    await inTime(port.resume());
    return context.json(await inTime(port.status()));
  });
  app.get('/v1/node/policy', async (context) => context.json(await inTime(port.policy())));
  app.post('/v1/node/policy', async (context) => {
    const { policy } = await jsonBody(context, policyBody);
    return context.json(await inTime(port.setPolicy(policy)));
  });
  app.post('/v1/node/policy/test', async (context) => {
    const { policy } = await jsonBody(context, policyBody);
    return context.json(await inTime(port.policy(policy)));
  });
  app.get('/v1/node/models', async (context) =>
    context.json({ items: await inTime(port.models()), next: null }),
  );
  app.post('/v1/node/models', async (context) => {
    const { url } = await jsonBody(context, modelsBody);
    return context.json(await inTime(port.addModels(url)), 201);
  });
  app.delete('/v1/node/models', async (context) => {
    const { url } = parsed(modelsBody, context.req.query());
    await inTime(port.removeModels(url));
    return context.json({ url, removed: true });
  });
  app.get('/v1/node/models/all', async (context) =>
    context.json({ items: await inTime(port.allModels()), next: null }),
  );
  app.get('/v1/node/endpoint', (context) => context.json(port.endpoint()));
  app.post('/v1/node/endpoint', async (context) =>
    context.json(await inTime(port.setEndpoint(await jsonBody(context, endpointBody)))),
  );
  app.post('/v1/node/leave', async (context) => {
    await inTime(port.leave(), actMs);
    return context.json({ left: true });
  });
}

/**
 * A member's own `/v1`: its owner's verbs here, everything else handed on to the founder. Where that cannot be reached, a
 * replica answers what only reads from its copy.
 */
export function createMemberApp(port: MemberPort): Hono<ApiEnv> {
  const app = createBaseApp(() => port.stop());
  addMemberRoutes(app, port);
  app.all('/v1/*', async (context) => {
    try {
      return await port.forward(context.req.raw);
    } catch (thrown) {
      const unanswered = asSuperfleetError(thrown);
      const copy = context.req.method === 'GET' && AWAY.has(unanswered.code) ? port.copy() : null;
      if (copy === null) throw thrown;
      return createReadOnlyApp(copy).fetch(context.req.raw, { unanswered });
    }
  });
  return app;
}

/** What it is called when the founder does not answer. */
const AWAY: ReadonlySet<string> = new Set(['SF_UNREACHABLE', 'SF_TIMEOUT']);
