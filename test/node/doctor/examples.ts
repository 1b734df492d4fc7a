import type { Facts, FounderFacts } from '../../../node/doctor/facts.ts';
import { fromIptables } from '../../../node/doctor/firewall.ts';
import type { Heard, MulticastFacts } from '../../../node/doctor/multicast.ts';
import type { Reach, ReachOutcome } from '../../../node/doctor/reach.ts';
import { findReasons, type Facts as SandboxFacts } from '../../../node/sandbox/probe.ts';

/** A Debian machine, used by somebody who may sudo, on which nothing lacks. */
export const fine: Facts = {
  bin: 'mesh-node',
  node: '24.21.0',
  user: { uid: 1000, account: null },
  sandbox: {
    works: true,
    limitKinds: { memory: 'cgroup', processes: 'cgroup', disk: 'watched' },
    bwrap: '0.8.0',
    kernel: '6.1.0',
    lacks: [],
  },
  git: '2.39.5',
  tools: { git: '2.39.5' },
  models: [{ name: 'Ollama', models: ['small:1b'] }],
  folder: { path: '/home/ada/.local/share/superfleet', fault: null },
  diskFreeBytes: 100 * 2 ** 30,
  clock: Date.UTC(2026, 0, 2),
  multicast: {
    interfaces: [{ name: 'eth0', address: '192.168.1.7', fault: null }],
    portTaken: false,
    heard: [],
  },
  port: null,
  founder: null,
  firewall: { manager: null, ruleset: { nftables: [] } },
  means: { manager: 'apt-get', elevate: 'sudo', listsMissing: false, profile: null },
};

const linux: SandboxFacts = {
  platform: 'linux',
  arch: 'x64',
  bwrap: '0.8.0',
  kernel: '6.1.0',
  prlimit: true,
  apparmorRestricts: null,
  usernsClone: null,
  maxUserNamespaces: '1000',
  container: false,
};

const notStarted = {
  finding: 'sandbox/not-started',
  what: 'it does not start',
  remedy: 'run `mesh-node doctor`',
};

/** No sandbox, for the reasons that these facts give besides that it does not start. */
const unsandboxed = (changed: Partial<SandboxFacts>): Partial<Facts> => ({
  sandbox: { ...fine.sandbox, works: false, lacks: [...findReasons({ ...linux, ...changed }), notStarted] },
});
const tried = (finding: string, what: string, remedy: string): Partial<Facts> => ({
  sandbox: { ...fine.sandbox, works: false, lacks: [{ finding, what, remedy }] },
});

export const home = { id: 'a'.repeat(64), name: 'home' };
const place = (outcome: ReachOutcome, mesh: Reach['mesh'] = null): FounderFacts => ({
  mesh: null,
  places: [{ place: '192.168.1.10:4701', port: 4701, outcome, mesh }],
});
const multicast = (changed: Partial<MulticastFacts>): Partial<Facts> => ({
  multicast: { ...fine.multicast!, ...changed },
});
const deaf = {
  name: 'eth0',
  address: '192.168.1.7',
  fault: 'what it sends to 224.0.0.251:5353 does not come back',
};
export const heard = (as: Heard['as'], from: string, mesh: Heard['mesh'] = null): Heard => ({
  from,
  as,
  peer: null,
  addresses: [],
  mesh,
});

const drop = (hook: string, protocol: string, port: number): Facts['firewall'] => ({
  manager: 'nft',
  ruleset: {
    nftables: [
      { table: { family: 'inet', name: 'filter' } },
      {
        chain: {
          family: 'inet',
          table: 'filter',
          name: hook,
          type: 'filter',
          hook,
          prio: 0,
          policy: 'accept',
        },
      },
      {
        rule: {
          family: 'inet',
          table: 'filter',
          chain: hook,
          expr: [
            { match: { op: '==', left: { payload: { protocol, field: 'dport' } }, right: port } },
            { drop: null },
          ],
        },
      },
    ],
  },
});

