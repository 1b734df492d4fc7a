import type { Hono } from 'hono';
import { type ApiEnv, fileResponse, inTime, jsonBody, parsed } from '../../node/api/http.ts';
import { type Followers, streamBytes, streamLines } from '../../node/api/stream.ts';
import { handoverBody, proofQuery, tailQuery } from './bodies.ts';
import type { HandoverStep, HubPort } from './port.ts';
import { need } from './rights.ts';

/** The log: checked, followed and taken away. */
export function addLedgerRoutes(app: Hono<ApiEnv>, port: HubPort, followers: Followers): void {
  /** Lines `{"progress": …}`, the last one `{"report": …}`. */
  app.post('/v1/ledger/verify', (context) => {
    need(port, context, 'read');
    return streamLines(context, followers, (signal) => reportLines(port.ledger.verify, signal));
  });
  app.post('/v1/ledger/scrub', (context) => {
    need(port, context, 'operate');
    return streamLines(context, followers, (signal) => reportLines(port.ledger.scrub, signal));
  });
  /** Lines `{"progress": …}`, the last one `{"report": …}`. */
  app.post('/v1/handover', async (context) => {
    need(port, context, 'operate');
    const { node } = await jsonBody(context, handoverBody);
    const pass = (progress: (step: HandoverStep) => void, signal: AbortSignal) =>
      port.handOver(node, progress, signal);
    return streamLines(context, followers, (signal) => reportLines(pass, signal));
  });
  app.get('/v1/ledger/entries', (context) => {
    need(port, context, 'read');
    const { from, follow } = parsed(tailQuery, context.req.query());
    return streamLines(context, followers, (signal) =>
      port.ledger.tail(from, { follow: follow === '1', signal }),
    );
  });
  app.get('/v1/ledger/export', (context) => {
    need(port, context, 'read');
    return streamBytes(context, followers, (signal) => port.ledger.export(signal));
  });
  /** That the log only grew says nothing of what is in it: whoever may see the mesh may have that. */
  app.get('/v1/ledger/proof', async (context) => {
    const query = parsed(proofQuery, context.req.query());
    need(port, context, 'since' in query ? 'view' : 'read');
    return fileResponse(await inTime(port.ledger.prove(query)));
  });
}

/** Only the newest progress is kept between two lines: a slow reader makes no queue. */
async function* reportLines<P, R>(
  pass: (progress: (at: P) => void, signal: AbortSignal) => Promise<R>,
  signal: AbortSignal,
): AsyncIterable<unknown> {
  let latest: P | null = null;
  let wake: () => void = () => {};
  let settled = false;
  const report = pass((at) => {
    latest = at;
    wake();
  }, signal).finally(() => {
    settled = true;
    wake();
  });
  report.catch(() => {});
  while (!settled) {
    const progress = latest;
    latest = null;
    if (progress !== null) yield { progress };
    if (latest === null && !settled) await new Promise<void>((resolve) => (wake = resolve));
  }
  yield { report: await report };
}
