import { connect } from 'node:net';
import { defaultPort } from '../config.ts';
import { check, type DoctorCheck } from './check.ts';

const CONNECT_MS = 3_000;
/** What every libp2p host says first, with its length before it. */
const GREETING = '\x13/multistream/1.0.0\n';

/** Host and port of `host`, `host:port`, `[v6]:port` or a TCP multiaddr; null for anything else. Pure. */
export function founderAddress(text: string): { host: string; port: number } | null {
  const multiaddr = /^\/(?:ip4|ip6|dns4?|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/|$)/.exec(text);
  const bracketed = /^\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?$/.exec(text);
  const plain = /^([^/:[\]\s]+)(?::(\d{1,5}))?$/.exec(text);
  const [, host, digits] = multiaddr ?? bracketed ?? plain ?? [];
  const port = Number(digits ?? defaultPort);
  return host === undefined || port > 65_535 ? null : { host, port };
}

/** Does a machine that speaks as ours do answer where the founder is said to be? Says nothing about whose it is. */
export async function reachFounder(text: string, signal?: AbortSignal): Promise<DoctorCheck> {
  const address = founderAddress(text);
  const fault = address === null ? 'not an address' : await tryConnect(address, signal);
  return check({
    name: 'founder',
    status: fault === null ? 'ok' : 'warn',
    found: fault === null ? `${text} answers` : `${text}: ${fault}`,
    why: 'a member dials its founder; the founder needs one open port',
    fix: 'check the address, that the founder runs, and its firewall',
  });
}

function tryConnect(address: { host: string; port: number }, signal?: AbortSignal): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(address);
    const answer = (fault: string | null): void => {
      socket.destroy();
      resolve(fault);
    };
    socket.setTimeout(CONNECT_MS, () => answer(`no answer within ${CONNECT_MS / 1000} s`));
    let heard = '';
    socket.once('connect', () => socket.write(GREETING));
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1');
      if (heard.startsWith(GREETING)) answer(null);
      else if (heard.length >= GREETING.length) answer('something else answers there');
    });
    socket.once('close', () => answer('the connection is closed without a word'));
    socket.once('error', (error: NodeJS.ErrnoException) => answer(error.code ?? error.message));
    signal?.addEventListener('abort', () => answer('interrupted'), { once: true });
  });
}
