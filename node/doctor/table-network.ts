import type { Facts, FounderFacts, PortFacts } from './facts.ts';
import { type Check, checkOf, type Lack } from './finding.ts';
import { type BlockingChain, blockingChains, openingLines, type Packet } from './firewall.ts';
import { type Heard, type HeardAs, MDNS_PORT, type MulticastFacts } from './multicast.ts';
import type { Reach, ReachOutcome } from './reach.ts';

const GROUP = '224.0.0.251';
/** The way where multicast is dead. */
export const WITHOUT_MULTICAST = 'join by token, or name the founder: mesh-node join --founder ADDRESS';

const sudoOf = ({ means }: Facts): 'sudo ' | '' => (means.elevate === 'root' ? '' : 'sudo ');

const mdns = (hook: Packet['hook']): Packet => ({
  hook,
  protocol: 'udp',
  port: MDNS_PORT,
  destination: GROUP,
});

/** Port of the founder: this machine's own, or the one that was tried. */
const founderPort = ({ port, founder, bin }: Facts): number =>
  (bin === 'mesh-hub' ? port?.port : founder?.places[0]?.port) ?? 4701;

const blocking = ({ firewall }: Facts, packet: Packet): BlockingChain[] =>
  firewall.ruleset === null ? [] : blockingChains(firewall.ruleset, packet);

/** The lines that open this machine for a packet: for the chains that drop it, or for what manages the rules. */
function opening(facts: Facts, packet: Packet): string | null {
  const lines = openingLines(facts.firewall, packet, blocking(facts, packet), sudoOf(facts));
  return lines.length === 0 ? null : lines.join('\n');
}

const chainsOf = (facts: Facts, packet: Packet): string =>
  blocking(facts, packet)
    .map(({ family, table, chain }) => `${family} ${table} ${chain}`)
    .join(', ');

/** What is said where this machine's rules cannot be read by whoever runs this. */
const askAsRoot = ({ firewall, bin }: Facts): string =>
  firewall.ruleset === null ? `\nthe rules here are root's to read: sudo ${bin} doctor names the line` : '';

const firewallLack = (
  name: string,
  what: string,
  packet: (facts: Facts) => Packet,
  concerns: (facts: Facts) => boolean = () => true,
): Lack<Facts> => ({
  finding: `firewall/${name}`,
  status: 'warn',
  when: (facts) => concerns(facts) && blocking(facts, packet(facts)).length > 0,
  what: (facts) =>
    `${what} (${packet(facts).protocol} ${packet(facts).port}): ${chainsOf(facts, packet(facts))}`,
  how: (facts) => opening(facts, packet(facts)),
});

const isHub = ({ bin }: Facts): boolean => bin === 'mesh-hub';

/** What is wrong at one address, and what is done about it. */
const REACHED: Readonly<
  Record<Exclude<ReachOutcome, 'answers'>, { what: string; how: (facts: Facts, place: Reach) => string }>
> = {
  refused: {
    what: 'the connection is refused: a machine is there, and nothing listens on this port',
    how: () => 'start the founder (mesh-hub start --detach), or name its port: --founder HOST:PORT',
  },
  filtered: {
    what: 'no answer at all: a firewall drops it, here, there or between',
    how: (facts, { port }) =>
      opening(facts, { hook: 'output', protocol: 'tcp', port }) ??
      `on the founder: sudo mesh-hub doctor   (it names the rule that drops TCP ${port} and the line that opens it)${askAsRoot(facts)}`,
  },
  'no-machine': {
    what: 'no machine answers at this address, or one rejects whoever comes',
    how: () => 'is it awake, on this network, and is the address right? On the founder: sudo mesh-hub doctor',
  },
  'no-route': {
    what: 'this machine has no route there',
    how: () => 'connect this machine to the founder’s network: ip address, ip route',
  },
  'another-program': {
    what: 'another program answers there',
    how: (_, { port }) =>
      `name the founder’s own port, or see there who has it: sudo ss -ltnp 'sport = :${port}'`,
  },
  silent: {
    what: 'it takes the connection and says nothing that we know',
    how: () =>
      'something stands between (a proxy, a port forward), or the founder is overloaded: look at its log',
  },
  'no-name': {
    what: 'nobody here knows this name',
    how: () => 'name the founder by its IP address: --founder 192.168.1.10',
  },
  'no-address': {
    what: 'this is no address',
    how: () => 'such as 192.168.1.5, box.local:4701, [fd00::5]:4701 or /ip4/192.168.1.5/tcp/4701',
  },
  'another-mesh': {
    what: 'the founder of another mesh answers there',
    how: (_, { mesh }) =>
      `name the right address, or join that one: mesh-node join --mesh ${mesh?.id ?? 'ID'}`,
  },
  'no-founder': {
    what: 'a machine of ours answers there, and is no founder',
    how: () => 'name the machine on which mesh-hub start runs',
  },
};

