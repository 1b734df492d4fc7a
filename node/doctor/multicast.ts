import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { encode } from 'dns-packet';
import { readAnnouncement } from '../network/announcement.ts';
import { privateAddresses, SERVICE_TAG } from '../network/announcer.ts';

const GROUP = '224.0.0.251';
export const MDNS_PORT = 5353;
/** A packet that loops back does so within a millisecond. */
const OWN_MS = 1_000;
/** Answers to a question for all are spread over 20 to 120 ms (RFC 6762), and then some machines sleep. */
const LISTEN_MS = 1_500;
/** Machines remembered; a LAN has fewer that announce anything within the time. */
const HEARD_MAX = 64;

export interface Multicast {
  name: string;
  address: string;
  /** Null: a query sent out of this interface came back; otherwise what went wrong. */
  fault: string | null;
}

/** What one announcement was taken for; `announced` waits to be asked. */
export type HeardAs =
  | 'announced'
  | 'founder'
  | 'another-mesh'
  | 'no-founder'
  | 'silent'
  | 'malformed'
  | 'own'
  | 'not-lan'
  | 'another-program';

export interface Heard {
  /** IP address it came from. */
  from: string;
  as: HeardAs;
  peer: string | null;
  /** Multiaddrs on a LAN that it named. */
  addresses: string[];
  mesh: { id: string; name: string } | null;
}

export interface MulticastFacts {
  interfaces: Multicast[];
  /** UDP 5353 belongs to a program that shares it with nobody. */
  portTaken: boolean;
  heard: Heard[];
}

/**
 * Sends one mDNS question out of each interface with IPv4, sees whether this machine hears it, and listens who else
 * answers. Never throws.
 */
export async function multicast(options: { port?: number; listenMs?: number } = {}): Promise<MulticastFacts> {
  const { port = MDNS_PORT, listenMs = LISTEN_MS } = options;
  const faces = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => ({ name, address })),
  );
  const own = new Set(faces.map(({ address }) => address));
  const heard = new Map<string, Heard>();
  const tries = await Promise.all(
    faces.map(async (face) => ({ ...face, ...(await tryFace(face.address, port, listenMs, own, heard)) })),
  );
  return {
    interfaces: tries.map(({ name, address, fault }) => ({ name, address, fault })),
    portTaken: tries.some(({ code }) => code === 'EADDRINUSE' || code === 'EACCES'),
    heard: [...heard.values()],
  };
}

/** Pure: a question for the pointer records of names; hosts of ours answer the first. */
export const question = (...names: string[]): Buffer =>
  encode({ type: 'query', questions: names.map((name) => ({ name, type: 'PTR', class: 'IN' })) });

interface Tried {
  fault: string | null;
  code: string | null;
}

async function tryFace(
  address: string,
  port: number,
  listenMs: number,
  own: ReadonlySet<string>,
  heard: Map<string, Heard>,
): Promise<Tried> {
  const mark = `_superfleet-${randomBytes(6).toString('hex')}._udp.local`;
  const query = question(SERVICE_TAG, '_services._dns-sd._udp.local', mark);
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  try {
    return await new Promise<Tried>((resolve) => {
      let back = false;
      const done = (): void => resolve(back ? { fault: null, code: null } : notHeard(port));
      const timers = [
        setTimeout(() => back && done(), listenMs),
        setTimeout(done, Math.max(OWN_MS, listenMs)),
      ];
      const broken = (error: NodeJS.ErrnoException): void => {
        for (const timer of timers) clearTimeout(timer);
        resolve({ fault: error.message, code: error.code ?? null });
      };
      socket.on('error', broken);
      socket.on('message', (bytes, { address: from }) => {
        if (bytes.equals(query)) {
          back = true;
          if (listenMs === 0) done();
        } else if (heard.size < HEARD_MAX) note(bytes, from, own, heard);
      });
      socket.bind(port, () => ask(socket, address, port, query, broken));
    });
  } finally {
    await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
}

const notHeard = (port: number): Tried => ({
  fault: `what it sends to ${GROUP}:${port} does not come back`,
  code: null,
});

function note(bytes: Buffer, from: string, own: ReadonlySet<string>, heard: Map<string, Heard>): void {
  const read = readAnnouncement(bytes);
  // A question is nobody's announcement.
  if (read.kind === 'question') return;
  const peer = read.kind === 'announced' ? read.peer : null;
  const addresses = read.kind === 'announced' ? privateAddresses(read.addresses) : [];
  const as = own.has(from)
    ? 'own'
    : read.kind !== 'announced'
      ? read.kind
      : addresses.length === 0
        ? 'not-lan'
        : 'announced';
  heard.set(`${from} ${peer ?? as}`, { from, as, peer, addresses, mesh: null });
}

function ask(
  socket: Socket,
  address: string,
  port: number,
  query: Buffer,
  broken: (error: Error) => void,
): void {
  try {
    socket.addMembership(GROUP, address);
    socket.setMulticastInterface(address);
    socket.setMulticastLoopback(true);
    // One hop: a question about nobody is the local network's business only.
    socket.setMulticastTTL(1);
    socket.send(query, port, GROUP, (error) => {
      if (error !== null) broken(error);
    });
  } catch (thrown) {
    broken(thrown as Error);
  }
}
