import { isIP } from 'node:net';

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?';
const PATTERN = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`);
const hostCharactersMax = 253;

/**
 * A host that may be reached: a name in lower case (`registry.example.org`), every name under one (`*.example.org`, which is
 * not `example.org` itself), or an IP address.
 */
export function isHostPattern(text: string): boolean {
  if (isIP(text) !== 0) return true;
  return text.length <= hostCharactersMax && PATTERN.test(text) && !/^[\d.]+$/.test(text);
}

/** A host as it is compared: lower case, without the dot of the root and without the brackets of an IPv6 address. */
export function plainHost(host: string): string {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
  return bare.toLowerCase().replace(/\.$/, '');
}

/** Whether a pattern admits a host; `host` is plain. */
export function hostMatches(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === host;
  return isIP(host) === 0 && host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
}
