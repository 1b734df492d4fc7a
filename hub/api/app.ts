import type { Context, Hono } from 'hono';
import { addMemberRoutes, createBaseApp, localOnly } from '../../node/api/app.ts';
import { type ApiEnv, boundedBody, inTime, jsonBody, parsed } from '../../node/api/http.ts';
import type { NodeObject, StatusObject } from '../../node/api/objects.ts';
import type { OwnerPort } from '../../node/api/port.ts';
import { Followers } from '../../node/api/stream.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { secretName } from '../../protocol/ids.ts';
import { secretBytesMax } from '../../protocol/limits.ts';
import type { HubPlugin } from '../plugins/plugin.ts';
import {
  approveBody,
  codeParam,
  drainBody,
  durabilityBody,
  inviteBody,
  nodeParam,
  renameBody,
  revokeBody,
} from './bodies.ts';
import { addLedgerRoutes } from './ledger.ts';
import type { HubPort } from './port.ts';
import { itemsOf, need } from './rights.ts';
import { addSuperviseRoutes } from './supervise.ts';
import { addTaskRoutes } from './tasks.ts';
import { addTrustRoutes } from './trust.ts';

export interface HubAppOptions {
  port: HubPort;
  /** The founder's own member, for the owner's verbs on the founder's machine. */
  member?: OwnerPort;
  /** Bound on open followers. @default followersMax */
  followersMax?: number;
  /** Plugins that are switched on, and the names of those that are not. @default none */
  plugins?: { on: readonly HubPlugin[]; off: readonly string[] };
}

/**
 * The founder's `/v1`. On its socket the asker is the claimed OS user; a driver that hands on a member's request passes
 * `{ by: { kind: 'peer', peer } }` as the second argument of `app.fetch`.
 */
export function createHubApp({ port, member, followersMax, plugins }: HubAppOptions): Hono<ApiEnv> {
  const app = createBaseApp(() => port.stop());
  if (member !== undefined) addMemberRoutes(app, member);
  const followers = new Followers(followersMax);
  addMeshRoutes(app, port);
  addSuperviseRoutes(app, port);
  addNodeRoutes(app, port);
  addTrustRoutes(app, port);
  addTaskRoutes(app, port, followers);
  addLedgerRoutes(app, port, followers);
  addSecretRoutes(app, port);
  for (const plugin of plugins?.on ?? []) plugin.routes?.(app, port);
  for (const name of plugins?.off ?? []) refuseRoutes(app, name);
  return app;
}

/** Who asks for what the operator has switched off is told so. */
function refuseRoutes(app: Hono<ApiEnv>, name: string): void {
  const refuse = (): never => {
    throw new SuperfleetError('SF_CONFLICT', `the plugin ${name} is switched off here`, {
      expected: `a founder with the plugin ${name}`,
      got: `"plugins": {"${name}": false} in its config.json`,
      hint: 'take that out of config.json and start the founder anew',
    });
  };
  app.all(`/v1/${name}`, refuse);
  app.all(`/v1/${name}/*`, refuse);
}

function addMeshRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  const request = (context: Context<ApiEnv>, op: 'status'): Promise<unknown> =>
    inTime(port.request({ op }, context.get('by'), context.get('correlation')));

  app.get('/v1/status', async (context) => {
    need(port, context, 'view');
    const [mesh, pending] = await Promise.all([request(context, 'status'), inTime(port.pendingJoins())]);
    return context.json(withPending(mesh as StatusObject, pending));
  });
  app.get('/v1/mesh/durability', async (context) => {
    need(port, context, 'view');
    return context.json(
      (await inTime(port.request({ op: 'durability' }, context.get('by'), null))) as object,
    );
  });
  app.post('/v1/mesh/durability', async (context) => {
    need(port, context, 'operate');
    const { replicas } = await jsonBody(context, durabilityBody);
    const operation = { op: 'mesh.durability', replicas } as const;
    const answer = await inTime(port.request(operation, context.get('by'), context.get('correlation')));
    return context.json(answer as object);
  });
  app.post('/v1/invites', async (context) => {
    need(port, context, 'operate');
    const options = await jsonBody(context, inviteBody);
    return context.json(await inTime(port.invite(options, context.get('by'))), 201);
  });
}

