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

type Sessions = Set<SessionTransport<MemberMessage, FounderMessage>>;

export interface AcceptOptions {
  registry: Registry;
  /** Our mesh: a hello of another is refused. */
  mesh: string;
  /** A member said hello. The older session of the same peer, if any, has been closed before, but for `keepOlder`. */
  onSession(session: Session<FounderMessage>, hello: MemberHello): SessionHandlers<MemberMessage>;
  /** Which of two sessions of one peer stays is for `onSession` to say. @default false: the newest */
  keepOlder?: boolean;
  limits?: Partial<SessionLimits>;
}

/** The founder's side of all sessions. */
export interface FounderSessions {
  /** The newest of this peer. */
  get(peer: string): Session<FounderMessage> | undefined;
  readonly size: number;
  /** Ends every session of this peer with these words. */
  close(peer: string, code: string, message: string): void;
  /** Ends all sessions and resolves when their last bytes are out. */
  stop(): Promise<void>;
}

/** Registers the session protocol, for members only. One who was revoked, or never let in, is told so in words. */
export async function acceptSessions(options: AcceptOptions): Promise<FounderSessions> {
  const sessions: Sessions = new Set();
  const of = (peer: string) => [...sessions].filter((session) => session.peer === peer);
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
    get: (peer) => of(peer).at(-1),
    get size() {
      return sessions.size;
    },
    close: (peer, code, message) => {
      for (const session of of(peer)) session.close(code, message);
    },
    stop: async () => {
      const open = [...sessions];
      for (const session of open) session.close('SF_UNREACHABLE', 'the founder is stopping');
      await Promise.all(open.map(({ closed }) => closed));
    },
  };
}

/** Waits for the hello, then passes everything on to what `onSession` answered. */
function greeter(
  session: SessionTransport<MemberMessage, FounderMessage>,
  sessions: Sessions,
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
      for (const older of options.keepOlder === true ? [] : sessions) {
        if (older.peer !== session.peer) continue;
        older.close('SF_CONFLICT', 'replaced by a newer session of the same member');
      }
      sessions.add(session);
      handlers = options.onSession(session, message);
    },
    onClosed: (end) => {
      sessions.delete(session);
      handlers?.onClosed(end);
    },
  };
}
