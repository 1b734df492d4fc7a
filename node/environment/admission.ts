import { isIP } from 'node:net';
import { isPublicAddress, plainAddress } from './addresses.ts';
import { hostMatches, plainHost } from './host-pattern.ts';

/** One thing the owner allows. */
export interface AllowedHost {
  /** An exact name, `*.suffix`, or an address; see `isHostPattern`. */
  host: string;
  /** @default [443, 80] */
  ports?: readonly number[];
  /** Addresses that are not public and may be connected to all the same, when the name resolves to them. @default none */
  addresses?: readonly string[];
}

export const defaultPorts: readonly number[] = [443, 80];

/** What a refused request is told, and the log. */
export interface Refusal {
  reason: 'host' | 'port' | 'address' | 'name' | 'unreachable' | 'busy' | 'bytes' | 'request';
  /** One sentence that says what the owner may allow. */
  sentence: string;
}

/** The rules that admit a host and port; a refusal where there are none. Decides before any name is resolved. */
export function admitHost(
  allowed: readonly AllowedHost[],
  host: string,
  port: number,
): AllowedHost[] | Refusal {
  const name = plainHost(host);
  const plain = isIP(name) === 0 ? name : plainAddress(name);
  const named =
    plain === null
      ? []
      : allowed.filter((rule) =>
          hostMatches(isIP(rule.host) === 0 ? rule.host : (plainAddress(rule.host) ?? ''), plain),
        );
  if (named.length === 0) {
    return {
      reason: 'host',
      sentence: `${shown(host)} is not among the hosts that may be reached; the owner of this machine may allow it by its name.`,
    };
  }
  const fitting = named.filter((rule) => (rule.ports ?? defaultPorts).includes(port));
  if (fitting.length > 0) return fitting;
  const ports = [...new Set(named.flatMap((rule) => rule.ports ?? defaultPorts))].join(', ');
  return {
    reason: 'port',
    sentence: `${shown(host)} may be reached at port ${ports}, not at ${port}; the owner of this machine may allow that port.`,
  };
}

/**
 * Those addresses of a host that may be connected to, in the order resolved: public ones, and those the owner named with the
 * host. A refusal where none is left. What is connected to must be one of these, not the name resolved again.
 */
export function admitAddresses(
  rules: readonly AllowedHost[],
  host: string,
  resolved: readonly string[],
): string[] | Refusal {
  const named = new Set(rules.flatMap((rule) => rule.addresses ?? []).map(plainAddress));
  const fitting = resolved.filter((address) => {
    const plain = plainAddress(address);
    return plain !== null && (isPublicAddress(plain) || named.has(plain));
  });
  if (fitting.length > 0) return fitting;
  const foreign = resolved[0];
  if (foreign === undefined)
    return { reason: 'name', sentence: `${shown(host)} could not be resolved to an address.` };
  return {
    reason: 'address',
    sentence: `${shown(host)} resolves to ${shown(foreign)}, which is no public address; the owner of this machine may allow it by naming both the host and the address.`,
  };
}

/** Foreign text in a sentence for people. */
export const shown = (text: string): string =>
  JSON.stringify(text.replace(/[^\x20-\x7e]/g, '?').slice(0, 253)).slice(1, -1);

/** `host:port` of a CONNECT; null for anything else. */
export function splitAuthority(text: string): { host: string; port: number } | null {
  const match = /^(\[[0-9a-fA-F:.]{2,45}\]|[^\s:@/?#[\]\\]{1,253}):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port < 1 || port > 65_535) return null;
  return { host: plainHost(match[1]), port };
}

/** The answer's first line: what the owner may allow is forbidden, what another time may bring is not. */
export function statusOf({ reason }: Refusal): string {
  if (reason === 'request') return '400 Bad Request';
  if (reason === 'busy') return '503 Service Unavailable';
  if (reason === 'name' || reason === 'unreachable') return '502 Bad Gateway';
  return '403 Forbidden';
}
