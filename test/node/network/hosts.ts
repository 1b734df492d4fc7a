import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Connection } from '@libp2p/interface';
import { createHost, type Host, type HostOptions } from '../../../node/network/host.ts';
import { type Access, Registry } from '../../../node/network/registry.ts';
import type { Capacity, MemberHello, Welcome } from '../../../protocol/session.ts';

export const MESH = 'a'.repeat(64);
const CORRELATION = 'test';

/** A real libp2p node on 127.0.0.1, on a port of the system's choosing. */
export async function host(options: Partial<HostOptions> = {}): Promise<Host> {
  return createHost({
    privateKey: await generateKeyPair('Ed25519'),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    mdns: false,
    ...options,
  });
}

/** Hosts and registries of one test; all are stopped, whatever happened. */
export class Net {
  readonly members = new Set<string>();
  readonly revoked = new Set<string>();
  founder = '';
  readonly #stops: (() => Promise<void>)[] = [];

  readonly access: Access = {
    isMember: (peer) => this.members.has(peer),
    isFounder: (peer) => peer === this.founder,
    isRevoked: (peer) => this.revoked.has(peer),
  };

  onStop(stop: () => Promise<void>): void {
    this.#stops.push(stop);
  }

  async host(options: Partial<HostOptions> = {}): Promise<Host> {
    const made = await host(options);
    this.onStop(() => made.stop());
    return made;
  }

  /** A host that everybody takes for the founder, with its registry. */
  async founding(
    limits: ConstructorParameters<typeof Registry>[2] = {},
    options: Partial<HostOptions> = {},
  ): Promise<{ host: Host; registry: Registry; errors: string[] }> {
    const made = await this.host(options);
    this.founder = made.peer;
    this.members.add(made.peer);
    return { host: made, ...this.registry(made, limits) };
  }

  registry(
    of: Host,
    limits: ConstructorParameters<typeof Registry>[2] = {},
  ): { registry: Registry; errors: string[] } {
    const errors: string[] = [];
    const registry = new Registry(of, this.access, limits, (error) => errors.push(error.code));
    this.onStop(() => registry.stop());
    return { registry, errors };
  }

  async member(options: Partial<HostOptions> = {}): Promise<Host> {
    const made = await this.host(options);
    this.members.add(made.peer);
    return made;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.reverse()) await stop();
  }
}

/** Runs a test with hosts of its own. */
export const withNet = (body: (net: Net) => Promise<void>) => async (): Promise<void> => {
  const net = new Net();
  try {
    await body(net);
  } finally {
    await net.stop();
  }
};

export const connect = (from: Host, to: Host): Promise<Connection> => from.dial(to.peer, to.addresses());

export const capacity: Capacity = {
  slots: 1,
  sandbox: null,
  limits: { memory: 'none', processes: 'none', disk: 'none' },
  memoryBytes: 1,
  cpus: 1,
  diskFreeBytes: 1,
  models: [],
  tools: {},
  labels: {},
  ownerPaused: false,
};

export const hello = (fields: Partial<MemberHello> = {}): MemberHello => ({
  type: 'hello',
  version: { major: 1, minor: 1 },
  features: [],
  mesh: MESH,
  capacity,
  held: [],
  ready: [],
  checkpoint: null,
  rosterVersion: 0,
  ...fields,
});

export const welcome: Welcome = {
  type: 'welcome',
  version: { major: 1, minor: 1 },
  features: [],
  mesh: MESH,
  epoch: 1,
  heartbeatMs: 5000,
  leaseMs: 15_000,
  paused: false,
  resume: [],
  checkpoint: null,
};

export const lease = (number: number) => ({
  task: 'aaaaaaaaaaaa',
  attempt: number,
  epoch: 1,
  correlation: CORRELATION,
});

/** A promise with its handle outside, that fails by itself when nothing comes. */
export class Signal<T> {
  readonly #waiting: ((value: T) => void)[] = [];
  readonly #values: T[] = [];

  put(value: T): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#values.push(value);
    else waiter(value);
  }

  /** The next value; rejects after `ms`. */
  next(ms = 10_000): Promise<T> {
    const value = this.#values.shift();
    if (value !== undefined) return Promise.resolve(value);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`nothing came within ${ms} ms`)), ms);
      this.#waiting.push((came) => {
        clearTimeout(timer);
        resolve(came);
      });
    });
  }
}
