import { connect } from 'node:net';
import { SuperfleetError } from '../../protocol/errors.ts';
import { founderAddresses, parseFounderAddress } from '../network/founder-address.ts';

/** `no-answer-in-words`: it takes the connection and says nothing that we know. */
export type ReachOutcome =
  | 'answers'
  | 'refused'
  | 'filtered'
  | 'no-route'
  | 'no-machine'
  | 'another-program'
  | 'silent'
  | 'no-name'
  | 'no-address'
  | 'another-mesh'
  | 'no-founder';

/** What came of trying one address. */
export interface Reach {
  /** As it was named. */
  place: string;
  port: number;
  outcome: ReachOutcome;
  /** The mesh that answered, where it was asked and is a founder. */
  mesh: { id: string; name: string } | null;
}

/** Who a host that speaks as ours do is: asked over a connection that proved its key. */
export type Introduce = (
  multiaddrs: string[],
) => Promise<{ mesh: string; name: string } | 'no-founder' | 'silent'>;

/** A host that is not there is told by ARP in about 3 s; one that says nothing for longer is filtered. */
const CONNECT_MS = 4_000;
const GREET_MS = 3_000;
/** What every libp2p host says first, with its length before it. */
const GREETING = '\x13/multistream/1.0.0\n';

/**
 * Tries one address: connects, exchanges the greeting, and where `introduce` is given asks whose founder it is.
 * Never throws.
 */
export async function reach(
  place: string,
  options: { mesh: string | null; introduce: Introduce | null; signal?: AbortSignal },
): Promise<Reach> {
  const address = parseFounderAddress(place);
  const as = (outcome: ReachOutcome, mesh: Reach['mesh'] = null): Reach => ({
    place,
    port: address?.port ?? 0,
    outcome,
    mesh,
  });
  if (address === null) return as('no-address');
  let multiaddrs: string[];
  try {
    multiaddrs = await founderAddresses(place);
  } catch (thrown) {
    return as(thrown instanceof SuperfleetError && thrown.code === 'SF_USAGE' ? 'no-address' : 'no-name');
  }
  const outcomes = await Promise.all(
    multiaddrs.map((one) => greet(one.split('/')[2] ?? '', address.port, options.signal)),
  );
  const best = outcomes.includes('answers') ? 'answers' : (outcomes[0] ?? 'no-name');
  if (best !== 'answers' || options.introduce === null) return as(best);
  const said = await options.introduce(multiaddrs.filter((_, n) => outcomes[n] === 'answers'));
  if (typeof said === 'string') return as(said);
  const mesh = { id: said.mesh, name: said.name };
  return as(options.mesh !== null && options.mesh !== said.mesh ? 'another-mesh' : 'answers', mesh);
}

function greet(host: string, port: number, signal?: AbortSignal): Promise<ReachOutcome> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    let outcome: ReachOutcome = 'filtered';
    const answer = (as: ReachOutcome): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', interrupted);
      socket.destroy();
      resolve(as);
    };
    const interrupted = (): void => answer(outcome);
    let timer = setTimeout(() => answer(outcome), CONNECT_MS);
    let heard = '';
    socket.once('connect', () => {
      outcome = 'silent';
      clearTimeout(timer);
      timer = setTimeout(() => answer(outcome), GREET_MS);
      socket.write(GREETING);
    });
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1');
      if (heard.startsWith(GREETING)) answer('answers');
      else if (!GREETING.startsWith(heard)) answer('another-program');
    });
    socket.once('close', () => answer(outcome === 'filtered' ? 'refused' : 'silent'));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      if (outcome === 'silent') answer('silent');
      else answer(FAULTS[code ?? ''] ?? 'no-route');
    });
    signal?.addEventListener('abort', interrupted, { once: true });
  });
}

/** What the kernel says of a connection that was not made. */
const FAULTS: Readonly<Record<string, ReachOutcome>> = {
  ECONNREFUSED: 'refused',
  ECONNRESET: 'refused',
  ETIMEDOUT: 'filtered',
  // A rule of our own that drops what goes out.
  EPERM: 'filtered',
  EACCES: 'filtered',
  EHOSTUNREACH: 'no-machine',
  EHOSTDOWN: 'no-machine',
  ENETUNREACH: 'no-route',
  EADDRNOTAVAIL: 'no-route',
};
