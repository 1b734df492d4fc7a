import { frameOf, messageSchema } from '../../protocol/frame.ts';
import {
  type FounderMessage,
  type MemberHello,
  type MemberMessage,
  memberMessage,
  SESSION_PROTOCOL,
} from '../../protocol/session.ts';
import { FrameChannel } from './channel.ts';
import type { Registry } from './registry.ts';
import { type Session, type SessionHandlers, type SessionLimits, SessionTransport } from './session.ts';
import { beginsWith } from './version.ts';

const schema = messageSchema(memberMessage);

export interface AcceptOptions {
  registry: Registry;
  /** Our mesh: a hello of another is refused. */
  mesh: string;
  /** A member said hello. The older session of the same peer, if any, has been closed before. */
  onSession(session: Session<FounderMessage>, hello: MemberHello): SessionHandlers<MemberMessage>;
  limits?: Partial<SessionLimits>;
}

/** The founder's side of all sessions: one a peer, the newest wins. */
export interface FounderSessions {
  get(peer: string): Session<FounderMessage> | undefined;
  readonly size: number;
  /** Ends the session of this peer, if it has one, with these words. */
  close(peer: string, code: string, message: string): void;
  /** Ends all sessions and resolves when their last bytes are out. */
  stop(): Promise<void>;
}

/** Registers the session protocol, for members only. One who was revoked, or never let in, is told so in words. */
export async function acceptSessions(options: AcceptOptions): Promise<FounderSessions> {
  const sessions = new Map<string, SessionTransport<MemberMessage, FounderMessage>>();
  await options.registry.handleProtocol({
    protocol: SESSION_PROTOCOL,
    access: 'members',
    maxInboundStreams: 4,
    handler: async (stream, connection) => {
      const session = new SessionTransport<MemberMessage, FounderMessage>(
        stream,
        connection,
        schema,
        options.limits,
      );
      session.run(greeter(session, sessions, options), beginsWith('hello'));
      await session.closed;
    },
    refuse: async (stream, { code, message, hint }) => {
      const channel = new FrameChannel(stream);
      const words = hint === null ? message : `${message}: ${hint}`;
      await channel.write(
        frameOf({ type: 'goodbye', code, message: words } as { type: string }),
        AbortSignal.timeout(1_000),
      );
    },
  });
  return {
    get: (peer) => sessions.get(peer),
    get size() {
      return sessions.size;
    },
    close: (peer, code, message) => sessions.get(peer)?.close(code, message),
    stop: async () => {
      const open = [...sessions.values()];
      for (const session of open) session.close('SF_UNREACHABLE', 'the founder is stopping');
      await Promise.all(open.map(({ closed }) => closed));
    },
  };
}

/** Waits for the hello, then passes everything on to what `onSession` answered. */
function greeter(
  session: SessionTransport<MemberMessage, FounderMessage>,
  sessions: Map<string, SessionTransport<MemberMessage, FounderMessage>>,
  options: AcceptOptions,
): SessionHandlers<MemberMessage> {
  let handlers: SessionHandlers<MemberMessage> | null = null;
  return {
    onMessage: (message) => {
      if (handlers !== null && message.type !== 'hello') return handlers.onMessage(message);
      if (handlers !== null || message.type !== 'hello') {
        return session.close('SF_FRAME', `expected ${handlers === null ? 'one' : 'no second'} hello`);
      }
      if (message.mesh !== options.mesh) {
        return session.close('SF_REFUSED', `another mesh: expected ${options.mesh}, got ${message.mesh}`);
      }
      sessions.get(session.peer)?.close('SF_CONFLICT', 'replaced by a newer session of the same member');
      sessions.set(session.peer, session);
      handlers = options.onSession(session, message);
    },
    onClosed: (end) => {
      if (sessions.get(session.peer) === session) sessions.delete(session.peer);
      handlers?.onClosed(end);
    },
  };
}
