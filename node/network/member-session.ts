import type { Connection } from '@libp2p/interface';
import { SuperfleetError } from '../../protocol/errors.ts';
import { messageSchema } from '../../protocol/frame.ts';
import {
  type FounderMessage,
  founderMessage,
  type MemberMessage,
  SESSION_PROTOCOL,
} from '../../protocol/session.ts';
import { type Session, type SessionHandlers, type SessionLimits, SessionTransport } from './session.ts';
import { beginsWith } from './version.ts';

const schema = messageSchema(founderMessage);

/** A stream is opened within this, or the founder counts as not reachable. */
const OPEN_MS = 10_000;

/**
 * The member's side: opens the session stream on a connection to the founder. `attach` gets the session and answers
 * with what handles it; the core's hello goes out by `send`, at once or later. The first thing that comes back is a
 * welcome or a goodbye, or the session ends. `SF_UNREACHABLE` when no stream can be had.
 */
export async function openSession(
  connection: Connection,
  attach: (session: Session<MemberMessage>) => SessionHandlers<FounderMessage>,
  limits: Partial<SessionLimits> = {},
  signal?: AbortSignal,
): Promise<Session<MemberMessage>> {
  const timeout = AbortSignal.timeout(OPEN_MS);
  const stream = await connection
    .newStream(SESSION_PROTOCOL, {
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    })
    .catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw openFault(cause);
    });
  const session = new SessionTransport<FounderMessage, MemberMessage>(stream, connection, schema, limits);
  session.run(attach(session), beginsWith('welcome'));
  return session;
}

function openFault(cause: unknown): SuperfleetError {
  if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
    return new SuperfleetError('SF_UNREACHABLE', 'the founder does not serve sessions of this version', {
      expected: SESSION_PROTOCOL,
      got: 'protocol not supported',
      hint: 'is the founder still starting, or of another release?',
      cause,
    });
  }
  return new SuperfleetError('SF_UNREACHABLE', 'the founder opened no session', {
    expected: `a stream within ${OPEN_MS} ms`,
    got: cause instanceof Error ? cause.message : String(cause),
    cause,
  });
}
