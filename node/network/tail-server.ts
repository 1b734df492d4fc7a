import { SuperfleetError } from '../../protocol/errors.ts';
import { parseFrame } from '../../protocol/frame.ts';
import {
  TAIL_PROTOCOL,
  type TailRequest,
  tailCreditBytes,
  tailData,
  tailDataBytesMax,
  tailRequestSchema,
  tailWords,
} from '../../protocol/tail.ts';
import { FrameChannel } from './channel.ts';
import type { Registry } from './registry.ts';
import type { TailSource, TailSources } from './tail-source.ts';

/** A request, and one frame that the founder does not take, within this. */
const REQUEST_MS = 10_000;
const WRITE_MS = 30_000;
/** A request or a grant is small. */
const requestBytesMax = 256;

/** Serves the live output of this member's attempts to the founder, and to nobody else. */
export async function serveTails(registry: Registry, sources: Pick<TailSources, 'get'>): Promise<void> {
  await registry.handleProtocol({
    protocol: TAIL_PROTOCOL,
    access: 'founder',
    maxInboundStreams: 64,
    handler: async (stream) => {
      const channel = new FrameChannel(stream, { frameBytesMax: requestBytesMax, unreadBytesMax: 16 * 1024 });
      const request = parse(await channel.expect(AbortSignal.timeout(REQUEST_MS)));
      if (request.type !== 'tail') throw new SuperfleetError('SF_FRAME', 'expected a request for a tail');
      const source = sources.get(request.task, request.attempt);
      if (source === undefined) await channel.write(tailWords({ type: 'end', reason: 'unknown', bytes: 0 }));
      else await pour(channel, source, request.from);
    },
  });
}

function parse(frame: Uint8Array): TailRequest {
  const request = parseFrame(frame, tailRequestSchema, 1).messages[0];
  if (request === undefined) throw new SuperfleetError('SF_FRAME', 'expected a request or a grant');
  return request;
}

/** Sends output within the credit until it ends, or the founder goes. */
async function pour(channel: FrameChannel, source: TailSource, from: number): Promise<void> {
  let offset = from;
  let credit = tailCreditBytes;
  let gone: unknown = null;
  let wake = (): void => {};
  const unsubscribe = source.onChange(() => wake());

  const grants = async (): Promise<void> => {
    for (;;) {
      const frame = await channel.read();
      if (frame === null) throw new SuperfleetError('SF_UNREACHABLE', 'the founder looks no longer');
      const request = parse(frame);
      if (request.type !== 'grant' || credit + request.bytes > tailCreditBytes) {
        throw new SuperfleetError('SF_FRAME', 'expected a grant of at most what was sent');
      }
      credit += request.bytes;
      wake();
    }
  };
  grants().catch((thrown: unknown) => {
    gone = thrown;
    wake();
  });

  try {
    while (gone === null) {
      // Nothing is looked at without credit: what is read here is sent, and what must be dropped is dropped late.
      const read = credit === 0 ? null : source.read(offset, Math.min(credit, tailDataBytesMax));
      if (read !== null && read.dropped > 0) {
        await channel.write(
          tailWords({ type: 'dropped', bytes: read.dropped }),
          AbortSignal.timeout(WRITE_MS),
        );
        offset += read.dropped;
      }
      if (read?.state === 'bytes') {
        offset += read.bytes.byteLength;
        credit -= read.bytes.byteLength;
        await channel.write(tailData(read.bytes), AbortSignal.timeout(WRITE_MS));
      } else if (read?.state === 'ended') {
        const words = tailWords({ type: 'end', reason: read.reason, bytes: source.total });
        return await channel.write(words, AbortSignal.timeout(WRITE_MS));
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    throw gone;
  } finally {
    unsubscribe();
  }
}