const placesOf = (places: Reach[], outcome: ReachOutcome): Reach[] =>
  places.filter((one) => one.outcome === outcome);

/** This machine is no news where the founder is said to be elsewhere too: an invite names loopback besides. */
function elsewhere(places: Reach[]): Reach[] {
  const away = places.filter(({ place }) => !/^(\/ip4\/)?127\.|^(\/ip6\/|\[)::1/.test(place));
  return away.length === 0 ? places : away;
}

const reachLacks = Object.entries(REACHED).map(([outcome, { what, how }]): Lack<FounderFacts> => {
  const of = ({ places }: FounderFacts) => placesOf(elsewhere(places), outcome as ReachOutcome);
  return {
    finding: `founder/${outcome}`,
    status: 'fail',
    stops: 'joining',
    code: outcome === 'no-address' ? 'SF_USAGE' : 'SF_UNREACHABLE',
    // One address that answers is enough: an invite names all that the founder has.
    when: (founder) => of(founder).length > 0 && placesOf(founder.places, 'answers').length === 0,
    what: (founder) =>
      of(founder)
        .map(({ place, mesh }) => `${place}: ${what}${mesh === null ? '' : `, ${mesh.name} (${mesh.id})`}`)
        .join('\n'),
    how: (founder, facts) => how(facts, of(founder)[0]!),
  };
});

const HEARD: Readonly<Record<Exclude<HeardAs, 'another-program'>, string>> = {
  announced: 'one of ours',
  founder: 'founder of',
  'another-mesh': 'refused: founder of another mesh,',
  'no-founder': 'one of ours, no founder',
  silent: 'refused: it does not answer where it says',
  malformed: 'refused: cannot be read',
  own: 'this machine itself',
  'not-lan': 'refused: names no address of a local network',
};

/** Pure: whom the LAN told of, a few words each; what is not ours is only counted. */
export function heardText(heard: readonly Heard[]): string {
  const ours = heard.filter(({ as }) => as !== 'another-program');
  const others = heard.length - ours.length;
  const told = ours.map(({ from, as, mesh }) => {
    const words = HEARD[as as keyof typeof HEARD];
    return `${from} (${words}${mesh === null ? '' : ` ${mesh.name}`})`;
  });
  if (others > 0) told.push(`${others} of other programs`);
  return told.length === 0 ? 'heard nobody' : `heard ${told.join(', ')}`;
}

const workingFaces = ({ interfaces }: MulticastFacts): string[] =>
  interfaces.filter(({ fault }) => fault === null).map(({ name }) => name);

const holderOf = ({ outcome, mesh }: Reach): string =>
  mesh !== null
    ? `founder ${mesh.name}`
    : outcome === 'answers'
      ? 'a program of ours'
      : 'somebody who cannot be asked';

const openMulticast = (facts: Facts): string | null =>
  [opening(facts, mdns('input')), opening(facts, mdns('output'))]
    .filter((lines) => lines !== null)
    .join('\n') || null;

export const NETWORK_CHECKS: readonly Check[] = [
  checkOf(
    'multicast',
    'founders and members find each other by mDNS (UDP 5353); access points may still keep it from other machines',
    ({ multicast }) => multicast,
    (multicast) => {
      const dead = multicast.interfaces.filter(({ fault }) => fault !== null).map(({ name }) => name);
      const not = dead.length === 0 ? '' : `, not on ${dead.join(', ')}`;
      return `works on ${workingFaces(multicast).join(', ')}${not}; ${heardText(multicast.heard)}`;
    },
    [
      {
        finding: 'multicast/no-interface',
        status: 'warn',
        when: ({ interfaces }) => interfaces.length === 0,
        what: () => 'no network interface with an IPv4 address',
        how: () => `connect this machine to a network; then ${WITHOUT_MULTICAST}`,
      },
      {
        finding: 'multicast/port-taken',
        status: 'warn',
        when: (multicast) => multicast.portTaken,
        what: () => 'UDP 5353 belongs to a program that shares it with nobody',
        how: (_, facts) => `see who: ${sudoOf(facts)}ss -lunp 'sport = :5353'; or ${WITHOUT_MULTICAST}`,
      },
      {
        finding: 'multicast/not-heard',
        status: 'warn',
        when: (multicast) =>
          !multicast.portTaken && multicast.interfaces.length > 0 && workingFaces(multicast).length === 0,
        what: ({ interfaces }) =>
          `not even this machine hears what it sends: ${interfaces.map(({ name, fault }) => `${name}: ${fault}`).join('; ')}`,
        how: (_, facts) =>
          `${openMulticast(facts) ?? `let UDP 5353 through in this machine's firewall${askAsRoot(facts)}`}\nor ${WITHOUT_MULTICAST}`,
      },
      {
        finding: 'multicast/founder-not-heard',
        status: 'warn',
        when: (multicast, { founder }) =>
          workingFaces(multicast).length > 0 &&
          (founder?.places ?? []).some(({ outcome, mesh }) => outcome === 'answers' && mesh !== null) &&
          !multicast.heard.some(({ as }) => as === 'founder' || as === 'own'),
        what: ({ heard }) => `the founder answers, and is not heard by mDNS; ${heardText(heard)}`,
        how: () =>
          'multicast does not pass between the two (Wi-Fi isolation, VLANs, UDP 5353 dropped there): name the founder by --founder ADDRESS',
      },
    ],
  ),
  checkOf<PortFacts>(
    'port',
    'members dial the founder on one fixed port',
    ({ port }) => port,
    ({ port, holder }) => `TCP ${port} is ${holder === null ? 'free' : `in use by ${holderOf(holder)}`}`,
    [
      {
        finding: 'port/taken',
        status: 'fail',
        stops: 'joining',
        code: 'SF_PORT_IN_USE',
        when: ({ fault, holder }) =>
          fault === 'EADDRINUSE' && (holder?.outcome === 'another-program' || holder?.outcome === 'silent'),
        what: ({ port }) => `TCP ${port} belongs to another program`,
        how: ({ port }, facts) =>
          `see who: ${sudoOf(facts)}ss -ltnp 'sport = :${port}'; or choose another: mesh-hub start --port N`,
      },
      {
        finding: 'port/not-openable',
        status: 'fail',
        stops: 'joining',
        code: 'SF_USAGE',
        when: ({ fault }) => fault !== null && fault !== 'EADDRINUSE',
        what: ({ port, fault }) => `TCP ${port} cannot be listened on: ${fault}`,
        how: () => 'choose a port from 1024 up: mesh-hub start --port N',
      },
    ],
  ),
  checkOf(
    'founder',
    'a member dials its founder; the founder needs one open port',
    ({ founder }) => founder,
    ({ places }) => {
      const [first] = placesOf(places, 'answers');
      const mesh = first?.mesh ?? null;
      return `${first?.place} answers${mesh === null ? '' : `: founder of ${mesh.name} (${mesh.id})`}`;
    },
    reachLacks,
  ),
  checkOf(
    'firewall',
    'the founder needs its TCP port open to the LAN, finding each other needs UDP 5353',
    (facts) => facts,
    ({ firewall }) => {
      const by = firewall.manager === null ? 'no firewall is seen' : `${firewall.manager} manages the rules`;
      return firewall.ruleset === null
        ? `${by}; whether one drops our packets only root may read`
        : `${by}; none drops what we send and receive`;
    },
    [
      firewallLack(
        'founder-in',
        'what members send to the founder here is dropped',
        (facts) => ({
          hook: 'input',
          protocol: 'tcp',
          port: founderPort(facts),
        }),
        isHub,
      ),
      firewallLack(
        'founder-out',
        'what this machine sends to the founder is dropped',
        (facts) => ({
          hook: 'output',
          protocol: 'tcp',
          port: founderPort(facts),
        }),
        (facts) => !isHub(facts),
      ),
      firewallLack('mdns-in', 'what others announce is dropped', () => mdns('input')),
      firewallLack('mdns-out', 'what this machine announces is dropped', () => mdns('output')),
    ],
  ),
];
