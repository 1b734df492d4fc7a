import type { Connection } from '@libp2p/interface';
import { API_PROTOCOL } from '../../protocol/api.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { FrameChannel } from './channel.ts';
import { Exchange, exchangeLimits } from './exchange.ts';

/** The stream is opened within this. */
const OPEN_MS = 10_000;

/**
 * Hands a `/v1` request on to the founder at the other end of this connection, and answers as it does, bodies streamed.
 * `SF_UNREACHABLE` where the connection broke, `SF_VERSION` for a founder that takes no requests of members.
 */
export async function forwardRequest(connection: Connection, request: Request): Promise<Response> {
  const stream = await connection
    .newStream(API_PROTOCOL, { signal: AbortSignal.timeout(OPEN_MS) })
    .catch((cause: unknown) => {
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
        throw new SuperfleetError('SF_VERSION', 'the founder takes no requests of its members', {
          expected: API_PROTOCOL,
          got: 'protocol not supported',
          hint: 'submit where the founder runs, or bring it to this release',
          cause,
        });
      }
      throw new SuperfleetError('SF_UNREACHABLE', 'the founder opened no stream', { cause });
    });
  const exchange = new Exchange(new FrameChannel(stream, exchangeLimits), 'answer');
  const gone = (): void => void exchange.break(new Error('the asker went away'));
  request.signal.addEventListener('abort', gone, { once: true });
  const { pathname, search } = new URL(request.url);
  const head = {
    type: 'request',
    method: request.method as 'GET',
    path: pathname + search,
    contentType: request.headers.get('content-type'),
    correlation: request.headers.get('superfleet-correlation'),
  } as const;
  // An answer may come before the body has been taken, and then says more than the body that broke off.
  exchange
    .send(head, request.body as ReadableStream<Uint8Array> | null)
    .catch((thrown: unknown) => exchange.break(thrown));
  const answer = await exchange.head();
  if (answer.type !== 'answer')
    throw new SuperfleetError('SF_FRAME', 'the founder asked instead of answering');
  const headers = answer.contentType === null ? {} : { 'content-type': answer.contentType };
  return new Response(exchange.body(), { status: answer.status, headers });
}