/** For each finding the facts that lead to it; what is not said is as on a machine where nothing lacks. */
export const EXAMPLES: Readonly<Record<string, Partial<Facts>>> = {
  'node/old': { node: '20.20.2' },
  'sandbox/platform': unsandboxed({ platform: 'darwin' }),
  'sandbox/bubblewrap-missing': unsandboxed({ bwrap: null }),
  'sandbox/bubblewrap-old': unsandboxed({ bwrap: '0.4.1' }),
  'sandbox/prlimit-missing': unsandboxed({ prlimit: false }),
  'sandbox/kernel-old': unsandboxed({ kernel: '5.10.0' }),
  'sandbox/apparmor': unsandboxed({ apparmorRestricts: '1' }),
  'sandbox/userns-clone': unsandboxed({ usernsClone: '0' }),
  'sandbox/userns-max': unsandboxed({ maxUserNamespaces: '0' }),
  'sandbox/architecture': unsandboxed({ arch: 'riscv64' }),
  'sandbox/container': unsandboxed({ container: true }),
  'sandbox/not-tight': tried(
    'sandbox/not-tight',
    'inside the sandbox this does not hold: usr is read only',
    'no tasks run here; report it, with the versions of bubblewrap and of the kernel',
  ),
  'sandbox/broke-off': tried('sandbox/broke-off', 'the trial run broke off: killed', 'run it again'),
  'sandbox/not-started': tried(
    'sandbox/not-started',
    'the sandbox could not be set up: bwrap: Creating new namespace failed',
    'report it, with the versions of bubblewrap and of the kernel',
  ),
  'limits/watched': {
    sandbox: { ...fine.sandbox, limitKinds: { memory: 'watched', processes: 'nproc', disk: 'watched' } },
  },
  'git/missing': { git: null },
  'git/old': { git: '2.30.2' },
  'tools/none': { tools: {} },
  'models/none': { models: [] },
  'folder/not-writable': { folder: { path: '/srv/mesh', fault: 'this user may not write there' } },
  'disk/full': { diskFreeBytes: 2 ** 20 },
  'disk/little': { diskFreeBytes: 100 * 2 ** 20 },
  'disk/tight': { diskFreeBytes: 2 ** 30 },
  'clock/wrong': { clock: 0 },
  'multicast/no-interface': multicast({ interfaces: [] }),
  'multicast/port-taken': multicast({
    portTaken: true,
    interfaces: [{ ...deaf, fault: 'bind EADDRINUSE 0.0.0.0:5353' }],
  }),
  'multicast/not-heard': {
    ...multicast({ interfaces: [deaf] }),
    firewall: { manager: 'ufw', ruleset: null },
  },
  'multicast/founder-not-heard': { founder: place('answers', home) },
  'port/taken': {
    bin: 'mesh-hub',
    port: { port: 4701, fault: 'EADDRINUSE', holder: place('another-program').places[0]! },
  },
  'port/not-openable': { bin: 'mesh-hub', port: { port: 80, fault: 'EACCES', holder: null } },
  'founder/refused': { founder: place('refused') },
  'founder/filtered': { founder: place('filtered') },
  'founder/no-machine': { founder: place('no-machine') },
  'founder/no-route': { founder: place('no-route') },
  'founder/another-program': { founder: place('another-program') },
  'founder/silent': { founder: place('silent') },
  'founder/no-name': { founder: place('no-name') },
  'founder/no-address': { founder: place('no-address') },
  'founder/another-mesh': { founder: place('another-mesh', { id: 'b'.repeat(64), name: 'lab' }) },
  'founder/no-founder': { founder: place('no-founder') },
  'firewall/founder-in': {
    bin: 'mesh-hub',
    port: { port: 4701, fault: null, holder: null },
    firewall: drop('input', 'tcp', 4701),
  },
  'firewall/founder-out': { firewall: drop('output', 'tcp', 4701) },
  'firewall/mdns-in': {
    firewall: { manager: 'iptables', ruleset: fromIptables('-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n') },
  },
  'firewall/mdns-out': { firewall: drop('output', 'udp', 5353) },
};
