import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { parseInvite } from '../../protocol/invite.ts';
import type { JoinOptions, Running } from '../cli/options.ts';
import { discoverFounders } from '../network/discovery.ts';
import type { Host } from '../network/host.ts';
import {
  describe,
  type FoundFounder,
  type Joined,
  joinByApproval,
  joinByInvite,
  type Me,
} from '../network/join-client.ts';
import { defaultOwner, type Machine, openMachine } from './machine.ts';
import { Membership } from './membership.ts';
import { founderAddress, living, nameOf, openHost, runMember, smallFiles } from './start.ts';

/** Founders on this LAN answer mDNS within milliseconds; machines that just woke take a few seconds. */
const DISCOVER_MS = 15_000;
/** Where one founder was found, another may answer a little later: then the person must say which. */
const SETTLE_MS = 1_500;

/**
 * So long a founder that takes no connection in time is tried again: thirty machines that join at once keep it busy, and a
 * script that enrols a room is not started twice. Whoever was let in meanwhile gets the same answer again.
 */
const JOIN_PATIENCE_MS = 60_000;

/** `mesh-node join`: is let in, by token or by a code on both screens, and then works for the mesh. */
export async function joinMesh(options: JoinOptions): Promise<Running> {
  // Read before anything is made on disk: a mistyped token is the person's to mend.
  const invite = options.token === null ? null : parseInvite(options.token);
  const owner = options.owner ?? defaultOwner();
  const machine = await openMachine({ ...options, create: true });
  return living(machine, async (lifetime) => {
    const host = await openHost(machine, options.port);
    lifetime.onStop(() => host.stop());
    const known = await Membership.load(host.peer, smallFiles(machine.folder.paths));
    if (known !== null) {
      requireSameMesh(known, invite?.mesh ?? options.mesh);
      return runMember(machine, host, known, options, lifetime);
    }
    const me: Me = { name: nameOf(machine, options.name), owner, exact: options.name !== null };
    const stopping = interruption();
    const joined =
      invite === null
        ? await ask(host, await findFounder(host, options), me, options, stopping)
        : await patiently(machine, stopping, () =>
            joinByInvite(host, reachable(invite, options), me, stopping),
          );
    const membership = await keep(machine, host, joined);
    await machine.configure({
      kind: 'node',
      name: joined.facts.name,
      owner: joined.facts.owner,
      mesh: joined.mesh,
      founder: { peer: joined.founder, addresses: joined.addresses },
      ...(options.port === null ? {} : { port: options.port }),
      ...(options.slots === null ? {} : { slots: options.slots }),
      ...(options.policy === null ? {} : { policy: options.policy }),
      labels: { ...machine.config.labels, ...options.labels },
    });
    const ready = await runMember(machine, host, membership, options, lifetime);
    return joined.facts.name === me.name ? ready : { ...ready, asked: me.name };
  });
}

async function patiently(
  { logger }: Machine,
  signal: AbortSignal,
  join: () => Promise<Joined>,
): Promise<Joined> {
  const deadline = performance.now() + JOIN_PATIENCE_MS;
  for (;;) {
    try {
      return await join();
    } catch (thrown) {
      const { code, got, message } = asSuperfleetError(thrown);
      const late = code === 'SF_TIMEOUT' || (code === 'SF_UNREACHABLE' && got === 'no answer in time');
      if (!late || signal.aborted || performance.now() >= deadline) throw thrown;
      logger.warn({ code }, `${message}; it is tried again`);
    }
  }
}

async function keep(machine: Machine, host: Host, joined: Joined): Promise<Membership> {
  const { genesis, certificate, addresses, roster, policy } = joined;
  const files = smallFiles(machine.folder.paths);
  const membership = await Membership.admit({ genesis, certificate, addresses, policy }, host.peer, files);
  if (roster !== null) await membership.takeRoster(Buffer.from(roster));
  return membership;
}

