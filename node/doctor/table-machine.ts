import { BWRAP_MIN, KERNEL_MIN } from '../sandbox/probe.ts';
import type { Facts } from './facts.ts';
import { type Check, checkOf, type Lack } from './finding.ts';
import { repairLines } from './repair.ts';

const NODE_MIN = [22, 18] as const;
const GIT_MIN = [2, 36] as const;
const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
/** Below this a data folder cannot even be made and written. */
const JOIN_BYTES = 16 * MiB;
/** Below this no task of any use fits. */
const TASK_BYTES = 512 * MiB;
/** What a task's workspace may take by default. */
const WORKSPACE_BYTES = 8 * GiB;
/** The program is younger than this: a clock before it is wrong. */
const BORN_MS = Date.UTC(2025, 0, 1);

const atLeast = (version: string, [major, minor]: readonly [number, number]): boolean => {
  const [is = 0, part = 0] = version.split('.').map((digits) => Number.parseInt(digits, 10));
  return is > major || (is === major && part >= minor);
};

const gib = (bytes: number): string =>
  bytes < GiB ? `${Math.floor(bytes / MiB)} MiB` : `${(bytes / GiB).toFixed(1)} GiB`;

/** The command that mends a finding here, and who would run it. */
const mend = (finding: string, { means, bin }: Facts, otherwise: string): string => {
  const lines = repairLines(finding, means);
  return lines === null ? otherwise : `${lines}\nor let it be done: ${bin} doctor --fix`;
};

/** What the trial of the sandbox may find; what each means is told by the trial itself (`sandbox/probe.ts`). */
const SANDBOX_LACKS = [
  'platform',
  'bubblewrap-missing',
  'bubblewrap-old',
  'prlimit-missing',
  'kernel-old',
  'apparmor',
  'userns-clone',
  'userns-max',
  'architecture',
  'container',
  'not-tight',
  'broke-off',
  'not-started',
].map((name): Lack<Facts['sandbox']> => {
  const finding = `sandbox/${name}`;
  const of = ({ lacks }: Facts['sandbox']) => lacks.filter((lack) => lack.finding === finding);
  // That it does not start is no news where a reason is known.
  const explained = ({ lacks }: Facts['sandbox']): boolean =>
    name === 'not-started' && lacks.some((lack) => lack.finding !== finding);
  return {
    finding,
    status: 'fail',
    stops: 'tasks',
    when: (report) => of(report).length > 0 && !explained(report),
    what: (report) =>
      of(report)
        .map(({ what }) => what)
        .join('; '),
    how: (report, facts) => mend(finding, facts, of(report)[0]?.remedy ?? 'run it again'),
  };
});

