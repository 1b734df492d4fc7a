import { Hono } from 'hono';
import type { TaskArchive } from '../../ledger/log/archive.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { hasArchived } from '../../ledger/state/task-set.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { loggedMesh, loggedNode } from '../views/logged.ts';
import { findMember, shownMembers } from '../views/mesh.ts';
import { taskView } from '../views/task.ts';
import { listTasks, wantedForList } from '../views/task-list.ts';
import { type ApiEnv, errorResponse, inTime, parsed } from './http.ts';
import type { AsOf } from './objects.ts';
import { listQuery, nodeParam, taskParam } from './params.ts';

/** A log that is not the founder's word of now: a replica's copy, or that of a founder that may not go on yet. */
export interface ReadOnlyPort {
  /** Mesh id. */
  mesh: string;
  /** Replayed from the durable log; to be read only. */
  state(): MeshState;
  /** Of what everything said here is. */
  asOf(): AsOf;
  /** Tasks that have left the state, and what the log says of any. */
  archive: Pick<TaskArchive, 'find' | 'select' | 'history'>;
  /** Why what this app does not answer is not answered. */
  refusal(): SuperfleetError;
}

/**
 * `/v1` as far as a log alone can answer it: what reads the mesh, its machines and its tasks, marked `asOf`; everything else
 * is refused. For the person on this machine's own socket: whoever has the folder has the log.
 */
export function createReadOnlyApp(port: ReadOnlyPort): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>();
  app.onError((thrown, context) => errorResponse(context, thrown));
  const marked = <T extends object>(value: T): T & { asOf: AsOf } => ({ ...value, asOf: port.asOf() });

  app.get('/v1/status', (context) => context.json(loggedMesh(port.mesh, port.state(), port.asOf())));
  app.get('/v1/nodes', (context) => {
    const items = shownMembers(port.state().members).map(loggedNode);
    return context.json(marked({ items, next: null }));
  });
  app.get('/v1/nodes/:node', (context) => {
    const name = parsed(nodeParam, context.req.param('node'));
    return context.json(marked(loggedNode(findMember(port.state().members, name))));
  });
  app.get('/v1/tasks', async (context) => {
    const { state: states, correlation, cursor, limit } = parsed(listQuery, context.req.query());
    const query = { states, correlation, cursor, limit, mayRead: () => true };
    const state = port.state();
    const wanted = hasArchived(state.tasks) ? wantedForList(state, query, null) : null;
    const archived = wanted === null ? NOTHING : await inTime(port.archive.select(wanted));
    return context.json(marked(listTasks(port.state(), query, archived)));
  });
  app.get('/v1/tasks/:task', async (context) => {
    const task = await inTime(taskOf(port, parsed(taskParam, context.req.param('task'))));
    return context.json(marked(taskView(port.state(), task)));
  });
  app.get('/v1/tasks/:task/history', async (context) => {
    const { id } = await inTime(taskOf(port, parsed(taskParam, context.req.param('task'))));
    return context.json(marked({ items: await inTime(port.archive.history(id)), next: null }));
  });
  app.all('/v1/*', (context) => {
    throw context.env?.unanswered ?? port.refusal();
  });
  return app;
}

const NOTHING = { tasks: [], looked: [] };

async function taskOf({ state, archive }: ReadOnlyPort, id: string) {
  const { tasks } = state();
  const task = tasks.byId.get(id) ?? (hasArchived(tasks) ? await archive.find(id) : null);
  if (task !== null) return task;
  throw new SuperfleetError('SF_NOT_FOUND', `there is no task ${id} in this copy of the log`, {
    hint: 'it may be newer than the copy: ask again when the founder answers',
  });
}
