import type { Context, Hono } from 'hono';
import { type ApiEnv, bodyOf, fileResponse, inTime, jsonBody, parsed } from '../../node/api/http.ts';
import { type Followers, streamBytes, streamLines } from '../../node/api/stream.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { batchRequestBytesMax, blobBytesMax } from '../../protocol/limits.ts';
import type { RepositoryBundle } from '../../protocol/task.ts';
import type { Operation } from '../core/types.ts';
import {
  answerBody,
  appliedBody,
  blobParam,
  continueBody,
  dryRunBody,
  followQuery,
  knownBody,
  listQuery,
  submitBody,
  submitQuery,
  taskParam,
  wholeBatchBody,
} from './bodies.ts';
import type { HubPort } from './port.ts';
import { need } from './rights.ts';

/** Tasks, what goes into them and what came out. */
export function addTaskRoutes(app: Hono<ApiEnv>, port: HubPort, followers: Followers): void {
  const task = (context: Context<ApiEnv>): string => parsed(taskParam, context.req.param('task'));
  /** Refuses what the core would not show this asker: somebody else's work. */
  const visible = async (context: Context<ApiEnv>): Promise<string> => {
    need(port, context, 'view');
    const id = task(context);
    if (!port.allowed(context.get('by'), 'read')) await request(context, { op: 'task.get', task: id });
    return id;
  };
  const request = async (context: Context<ApiEnv>, operation: Operation): Promise<object> =>
    (await inTime(port.request(operation, context.get('by'), context.get('correlation')))) as object;

  const requireUploaded = async (bundle: RepositoryBundle | null): Promise<void> => {
    if (bundle === null || (await port.blobs.has(bundle.bundle))) return;
    throw new SuperfleetError('SF_NOT_FOUND', 'the bundle of the repository has not been uploaded', {
      expected: 'POST /v1/blobs before the task',
      got: bundle.bundle,
    });
  };

  app.post('/v1/tasks', async (context) => {
    need(port, context, 'submit');
    const { bundle, ...asked } = await jsonBody(context, submitBody);
    const { unmet } = parsed(submitQuery, context.req.query());
    await requireUploaded(bundle);
    const correlation = context.get('correlation');
    const operation = { op: 'task.submit' as const, ...asked, bundle, correlation, unmet };
    return context.json(await request(context, operation), 201);
  });
  app.post('/v1/batches', async (context) => {
    need(port, context, 'submit');
    const { items } = await jsonBody(context, wholeBatchBody, batchRequestBytesMax);
    const { unmet } = parsed(submitQuery, context.req.query());
    const bundles = new Map(items.map(({ bundle }) => [bundle?.bundle, bundle]));
    for (const bundle of bundles.values()) await requireUploaded(bundle);
    const correlation = context.get('correlation');
    const all = unmet === undefined ? items : items.map((item) => ({ ...item, unmet }));
    return context.json(await request(context, { op: 'task.submitMany', items: all, correlation }), 201);
  });
  app.post('/v1/tasks/dry-run', async (context) => {
    need(port, context, 'submit');
    return context.json(
      await request(context, { op: 'task.dryRun', ...(await jsonBody(context, dryRunBody)) }),
    );
  });
  app.get('/v1/tasks', async (context) => {
    need(port, context, 'view');
    const { state, correlation, cursor, limit } = parsed(listQuery, context.req.query());
    const answer = await request(context, { op: 'task.list', states: state, correlation, cursor, limit });
    return context.json(Array.isArray(answer) ? { items: answer, next: null } : answer);
  });
  app.get('/v1/tasks/:task', async (context) => {
    need(port, context, 'view');
    return context.json(await request(context, { op: 'task.get', task: task(context) }));
  });
  app.get('/v1/tasks/:task/why', async (context) => {
    need(port, context, 'view');
    return context.json(await request(context, { op: 'task.why', task: task(context) }));
  });
  app.post('/v1/tasks/:task/stop', async (context) => {
    need(port, context, 'submit');
    return context.json(await request(context, { op: 'task.stop', task: task(context) }));
  });
  app.post('/v1/tasks/:task/rerun', async (context) => {
    need(port, context, 'submit');
    return context.json(await request(context, { op: 'task.rerun', task: task(context) }), 201);
  });
  app.post('/v1/tasks/:task/answer', async (context) => {
    need(port, context, 'submit');
    const { text } = await jsonBody(context, answerBody);
    return context.json(await request(context, { op: 'task.answer', task: task(context), text }));
  });
  app.post('/v1/tasks/:task/continue', async (context) => {
    need(port, context, 'submit');
    const { text } = await jsonBody(context, continueBody);
    return context.json(await request(context, { op: 'task.continue', task: task(context), text }), 201);
  });
  app.post('/v1/tasks/:task/applied', async (context) => {
    need(port, context, 'submit');
    const { commit } = await jsonBody(context, appliedBody);
    return context.json(await request(context, { op: 'task.applied', task: task(context), commit }));
  });
  app.get('/v1/tasks/:task/history', async (context) => {
    const id = await visible(context);
    return context.json({ items: await inTime(port.history(id)), next: null });
  });
  app.get('/v1/tasks/:task/watch', async (context) => {
    const id = await visible(context);
    return streamLines(context, followers, (signal) => port.watch(id, signal));
  });
  app.get('/v1/tasks/:task/log', async (context) => {
    const id = await visible(context);
    const follow = parsed(followQuery, context.req.query()).follow === '1';
    return streamBytes(context, followers, (signal) => port.logs(id, { follow, signal }));
  });
  app.get('/v1/tasks/:task/receipt', async (context) => {
    const id = await visible(context);
    return fileResponse(await inTime(port.receiptFile(id)));
  });
  app.get('/v1/tasks/:task/proof', async (context) => {
    const id = await visible(context);
    return fileResponse(await inTime(port.ledger.prove({ task: id })));
  });

  app.post('/v1/repositories/known', async (context) => {
    need(port, context, 'submit');
    const { commits } = await jsonBody(context, knownBody);
    const answer = await request(context, { op: 'repository.known', commits });
    return context.json(Array.isArray(answer) ? { commits: answer } : answer);
  });
  app.post('/v1/blobs', async (context) => {
    need(port, context, 'submit');
    return context.json(await port.blobs.put(bounded(bodyOf(context))), 201);
  });
  app.get('/v1/blobs/:blob', async (context) => {
    need(port, context, 'view');
    const blob = parsed(blobParam, context.req.param('blob'));
    const by = context.get('by');
    // As if it were not there: whether it is somebody else's is nobody's business either.
    const hidden = by.kind === 'peer' && !port.allowed(by, 'read') && !port.ownsResult(by.peer, blob);
    if (hidden || !(await port.blobs.has(blob))) {
      throw new SuperfleetError('SF_NOT_FOUND', 'this founder has no such blob', { got: blob });
    }
    return streamBytes(context, followers, () => port.blobs.read(blob));
  });
}

async function* bounded(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    if (bytes > blobBytesMax) {
      throw new SuperfleetError('SF_USAGE', 'the blob is too large', {
        expected: `at most ${blobBytesMax} bytes`,
        got: `more than ${blobBytesMax} bytes`,
      });
    }
    yield chunk;
  }
}