export const MACHINE_CHECKS: readonly Check[] = [
  checkOf(
    'node',
    'the program runs its TypeScript as it is',
    ({ node }) => node,
    (version) => `Node ${version}`,
    [
      {
        finding: 'node/old',
        status: 'fail',
        stops: 'joining',
        code: 'SF_NODE_VERSION',
        when: (version) => !atLeast(version, NODE_MIN),
        what: (version) => `Node ${version} is too old`,
        how: () =>
          `install Node ${NODE_MIN.join('.')} or newer from nodejs.org, or start scripts/mesh-node of a clone`,
      },
    ],
  ),
  checkOf(
    'sandbox',
    'a task runs in a sandbox or not at all',
    ({ sandbox }) => sandbox,
    ({ bwrap, kernel }) =>
      `bubblewrap ${bwrap} on Linux ${kernel}, system call filter in force (${BWRAP_MIN.join('.')} and ${KERNEL_MIN.join('.')} are needed)`,
    SANDBOX_LACKS,
  ),
  checkOf(
    'limits',
    'a watched limit is seen a moment late; one held by a cgroup cannot be passed',
    ({ sandbox }) => (sandbox.works ? sandbox : null),
    ({ limitKinds: { memory, processes, disk } }, { user }) =>
      user.account !== null && memory !== 'cgroup'
        ? 'cgroups, which the node prepares as root'
        : `memory ${memory}, processes ${processes}, disk ${disk}`,
    [
      {
        finding: 'limits/watched',
        status: 'warn',
        when: ({ limitKinds: { memory, processes } }, { user }) =>
          user.account === null && (memory !== 'cgroup' || processes !== 'cgroup'),
        what: ({ limitKinds: { memory, processes, disk } }) =>
          `memory ${memory}, processes ${processes}, disk ${disk}`,
        how: () => 'start the node from a systemd unit with User= and Delegate=yes, or as root',
      },
    ],
  ),
  checkOf(
    'user',
    'nothing of a task runs as root',
    ({ user }) => user,
    ({ uid, account }) => (account === null ? `uid ${uid ?? '?'}, not root` : `root, drops to ${account}`),
    [],
  ),
  checkOf(
    'git',
    'tasks on repositories travel as git bundles',
    (facts) => ({ version: facts.git }),
    ({ version }) => `git ${version}`,
    [
      {
        finding: 'git/missing',
        status: 'fail',
        stops: 'tasks',
        when: ({ version }) => version === null,
        what: () => 'git is not installed where tasks find programs',
        how: (_, facts) => mend('git/missing', facts, 'install the package git of your distribution'),
      },
      {
        finding: 'git/old',
        status: 'fail',
        stops: 'tasks',
        when: ({ version }) => version !== null && !atLeast(version, GIT_MIN),
        what: ({ version }) => `git ${version} is too old`,
        how: () => `upgrade the distribution, or install git ${GIT_MIN.join('.')} or newer`,
      },
    ],
  ),
  checkOf(
    'tools',
    'a task finds what is installed under /usr, nothing from anybody’s home',
    ({ tools }) => tools,
    (tools) => namesOf(tools).join(', '),
    [
      {
        finding: 'tools/none',
        status: 'warn',
        when: (tools) => namesOf(tools).length === 0,
        what: () => 'no tools that tasks may ask for by name',
        how: () => 'install what your tasks need from the distribution’s packages',
      },
    ],
  ),
  checkOf(
    'models',
    'coding goals need a model somewhere in the mesh; commands do not',
    ({ models }) => models,
    (models) =>
      models.map((server) => `${server.name}: ${server.models.join(', ') || 'no models'}`).join('; '),
    [
      {
        finding: 'models/none',
        status: 'warn',
        when: (models) => models.length === 0,
        what: () => 'no model server answers on 127.0.0.1',
        how: () => 'install Ollama and pull a model, or leave it to another member',
      },
    ],
  ),
  checkOf(
    'folder',
    'keys, results and what is being worked on lie in the data folder',
    ({ folder }) => folder,
    ({ path }) => path,
    [
      {
        finding: 'folder/not-writable',
        status: 'fail',
        stops: 'joining',
        code: 'SF_FOLDER',
        when: ({ fault }) => fault !== null,
        what: ({ path, fault }) => `${path}: ${fault}`,
        how: () => 'make it yours with chown, or name another folder: --dir PATH',
      },
    ],
  ),
  checkOf(
    'disk',
    `a task’s workspace may take ${gib(WORKSPACE_BYTES)} by default`,
    (facts) => ({ free: facts.diskFreeBytes }),
    ({ free }) => (free === null ? 'free space unknown' : `${gib(free)} free`),
    [
      {
        finding: 'disk/full',
        status: 'fail',
        stops: 'joining',
        code: 'SF_DISK_FULL',
        when: ({ free }) => free !== null && free < JOIN_BYTES,
        what: ({ free }) => `${gib(free ?? 0)} free: the data folder cannot be written`,
        how: (_, { folder }) => `free some (see df -h ${folder.path}), or use another disk: --dir PATH`,
      },
      {
        finding: 'disk/little',
        status: 'fail',
        stops: 'tasks',
        when: ({ free }) => free !== null && free >= JOIN_BYTES && free < TASK_BYTES,
        what: ({ free }) => `${gib(free ?? 0)} free: too little for any task`,
        how: (_, { folder }) => `free some (see df -h ${folder.path}), or use another disk: --dir PATH`,
      },
      {
        finding: 'disk/tight',
        status: 'warn',
        when: ({ free }) => free !== null && free >= TASK_BYTES && free < WORKSPACE_BYTES,
        what: ({ free }) => `${gib(free ?? 0)} free: large tasks will not fit`,
        how: () => 'free some, or put the data folder on another disk with --dir',
      },
    ],
  ),
  checkOf(
    'clock',
    'times in the log and expiry of invites are the founder’s clock; leases do not depend on it',
    ({ clock }) => clock,
    (now) => new Date(now).toISOString(),
    [
      {
        finding: 'clock/wrong',
        status: 'warn',
        when: (now) => now < BORN_MS,
        what: (now) => `${new Date(now).toISOString()} is before this program was made`,
        how: () => 'set the time: sudo timedatectl set-ntp true',
      },
    ],
  ),
];

const namesOf = (tools: Record<string, string>): string[] =>
  Object.entries(tools).map(([name, version]) => `${name} ${version}`);