/** Who waits to be let in comes first: the code is compared with the other screen by whoever looks here. */
function withPending(mesh: StatusObject, pending: NodeObject[]): StatusObject {
  const waiting = pending.map(({ name, code }) => ({
    what: `${name} asks to be let in, if its screen shows ${code} too`,
    command: `mesh-hub node approve ${code}`,
  }));
  const machines = pending.map(({ id, name, state, code, slots }) => ({
    id,
    name,
    state,
    code,
    slots,
    work: null,
  }));
  return {
    ...mesh,
    machines: [...machines, ...mesh.machines],
    needs: [...waiting, ...mesh.needs],
    warnings: [...waiting.map(({ what, command }) => `${what}: ${command}`), ...mesh.warnings],
  };
}

function addNodeRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  const member = (context: Context<ApiEnv>): string => parsed(nodeParam, context.req.param('node'));
  const node = (context: Context<ApiEnv>): Promise<unknown> =>
    inTime(port.request({ op: 'node.get', member: member(context) }, context.get('by'), null));

  app.get('/v1/nodes', async (context) => {
    need(port, context, 'view');
    const [members, pending] = await Promise.all([
      inTime(port.request({ op: 'node.list' }, context.get('by'), null)),
      inTime(port.pendingJoins()),
    ]);
    return context.json({ items: [...itemsOf(members), ...pending], next: null });
  });
  app.get('/v1/nodes/:node', async (context) => {
    need(port, context, 'view');
    return context.json((await node(context)) as object);
  });
  for (const [act, eligible] of [
    ['drain', false],
    ['eligible', true],
  ] as const) {
    app.post(`/v1/nodes/:node/${act}`, async (context) => {
      need(port, context, 'operate');
      const said = !eligible && context.req.header('content-type') !== undefined;
      const { deadlineMs = null } = said ? await jsonBody(context, drainBody) : {};
      const deadline = deadlineMs === null ? {} : { deadlineMs };
      const operation = { op: 'member.eligible', member: member(context), eligible, ...deadline } as const;
      await inTime(port.request(operation, context.get('by'), context.get('correlation')));
      return context.json((await node(context)) as object);
    });
  }
  app.post('/v1/nodes/:node/rename', async (context) => {
    need(port, context, 'operate');
    const { name } = await jsonBody(context, renameBody);
    const operation = { op: 'member.rename', member: member(context), name } as const;
    const answer = await inTime(port.request(operation, context.get('by'), context.get('correlation')));
    return context.json(answer as object);
  });
  app.post('/v1/nodes/:node/revoke', async (context) => {
    need(port, context, 'operate');
    const { reason } = await jsonBody(context, revokeBody);
    const operation = { op: 'member.revoke', member: member(context), reason } as const;
    const answer = await inTime(port.request(operation, context.get('by'), context.get('correlation')));
    return context.json((answer ?? { revoked: member(context) }) as object);
  });
  app.post('/v1/joins/:code/approve', async (context) => {
    need(port, context, 'operate');
    const code = parsed(codeParam, context.req.param('code'));
    const options = await jsonBody(context, approveBody);
    return context.json(await inTime(port.approve({ code, ...options }, context.get('by'))));
  });
  app.post('/v1/joins/:code/reject', async (context) => {
    need(port, context, 'operate');
    const code = parsed(codeParam, context.req.param('code'));
    await inTime(port.reject(code, context.get('by')));
    return context.json({ code, rejected: true });
  });
}

/** Secrets are set where the founder is, by the person at its socket: a value never comes from a peer. */
function addSecretRoutes(app: Hono<ApiEnv>, port: HubPort): void {
  const name = (context: Context<ApiEnv>): string => parsed(secretName, context.req.param('name'));

  app.get('/v1/secrets', async (context) => {
    need(port, context, 'operate');
    const found = await inTime(port.request({ op: 'secret.list' }, context.get('by'), null));
    return context.json({ items: itemsOf(found), next: null });
  });
  app.put('/v1/secrets/:name', async (context) => {
    localOnly(context.get('by').kind);
    const value = await boundedBody(context, secretBytesMax);
    if (value.byteLength === 0) {
      throw new SuperfleetError('SF_USAGE', 'the secret is empty', {
        expected: `1–${secretBytesMax} bytes on stdin`,
        got: 'nothing',
        hint: 'mesh-hub secret set NAME < FILE, or type it on a terminal, unseen',
      });
    }
    await inTime(port.secretSet(name(context), value, context.get('by')));
    return context.json({ name: name(context) });
  });
  app.delete('/v1/secrets/:name', async (context) => {
    localOnly(context.get('by').kind);
    await inTime(port.secretRemove(name(context), context.get('by')));
    return context.json({ name: name(context), removed: true });
  });
}
