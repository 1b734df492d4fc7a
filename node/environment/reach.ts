import type { Socket } from 'node:net';
import { type AllowedHost, admitAddresses, type Refusal, shown } from './admission.ts';
import { dial, type Resolve, systemResolve, within } from './dial.ts';

export interface ReachOptions {
  /** @default how this machine resolves names */
  resolve?: Resolve | undefined;
  /** For resolving a name, and for each address tried. @default 10 s */
  connectMs?: number | undefined;
}

/**
 * A connection to a host that `admitHost` gave these rules for: resolved here, once, and to one of the very addresses that were looked
 * at. A refusal where there is none that may be connected to, or none answers.
 */
export async function reach(
  rules: readonly AllowedHost[],
  host: string,
  port: number,
  { resolve = systemResolve, connectMs = 10_000 }: ReachOptions,
  signal: AbortSignal,
): Promise<Socket | Refusal> {
  const resolved = await within(
    Promise.resolve().then(() => resolve(host)),
    connectMs,
  );
  const addresses = admitAddresses(rules, host, resolved ?? []);
  if ('reason' in addresses) return addresses;
  const socket = await dial(addresses, port, connectMs, signal);
  return socket ?? { reason: 'unreachable', sentence: `${shown(host)} does not answer at port ${port}.` };
}