function requireSameMesh(known: Membership, mesh: string | null): void {
  if (mesh === null || mesh === known.genesis.mesh) return;
  throw new SuperfleetError('SF_EXISTS', 'this data folder belongs to another mesh', {
    expected: known.genesis.mesh,
    got: mesh,
    hint: 'leave that mesh first (mesh-node leave), or join with another folder: --dir PATH',
  });
}

const reachable = <T extends { addresses: string[] }>(invite: T, { founder }: JoinOptions): T =>
  founder === null ? invite : { ...invite, addresses: [founderAddress(founder), ...invite.addresses] };

const ask = (
  host: Host,
  founder: FoundFounder,
  me: Me,
  { onPending }: JoinOptions,
  signal: AbortSignal,
): Promise<Joined> =>
  joinByApproval(
    host,
    founder,
    me,
    (code, waitMs) => {
      const { mesh, name, peer } = founder;
      onPending({ event: 'pending', code, mesh, name, founder: peer, expiresAt: Date.now() + waitMs });
    },
    signal,
  );

/** The one founder on this LAN, of the mesh asked for; `SF_UNREACHABLE` where there is none, `SF_USAGE` for several. */
async function findFounder(host: Host, options: JoinOptions): Promise<FoundFounder> {
  if (options.founder !== null) return askFounder(host, founderAddress(options.founder), options.mesh);
  const found = new Map<string, FoundFounder>();
  const stopping = new AbortController();
  const stop = discoverFounders(host, {
    ...(options.mesh === null ? {} : { mesh: options.mesh }),
    onFound: (founder) => {
      const first = found.size === 0;
      found.set(founder.peer, founder);
      if (first) setTimeout(() => stopping.abort(), options.mesh === null ? SETTLE_MS : 0);
    },
  });
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, DISCOVER_MS);
    stopping.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  stop();
  const [founder, ...others] = [...found.values()];
  if (founder === undefined) {
    throw new SuperfleetError('SF_UNREACHABLE', 'no founder was found on this network', {
      expected: `a founder that answers mDNS within ${DISCOVER_MS / 1000} s`,
      got: 'none',
      hint: 'is `mesh-hub start` running? Where multicast does not pass: mesh-node join TOKEN, or --founder ADDRESS',
    });
  }
  if (others.length > 0) {
    const names = [founder, ...others].map(({ name, mesh }) => `${name} (${mesh})`).join(', ');
    throw new SuperfleetError('SF_USAGE', 'several founders are on this network', {
      expected: '--mesh ID of the one meant',
      got: names,
      hint: `mesh-node join --mesh ${founder.mesh}`,
    });
  }
  return founder;
}

/** A founder at an address a person named: whose key it has is what both screens' code will prove. */
async function askFounder(host: Host, address: string, mesh: string | null): Promise<FoundFounder> {
  const peer = /\/p2p\/([^/]+)$/.exec(address)?.[1];
  const signal = AbortSignal.timeout(DISCOVER_MS);
  const connection =
    peer === undefined ? await host.dialUnknown(address, signal) : await host.dial(peer, [address], signal);
  const described = await describe(connection, signal);
  if (described === null || (mesh !== null && described.mesh !== mesh)) {
    throw new SuperfleetError(
      'SF_UNREACHABLE',
      `no founder${mesh === null ? '' : ' of this mesh'} is at ${address}`,
      {
        expected: mesh ?? 'a founder',
        got: described?.mesh ?? 'a machine that is none',
      },
    );
  }
  const plain = address.replace(/\/p2p\/[^/]+$/, '');
  return { peer: connection.remotePeer.toString(), addresses: [plain], ...described };
}

/** Aborted by Ctrl-C or SIGTERM while a person has not decided yet. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  const interrupted = (): void =>
    controller.abort(new SuperfleetError('SF_INTERRUPTED', 'joining was given up'));
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  return controller.signal;
}
