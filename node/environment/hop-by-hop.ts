import type { IncomingHttpHeaders } from 'node:http';

/** For one connection to another (RFC 9110, section 7.6.1), or a secret between client and proxy. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/** The headers that a proxy passes on: those of this connection alone are left out. */
export function passedOn(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const named = (headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase());
  return Object.fromEntries(
    Object.entries(headers).filter(
      (header): header is [string, string | string[]] =>
        header[1] !== undefined && !HOP_BY_HOP.includes(header[0]) && !named.includes(header[0]),
    ),
  );
}
