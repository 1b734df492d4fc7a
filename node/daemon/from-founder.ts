import { z } from 'zod';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { blobId, count } from '../../protocol/ids.ts';
import { blobBytesMax } from '../../protocol/limits.ts';
import type { FromFounder } from '../environment/environments.ts';
import { forwardRequest } from '../network/api-client.ts';
import { fetchBlobs } from '../network/blob-client.ts';
import type { Host } from '../network/host.ts';

const answer = z.object({
  environment: z.object({ blob: blobId, bytes: count.min(1).max(blobBytesMax) }).nullable(),
});
const answerBytesMax = 4 * 1024;
const asksMax = 3;

/**
 * Asks the founder for what its machine prepared, and fetches it by the protocol of blobs. A founder of before this, and one that does not
 * answer, has none.
 */
export function environmentsFromFounder(parts: {
  host: Host;
  founder(): string;
  addresses(): readonly string[];
}): FromFounder {
  const { host, founder, addresses } = parts;
  return async ({ task, digest }, store, signal) => {
    const peer = founder();
    if (peer === host.peer) return null;
    for (let asked = 1; ; asked += 1) {
      const environment = await ask(peer, { task, digest }, signal);
      if (environment === null) return null;
      try {
        await fetchBlobs(host, peer, [environment], store, signal, { addresses: addresses() });
        return environment.blob;
      } catch (error) {
        // A founder that started anew meanwhile has forgotten whom it gave what.
        if (asSuperfleetError(error).code !== 'SF_REFUSED' || asked === asksMax) throw error;
      }
    }
  };

  async function ask(peer: string, wanted: { task: string; digest: string }, signal: AbortSignal) {
    const request = new Request('http://localhost/v1/environments', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(wanted),
      signal,
    });
    const response = await forwardRequest(await host.dial(peer, addresses(), signal), request);
    if (response.status === 404) return null;
    const text = await small(response);
    if (!response.ok)
      throw new SuperfleetError('SF_UNREACHABLE', `the founder gave no environment: ${text.slice(0, 300)}`);
    return answer.parse(JSON.parse(text)).environment;
  }
}

async function small(response: Response): Promise<string> {
  const text: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.byteLength;
    if (bytes > answerBytesMax) throw new SuperfleetError('SF_FRAME', 'the founder answered with too much');
    text.push(Buffer.from(piece));
  }
  return Buffer.concat(text).toString('utf8');
}
