import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { SuperfleetError } from '../../protocol/errors.ts';
import { defaultPort } from '../config.ts';

/** Where a founder is said to be, as a person typed it. */
export interface FounderAddress {
  /** An IP address or a name. */
  host: string;
  port: number;
  /** The peer that must answer; null: whoever does. */
  peer: string | null;
}

const NAME = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?$/;
/** Addresses of one name that are tried. */
const ADDRESSES_MAX = 8;

/** `host`, `host:port`, an IPv6 address with or without brackets, or a TCP multiaddr; null for anything else. Pure. */
export function parseFounderAddress(text: string): FounderAddress | null {
  const multiaddr = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/([^/]+))?$/.exec(text);
  if (multiaddr !== null) {
    const [, kind = '', host = '', port, peer = null] = multiaddr;
    const family = isIP(host);
    if (kind.startsWith('ip') && `ip${family}` !== kind) return null;
    return family === 0 && !NAME.test(host) ? null : whole(host, Number(port), peer);
  }
  if (isIP(text) !== 0) return whole(text, defaultPort, null);
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^/:[\]\s]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (bracketed !== undefined && isIP(bracketed) !== 6) return null;
  // What looks like an IPv4 address and is none is a slip, not a name.
  if (plain !== undefined && (!NAME.test(plain) || (/^[\d.]+$/.test(plain) && isIP(plain) === 0)))
    return null;
  const host = bracketed ?? plain;
  return host === undefined ? null : whole(host, Number(port ?? defaultPort), null);
}

function whole(host: string, port: number, peer: string | null): FounderAddress | null {
  // A link-local address with a zone cannot be said to libp2p's dialler.
  return port < 1 || port > 65_535 || host.includes('%') ? null : { host, port, peer };
}

/** The multiaddr of an IP address. Pure. */
export const multiaddrOf = (ip: string, { port, peer }: Omit<FounderAddress, 'host'>): string =>
  `/ip${isIP(ip)}/${ip}/tcp/${port}${peer === null ? '' : `/p2p/${peer}`}`;

/**
 * Multiaddrs of a founder's address; a name is asked of this machine's own resolver. `SF_USAGE` for what is no address,
 * `SF_UNREACHABLE` for a name that nobody knows.
 */
export async function founderAddresses(text: string): Promise<string[]> {
  const address = parseFounderAddress(text);
  if (address === null) throw noAddress(text);
  if (isIP(address.host) !== 0) return [multiaddrOf(address.host, address)];
  try {
    const found = await lookup(address.host, { all: true });
    return found.slice(0, ADDRESSES_MAX).map((one) => multiaddrOf(one.address, address));
  } catch (cause) {
    throw new SuperfleetError('SF_UNREACHABLE', `nobody here knows the name ${address.host}`, {
      expected: 'a name that this machine can resolve',
      got: (cause as NodeJS.ErrnoException).code ?? String(cause),
      hint: 'name the founder by its IP address: --founder 192.168.1.10',
      cause,
    });
  }
}

export const noAddress = (text: string): SuperfleetError =>
  new SuperfleetError('SF_USAGE', 'this is no address of a founder', {
    expected: 'such as 192.168.1.5, box.local:4701, [fd00::5]:4701 or /ip4/192.168.1.5/tcp/4701',
    got: text,
  });
