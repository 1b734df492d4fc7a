import { API_PROTOCOL, type ApiRequest, apiRequestsMax, apiRequestsPerPeerMax } from '../../protocol/api.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { FrameChannel } from './channel.ts';
import { Exchange, exchangeLimits } from './exchange.ts';
import type { Registry } from './registry.ts';

/** A stream says what it asks within this. */
const HEAD_MS = 10_000;

/** Answers `/v1` requests that members hand on; `answer` gets the peer that the connection proved. */
export async function serveRequests(
  registry: Registry,
  answer: (request: Request, peer: string) => Promise<Response>,
): Promise<void> {
  const open = new Map<string, number>();
  let total = 0;
  await registry.handleProtocol({
    protocol: API_PROTOCOL,
    access: 'members',
    maxInboundStreams: apiRequestsPerPeerMax + 1,
    handler: async (stream, connection) => {
      const peer = connection.remotePeer.toString();
      const ofPeer = open.get(peer) ?? 0;
      const full = ofPeer >= apiRequestsPerPeerMax || total >= apiRequestsMax;
      open.set(peer, ofPeer + 1);
      total += 1;
      const exchange = new Exchange(new FrameChannel(stream, exchangeLimits), 'request');
      try {
        if (full) {
          throw new SuperfleetError('SF_FULL', 'too many requests of members are under way', {
            expected: `at most ${apiRequestsPerPeerMax} of one member, ${apiRequestsMax} of all`,
            hint: 'try again when others have ended',
          });
        }
        const head = await exchange.head(HEAD_MS);
        if (head.type !== 'request') throw new SuperfleetError('SF_FRAME', 'expected a request');
        const response = await answer(requestOf(head, exchange), peer);
        const contentType = response.headers.get('content-type');
        const body = response.body as ReadableStream<Uint8Array> | null;
        await exchange.send({ type: 'answer', status: response.status, contentType }, body);
        await exchange.close();
      } catch (thrown) {
        await exchange.break(thrown);
        throw thrown;
      } finally {
        total -= 1;
        const left = (open.get(peer) ?? 1) - 1;
        if (left > 0) open.set(peer, left);
        else open.delete(peer);
      }
    },
  });
}

function requestOf(head: ApiRequest, exchange: Exchange): Request {
  const headers: Record<string, string> = { host: 'localhost' };
  if (head.contentType !== null) headers['content-type'] = head.contentType;
  if (head.correlation !== null) headers['superfleet-correlation'] = head.correlation;
  const bodiless = head.method === 'GET';
  return new Request(`http://localhost${head.path}`, {
    method: head.method,
    headers,
    signal: exchange.signal,
    ...(bodiless ? {} : { body: exchange.body(), duplex: 'half' }),
  } as RequestInit);
}
