import { lookup } from 'node:dns/promises';
import { connect, type Socket } from 'node:net';

/** All addresses of a host; empty or rejected where it has none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** How this machine resolves names. */
export const systemResolve: Resolve = async (host) =>
  (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address);

/** Addresses of one host that are tried. */
const addressesMax = 4;

/**
 * A connection to the first of these addresses that answers; null where none does. Addresses only: a name here would be resolved
 * a second time, and might then mean another machine (DNS rebinding).
 */
export async function dial(
  addresses: readonly string[],
  port: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket | null> {
  for (const address of addresses.slice(0, addressesMax)) {
    if (signal.aborted) return null;
    const socket = await dialOne(address, port, timeoutMs, signal);
    if (socket !== null) return socket;
  }
  return null;
}

function dialOne(
  address: string,
  port: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket | null> {
  return new Promise((resolve) => {
    // No look-up: an address is given as it is.
    const socket = connect({
      host: address,
      port,
      allowHalfOpen: true,
      autoSelectFamily: false,
      noDelay: true,
    });
    const settle = (connected: boolean): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      socket.off('connect', won).off('error', lost);
      // An error that comes later is the user's to see by `close`.
      socket.on('error', () => {});
      if (!connected) socket.destroy();
      resolve(connected ? socket : null);
    };
    const won = (): void => settle(true);
    const lost = (): void => settle(false);
    const abort = (): void => settle(false);
    const timer = setTimeout(lost, timeoutMs);
    socket.once('connect', won).once('error', lost);
    signal.addEventListener('abort', abort, { once: true });
  });
}

/** What `work` gives, or null when it fails or takes longer. */
export async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, null);
  });
  try {
    return await Promise.race([work.catch(() => null), late]);
  } finally {
    clearTimeout(timer);
  }
}
