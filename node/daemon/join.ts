import type { Connection } from '@libp2p/interface';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { parseInvite } from '../../protocol/invite.ts';
import type { EnrolledLine } from '../api/objects.ts';
import type { FounderProgram, JoinOptions, Running } from '../cli/options.ts';
import { discoverFounders, passedOverLine } from '../network/discovery.ts';
import { founderAddresses } from '../network/founder-address.ts';
import type { Host } from '../network/host.ts';
import {
  describe,
  type FoundFounder,
  type Joined,
  joinByApproval,
  joinByInvite,
  type Me,
} from '../network/join-client.ts';
import { otherMesh, strangeFounder } from '../network/whose.ts';
import { foresee, madeOf } from './founder-role.ts';
import { defaultOwner, type Machine, openMachine } from './machine.ts';
import { enrolledMesh, Membership, requireSameMesh, smallFiles } from './membership.ts';
import { nameOf, runMember } from './run-member.ts';
import { openHost, stageOf } from './stage.ts';
import { living } from './start.ts';

/** Founders on this LAN answer mDNS within milliseconds; machines that just woke take a few seconds. */
const DISCOVER_MS = 15_000;
/** Where one founder was found, another may answer a little later: then the person must say which. */
const SETTLE_MS = 1_500;
/** Announcements that led nowhere, told where no founder was found. */
const TOLD_MAX = 6;

/**
 * So long a founder that takes no connection in time is tried again: thirty machines that join at once keep it busy, and a
 * script that enrols a room is not started twice. Whoever was let in meanwhile gets the same answer again.
 */
const JOIN_PATIENCE_MS = 60_000;

/** `mesh-node join`: is let in, by token or by a code on both screens, and then works for the mesh. */
export async function joinMesh(options: JoinOptions, program: FounderProgram | null): Promise<Running> {
  const wish = wishOf(options);
  const founder = await foresee(program, options.dir);
  const machine = await openMachine({ ...options, create: true, beside: founder.beside });
  return living(machine, async (lifetime) => {
    const stage = stageOf(machine, lifetime, options.port);
    const { membership, renamed } = await membershipOf(machine, await stage.network(), wish);
    const ready = await runMember(stage, membership, options, founder);
    return { ...ready, ...renamed };
  });
}

/** `mesh-node join --no-start`: is let in, and ends. What a service manager then starts is `mesh-node start`. */
export async function enrol(options: JoinOptions, program: FounderProgram | null): Promise<EnrolledLine> {
  const wish = wishOf(options);
  const beside = madeOf(program?.beside(options.dir) ?? []);
  const machine = await openMachine({ ...options, create: true, beside });
  try {
    const host = await openHost(machine, options.port);
    try {
      const { membership, renamed } = await membershipOf(machine, host, wish);
      const { genesis, certificate } = membership;
      return { event: 'enrolled', mesh: genesis.mesh, id: host.peer, name: certificate.name, ...renamed };
    } finally {
      await host.stop();
    }
  } finally {
    await machine.close();
  }
}

interface Wish extends JoinOptions {
  invite: ReturnType<typeof parseInvite> | null;
  owner: string;
}

interface Enrolment {
  membership: Membership;
  /** The name asked for, where another machine has it. */
  renamed: { asked?: string };
}

/** Read before anything is made on disk, and before root is given up: a mistyped token is the person's to mend. */
function wishOf(options: JoinOptions): Wish {
  const invite = options.token === null ? null : parseInvite(options.token);
  requireSameMesh(enrolledMesh(options.dir), invite?.mesh ?? options.mesh);
  return { ...options, invite, owner: options.owner ?? defaultOwner() };
}

/** The membership this folder has; where it has none, the one it is now given. What was asked for is kept in the config. */
async function membershipOf(machine: Machine, host: Host, wish: Wish): Promise<Enrolment> {
  const { invite, owner, port, slots, policy, inhibitSleep, cpuWeight, memoryShare, labels } = wish;
  const settings = {
    ...(port === null ? {} : { port }),
    ...(slots === null ? {} : { slots }),
    ...(policy === null ? {} : { policy }),
    ...(inhibitSleep ? { inhibitSleep } : {}),
    ...(cpuWeight === null ? {} : { cpuWeight }),
    ...(memoryShare === null ? {} : { memoryShare }),
    labels: { ...machine.config.labels, ...labels },
  };
  const known = await Membership.load(host.peer, smallFiles(machine.folder.paths));
  if (known !== null) {
    requireSameMesh(known.genesis.mesh, invite?.mesh ?? wish.mesh);
    const more = [port, slots, policy, cpuWeight, memoryShare].some((one) => one !== null) || inhibitSleep;
    if (more || Object.keys(labels).length > 0) await machine.configure(settings);
    return { membership: known, renamed: {} };
  }
  const me: Me = { name: nameOf(machine, wish.name), owner, exact: wish.name !== null };
  using interruption = new Interruption();
  const stopping = interruption.signal;
  const joined =
    invite === null
      ? await ask(host, await findFounder(host, wish), me, wish, stopping)
      : await patiently(machine, host, invite.mesh, wish, stopping, async () =>
          joinByInvite(host, await reachable(invite, wish), me, stopping),
        );
  const membership = await keep(machine, host, joined);
  await machine.configure({
    kind: 'node',
    name: joined.facts.name,
    owner: joined.facts.owner,
    mesh: joined.mesh,
    founder: { peer: joined.founder, addresses: joined.addresses },
    ...settings,
  });
  // Let in all the same: the same command goes on from here.
  stopping.throwIfAborted();
  return { membership, renamed: joined.facts.name === me.name ? {} : { asked: me.name } };
}

