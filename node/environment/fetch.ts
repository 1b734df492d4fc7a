import { type IncomingMessage, request } from 'node:http';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { type AllowedHost, admitHost, shown } from './admission.ts';
import { plainHost } from './host-pattern.ts';
import { type ReachOptions, reach } from './reach.ts';

/** A page as it comes. */
export interface Fetched {
  /** Where it was found, after redirects. */
  url: URL;
  status: number;
  /** Content type; null: none was said. */
  type: string | null;
  /** Ending its iteration ends the request. */
  body: AsyncIterable<Uint8Array>;
}

/** One GET; rejects with a sentence for people where it may not be made or nothing answers, and where `signal` is aborted. */
export type Fetcher = (url: URL, signal: AbortSignal) => Promise<Fetched>;

export interface FetcherOptions extends ReachOptions {
  allowed: readonly AllowedHost[];
}

const redirectsMax = 5;
const headerBytesMax = 16 * 1024;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * GETs by the rules of the proxy: hosts, ports and addresses that are allowed and nothing else, each redirect judged as a request of
 * its own. Nothing that tells who asks is sent, and nothing that a server sets is kept.
 */
export function fetcherOf(options: FetcherOptions): Fetcher {
  return async (first, signal) => {
    let url = first;
    for (let redirects = 0; ; redirects += 1) {
      const answer = await get(url, options, signal);
      const to = redirectOf(answer, url);
      if (to === null) {
        const type = answer.headers['content-type'] ?? null;
        return { url, status: answer.statusCode ?? 0, type, body: answer };
      }
      answer.destroy();
      if (redirects === redirectsMax) throw new Error(`it led on more than ${redirectsMax} times.`);
      url = to;
    }
  };
}

/** Null: the answer is the page. */
function redirectOf({ statusCode, headers }: IncomingMessage, at: URL): URL | null {
  if (!REDIRECTS.has(statusCode ?? 0) || headers.location === undefined) return null;
  if (!URL.canParse(headers.location, at.href)) throw new Error('it led on to what is no address.');
  return new URL(headers.location, at.href);
}

async function get(url: URL, options: FetcherOptions, signal: AbortSignal): Promise<IncomingMessage> {
  signal.throwIfAborted();
  const secure = url.protocol === 'https:';
  if (!secure && url.protocol !== 'http:')
    throw new Error(`${shown(url.protocol)} is not asked; expected http: or https:.`);
  if (url.username !== '' || url.password !== '')
    throw new Error('an address with a name or password in it is not asked.');
  const host = plainHost(url.hostname);
  const port = Number(url.port || (secure ? 443 : 80));
  const rules = admitHost(options.allowed, host, port);
  if ('reason' in rules) throw new Error(rules.sentence);
  const socket = await reach(rules, host, port, options, signal);
  if ('reason' in socket) throw new Error(socket.sentence);
  let stream: Duplex = socket;
  if (secure) {
    const name = isIP(host) === 0 ? { servername: host } : {};
    stream = connectTls({ socket, host, ...name, ALPNProtocols: ['http/1.1'] });
  }
  return new Promise((resolve, reject) => {
    const asked = request({
      createConnection: () => stream,
      path: `${url.pathname}${url.search}`,
      headers: {
        host: url.host,
        accept: 'text/*, application/json;q=0.9, */*;q=0.1',
        'accept-encoding': 'identity',
        'user-agent': 'superfleet',
        connection: 'close',
      },
      maxHeaderSize: headerBytesMax,
      signal,
    });
    asked.once('response', (answer) => {
      answer.once('close', () => socket.destroy());
      resolve(answer);
    });
    asked.on('error', (cause) => {
      socket.destroy();
      reject(new Error(`${shown(host)} broke off: ${cause.message}`, { cause }));
    });
    // Nobody asked for it; without this it would end in silence.
    asked.once('upgrade', (_, upgraded) => {
      upgraded.destroy();
      reject(new Error(`${shown(host)} answered with another protocol.`));
    });
    asked.once('close', () => {
      reject(new Error(`${shown(host)} gave no answer.`));
    });
    asked.end();
  });
}
