import { execFileSync } from 'node:child_process';

/**
 * Hosts on a LAN of their own: network namespaces joined by a bridge that lives in a namespace too, so that there is
 * no way out and nothing of this machine's network is touched. Needs root.
 */
export interface Lan {
  /** Namespace names, one a host. */
  hosts: string[];
  /** 10.77.0.1 … in the order of the hosts. */
  addresses: string[];
  /** Namespace of the bridge, and the bridge's name in it: where a capture sees every packet. */
  bridge: { namespace: string; device: string };
  close(): void;
}

const ip = (...args: string[]): void =>
  void execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });

export function lan(count: number): Lan {
  const tag = `sf${process.pid}`;
  const bridge = { namespace: `${tag}br`, device: 'br0' };
  const hosts = Array.from({ length: count }, (_, n) => `${tag}h${n + 1}`);
  const addresses = hosts.map((_, n) => `10.77.0.${n + 1}`);
  const made: string[] = [];
  const close = (): void => {
    for (const name of made.splice(0)) ip('netns', 'delete', name);
  };
  try {
    ip('netns', 'add', bridge.namespace);
    made.push(bridge.namespace);
    ip('-n', bridge.namespace, 'link', 'add', bridge.device, 'type', 'bridge', 'mcast_snooping', '0');
    ip('-n', bridge.namespace, 'link', 'set', bridge.device, 'up');
    hosts.forEach((host, n) => {
      ip('netns', 'add', host);
      made.push(host);
      ip(
        '-n',
        bridge.namespace,
        'link',
        'add',
        `p${n}`,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        host,
      );
      ip('-n', bridge.namespace, 'link', 'set', `p${n}`, 'master', bridge.device, 'up');
      ip('-n', host, 'link', 'set', 'lo', 'up');
      ip('-n', host, 'address', 'add', `${addresses[n]}/24`, 'dev', 'eth0');
      ip('-n', host, 'link', 'set', 'eth0', 'up');
      // Multicast wants a route; it leads nowhere.
      ip('-n', host, 'route', 'add', 'default', 'dev', 'eth0');
    });
  } catch (cause) {
    close();
    throw cause;
  }
  return { hosts, addresses, bridge, close };
}
