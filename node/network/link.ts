import { asSuperfleetError, type SuperfleetError } from '../../protocol/errors.ts';
import type { FounderMessage, MemberMessage } from '../../protocol/session.ts';
import { privateAddresses } from './announcer.ts';
import type { Host } from './host.ts';
import { openSession } from './member-session.ts';
import type { Session, SessionEnd, SessionHandlers, SessionLimits } from './session.ts';

export type LinkState =
  | { state: 'connecting' }
  | { state: 'online'; session: number }
  /** Lost or refused for now; the next attempt is in `retryMs`. */
  | { state: 'waiting'; code: string; message: string; retryMs: number }
  /** The founder refused this member for good: nothing is tried any more. */
  | { state: 'refused'; code: string; message: string }
  | { state: 'stopped' };

export interface LinkOptions {
  host: Host;
  /** The founder's peer id now, asked at every attempt; whoever answers without its key is not it. */
  founder(): string;
  /** Addresses to try, best first; asked again at every attempt. What mDNS says of the founder is tried besides. */
  addresses(): readonly string[];
  /** Why the founder is not to be dialled now; asked at every attempt. @default nothing bars it */
  barred?(): SuperfleetError | null;
  /** As of `openSession`: called for every new session. */
  attach(session: Session<MemberMessage>): SessionHandlers<FounderMessage>;
  onState?(state: LinkState): void;
  limits?: Partial<SessionLimits>;
  /** First wait after a loss, and the longest; each is drawn from half to one and a half times. @default 250, 10 000 */
  retryMs?: { first: number; max: number };
  /** From 0 to 1. @default Math.random */
  random?(): number;
}

/** A member's permanent link to its founder: dials, opens the session, and does so again after every loss. */
export interface Link {
  readonly state: LinkState;
  /** Ends a wait: an address was learned, the machine woke, a person asked. */
  retryNow(): void;
  /** Ends the session there is, and dials at once: the founder is another one. */
  again(): void;
  stop(): Promise<void>;
}

/** Codes after which trying again cannot help. */
const FINAL = new Set(['SF_REVOKED', 'SF_VERSION']);
const ADDRESSES_MAX = 16;
/** A machine that was just made the founder starts within this: until then it is dialled again without longer waits. */
const TAKING_OVER_MS = 30_000;

export function startLink(options: LinkOptions): Link {
  const { first, max } = options.retryMs ?? { first: 250, max: 10_000 };
  const random = options.random ?? Math.random;
  const stopping = new AbortController();
  let state: LinkState = { state: 'connecting' };
  let announced: string[] = [];
  /** Addresses that came while others were being dialled: there is nothing to wait for. */
  let news = false;
  let wake: (() => void) | null = null;
  let open: Session<MemberMessage> | null = null;
  /** Until then (monotonic ms) a new founder may still be starting. */
  let startsUntil = 0;

  const become = (next: LinkState): void => {
    state = next;
    options.onState?.(next);
  };

  const unsubscribe = options.host.announcer?.onAnnounced(({ peer, addresses }) => {
    if (peer !== options.founder()) return;
    const usable = privateAddresses(addresses);
    if (usable.length === 0 || usable.join() === announced.join()) return;
    announced = usable;
    news = true;
    wake?.();
  });

  const attempt = async (): Promise<{ end: SessionEnd | SuperfleetError; welcomed: boolean }> => {
    let welcomed = false;
    news = false;
    try {
      const barred = options.barred?.() ?? null;
      if (barred !== null) throw barred;
      const addresses = [...new Set([...announced, ...options.addresses()])].slice(0, ADDRESSES_MAX);
      const connection = await options.host.dial(options.founder(), addresses, stopping.signal);
      const session = await openSession(
        connection,
        (opened) => {
          const handlers = options.attach(opened);
          return {
            onMessage: (message) => {
              if (message.type === 'welcome') {
                welcomed = true;
                become({ state: 'online', session: opened.id });
              }
              return handlers.onMessage(message);
            },
            onClosed: handlers.onClosed,
          };
        },
        options.limits,
        stopping.signal,
      ).catch((thrown: unknown) => {
        const error = asSuperfleetError(thrown);
        // The next dial must not be handed this connection again: it may be half dead. One whose other end answers that it
        // serves no sessions is not: a founder that is mended is fetching its log over it.
        if ((error.cause as Error | undefined)?.name !== 'UnsupportedProtocolError') connection.abort(error);
        throw error;
      });
      open = session;
      if (stopping.signal.aborted) session.close('SF_UNREACHABLE', 'this member is stopping');
      const end = await session.closed;
      // The next dial must not find what is half dead: not the network's, and not what fell silent.
      if (end.by === 'network' || (end.by === 'us' && end.code === 'SF_TIMEOUT'))
        connection.abort(new Error(end.message));
      return { end, welcomed };
    } catch (thrown) {
      return { end: asSuperfleetError(thrown), welcomed };
    } finally {
      open = null;
    }
  };

  const wait = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (stopping.signal.aborted) wake();
    });

  const run = async (): Promise<void> => {
    let base = first;
    while (!stopping.signal.aborted) {
      become({ state: 'connecting' });
      const { end, welcomed } = await attempt();
      if (stopping.signal.aborted) break;
      const { code, message } = end;
      if (FINAL.has(code)) return become({ state: 'refused', code, message });
      // Somebody else has this identity and is preferred: do not fight for it.
      const starting = performance.now() < startsUntil;
      base = starting ? first : code === 'SF_CONFLICT' ? max : welcomed ? first : Math.min(max, base * 2);
      const retryMs = Math.min(max, Math.round(base * (0.5 + random())));
      become({ state: 'waiting', code, message, retryMs });
      if (!news) await wait(retryMs);
      wake = null;
    }
  };
  const running = run().finally(() => unsubscribe?.());

  return {
    get state() {
      return state;
    },
    retryNow: () => wake?.(),
    again: () => {
      news = true;
      startsUntil = performance.now() + TAKING_OVER_MS;
      open?.close('SF_UNREACHABLE', 'the mesh has another founder');
      wake?.();
    },
    stop: async () => {
      stopping.abort(new Error('this member is stopping'));
      wake?.();
      open?.close('SF_UNREACHABLE', 'this member is stopping');
      await running;
      if (state.state !== 'refused') become({ state: 'stopped' });
    },
  };
}
