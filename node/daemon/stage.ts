import { isIP } from 'node:net';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { defaultPort } from '../config.ts';
import { createHost, type Host } from '../network/host.ts';
import { libp2pKey } from './identity.ts';
import type { Machine } from './machine.ts';
import type { Lifetime } from './process.ts';

/** What a process of ours stands on whatever it is, founder or member: it outlasts a change of role. */
export interface Stage {
  readonly machine: Machine;
  readonly lifetime: Lifetime;
  /** Inbound port that a person asked for when the process was started; null: what the config says. */
  readonly port: number | null;
  /** This machine on the network; opened at the first call, and kept until the process ends. */
  network(fallback?: PortFallback): Promise<Host>;
}

/** Where to listen when nobody has said: `fixed`: the default port or refuse, `preferred`: that port or any, `any`. */
export type PortFallback = 'fixed' | 'preferred' | 'any';

export function stageOf(machine: Machine, lifetime: Lifetime, port: number | null): Stage {
  let host: Promise<Host> | null = null;
  return {
    machine,
    lifetime,
    port,
    network: (fallback = 'any') => {
      host ??= openHost(machine, port, fallback).then((opened) => {
        lifetime.keep(() => opened.stop());
        return opened;
      });
      return host;
    },
  };
}

/** This machine on the network, with the port asked for, configured, or as `fallback` says. */
export async function openHost(
  machine: Machine,
  port: number | null,
  fallback: PortFallback = 'any',
): Promise<Host> {
  const { config, key, logger } = machine;
  const said = port ?? config.port;
  const open = (wanted: number): Promise<Host> =>
    createHost({
      privateKey: libp2pKey(key),
      listen: config.listen.map((address) => `/ip${isIP(address) === 6 ? 6 : 4}/${address}/tcp/${wanted}`),
      mdns: config.mdns,
    });
  if (said !== null) return open(said);
  if (fallback === 'any') return open(0);
  try {
    return await open(defaultPort);
  } catch (thrown) {
    if (fallback === 'fixed' || asSuperfleetError(thrown).code !== 'SF_PORT_IN_USE') throw thrown;
    logger.warn(`port ${defaultPort} belongs to another process: this machine listens on any free one`);
    return open(0);
  }
}
