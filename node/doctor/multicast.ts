import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';

const GROUP = '224.0.0.251';
const PORT = 5353;
/** A packet that loops back does so within a millisecond. */
const ANSWER_MS = 1_000;
const TYPE_PTR = 12;
const CLASS_IN = 1;

export interface Multicast {
  name: string;
  address: string;
  /** Null: a query sent out of this interface came back; otherwise what went wrong. */
  fault: string | null;
}

/** Sends one mDNS query out of each interface with IPv4 and sees whether this machine hears it. */
export async function multicastInterfaces(): Promise<Multicast[]> {
  const faces = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => ({ name, address })),
  );
  return Promise.all(faces.map(async (face) => ({ ...face, fault: await tryLoop(face.address) })));
}

/** Pure: a DNS question for the pointer records of a name. */
export function question(name: string): Buffer {
  const labels = name
    .split('.')
    .flatMap((label) => [Buffer.from([label.length]), Buffer.from(label, 'latin1')]);
  const header = Buffer.alloc(12);
  header.writeUInt16BE(1, 4);
  const tail = Buffer.alloc(5);
  tail.writeUInt16BE(TYPE_PTR, 1);
  tail.writeUInt16BE(CLASS_IN, 3);
  return Buffer.concat([header, ...labels, tail]);
}

async function tryLoop(address: string): Promise<string | null> {
  const query = question(`_superfleet-${randomBytes(6).toString('hex')}._udp.local`);
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  try {
    return await new Promise<string | null>((resolve) => {
      const timer = setTimeout(() => resolve(`a query to ${GROUP} was not heard again`), ANSWER_MS);
      const answer = (fault: string | null): void => {
        clearTimeout(timer);
        resolve(fault);
      };
      socket.on('error', (error) => answer(error.message));
      socket.on('message', (bytes) => {
        if (bytes.equals(query)) answer(null);
      });
      socket.bind(PORT, () => ask(socket, address, query, answer));
    });
  } finally {
    await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
}

function ask(socket: Socket, address: string, query: Buffer, answer: (fault: string) => void): void {
  try {
    socket.addMembership(GROUP, address);
    socket.setMulticastInterface(address);
    socket.setMulticastLoopback(true);
    // One hop: a question about nobody is the local network's business only.
    socket.setMulticastTTL(1);
    socket.send(query, PORT, GROUP, (error) => {
      if (error !== null) answer(error.message);
    });
  } catch (thrown) {
    answer((thrown as Error).message);
  }
}