async function patiently(
  { logger }: Machine,
  host: Host,
  mesh: string,
  options: JoinOptions,
  signal: AbortSignal,
  join: () => Promise<Joined>,
): Promise<Joined> {
  const deadline = performance.now() + JOIN_PATIENCE_MS;
  for (;;) {
    try {
      return await join();
    } catch (thrown) {
      const { code, got, message } = asSuperfleetError(thrown);
      const { founder } = options;
      const strange = founder === null ? null : await strangeFounder(host, founder, mesh);
      if (strange !== null) throw strange;
      const late = code === 'SF_TIMEOUT' || (code === 'SF_UNREACHABLE' && got === 'no answer in time');
      if (!late || signal.aborted || performance.now() >= deadline) throw thrown;
      logger.warn({ code }, `${message}; it is tried again`);
    }
  }
}

async function keep(machine: Machine, host: Host, joined: Joined): Promise<Membership> {
  const { genesis, handovers, certificate, addresses, roster, policy } = joined;
  const files = smallFiles(machine.folder.paths);
  const membership = await Membership.admit(
    { genesis, handovers, certificate, addresses, policy },
    host.peer,
    files,
  );
  if (roster !== null) await membership.takeRoster(Buffer.from(roster));
  return membership;
}

const reachable = async <T extends { addresses: string[] }>(
  invite: T,
  { founder }: JoinOptions,
): Promise<T> =>
  founder === null
    ? invite
    : { ...invite, addresses: [...(await founderAddresses(founder)), ...invite.addresses] };

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
  if (options.founder !== null) {
    return askFounder(host, options.founder, await founderAddresses(options.founder), options.mesh);
  }
  const passedOver: string[] = [];
  const found = new Map<string, FoundFounder>();
  const stopping = new AbortController();
  const stop = discoverFounders(host, {
    ...(options.mesh === null ? {} : { mesh: options.mesh }),
    onFound: (founder) => {
      const first = found.size === 0;
      found.set(founder.peer, founder);
      if (first) setTimeout(() => stopping.abort(), options.mesh === null ? SETTLE_MS : 0);
    },
    onPassedOver: (passed) => {
      // That we hear ourselves is as it should be, and no news while others answer.
      if (passed.why !== 'own') options.onNote(`heard ${passedOverLine(passed)}`);
      passedOver.push(passedOverLine(passed));
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
      got:
        passedOver.length === 0
          ? 'none: nothing was heard by mDNS'
          : passedOver.slice(0, TOLD_MAX).join('; '),
      hint: 'is `mesh-hub start` running? Where multicast does not pass: mesh-node join --founder ADDRESS, or mesh-node join TOKEN; `mesh-node doctor` looks at UDP 5353',
    });
  }
  if (others.length > 0) {
    const names = [founder, ...others].map(({ name, mesh }) => `${name} (${mesh})`).join(', ');
    throw new SuperfleetError('SF_USAGE', 'several founders are on this network', {
      expected: '--mesh ID of the one meant',
      got: names,
      hint: `say which: mesh-node join --mesh ${founder.mesh}`,
    });
  }
  return founder;
}

/** A founder at an address a person named: whose key it has is what both screens' code will prove. */
async function askFounder(
  host: Host,
  named: string,
  addresses: string[],
  mesh: string | null,
): Promise<FoundFounder> {
  const signal = AbortSignal.timeout(DISCOVER_MS);
  const connection = await dialAny(host, addresses, signal);
  const described = await describe(connection, signal);
  if (described === null) {
    throw new SuperfleetError('SF_UNREACHABLE', `no founder is at ${named}`, {
      expected: mesh === null ? 'a founder' : `the founder of mesh ${mesh}`,
      got: 'a machine that is none',
      hint: 'name the machine on which `mesh-hub start` runs',
    });
  }
  if (mesh !== null && described.mesh !== mesh) throw otherMesh(named, described, mesh);
  const plain = addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
  return { peer: connection.remotePeer.toString(), addresses: plain, ...described };
}

/** The first of a founder's addresses that answers; a name may have several. */
async function dialAny(host: Host, addresses: string[], signal: AbortSignal): Promise<Connection> {
  let fault: unknown;
  for (const address of addresses) {
    const peer = /\/p2p\/([^/]+)$/.exec(address)?.[1];
    try {
      return peer === undefined
        ? await host.dialUnknown(address, signal)
        : await host.dial(peer, [address], signal);
    } catch (thrown) {
      fault = thrown;
    }
  }
  throw fault;
}

/** Ctrl-C and SIGTERM while a person has not decided yet; afterwards they are the process's own business again. */
class Interruption {
  readonly #controller = new AbortController();

  constructor() {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, this.#interrupted);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly #interrupted = (): void =>
    this.#controller.abort(new SuperfleetError('SF_INTERRUPTED', 'joining was given up'));

  [Symbol.dispose](): void {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, this.#interrupted);
  }
}
