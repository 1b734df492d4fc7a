import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { markLine, type ServiceSpec, serviceName, startCommand } from './types.ts';

/** Since this version a restart may wait longer each time. */
const STEPS_SINCE = 254;
/** As long as `stop` waits: attempts are ended and told of, the log is synced. */
const STOP_S = 60;

/** One directive with the reason for it; without a value: the reason why it is not there. */
type Line = [why: string, directive: string, value?: string];

/**
 * The unit of a service, pure. `version`: of the systemd that will read it; null: not known, then only what all have
 * that run on the kernels we support (247). Throws `SF_USAGE` for a path that no unit can carry.
 */
export function systemdUnit(spec: ServiceSpec, version: number | null): string {
  const { bin, dir, scope, program, beside } = spec;
  for (const path of [dir, ...program, ...beside]) requirePlain(path);
  const system = scope === 'system';
  const sections: [string, Line[]][] = [
    ['Unit', unitLines(spec)],
    [
      'Service',
      [
        ...runLines(spec),
        ...restartLines(version),
        ...stopLines(),
        ...cgroupLines(),
        ...filterLines(),
        ...(system ? [...rootLines(), ...mountLines(spec)] : userLines()),
        ...unsetLines(),
      ],
    ],
    [
      'Install',
      [
        system
          ? ['brought up by every boot', 'WantedBy', 'multi-user.target']
          : [
              'brought up by the login, or by the boot with loginctl enable-linger',
              'WantedBy',
              'default.target',
            ],
      ],
    ],
  ];
  const edit = `systemctl ${system ? '' : '--user '}edit ${serviceName(bin)}`;
  return [
    `# Written by ${bin} service install, which writes it anew. Changes of your own: ${edit}`,
    `# ${markLine({ bin, dir })}`,
    ...sections.flatMap(([name, lines]) => ['', `[${name}]`, ...lines.flatMap(lineText)]),
    '',
  ].join('\n');
}

const lineText = ([why, directive, value]: Line): string[] =>
  value === undefined
    ? [`# ${directive} ${directive.includes(',') ? 'are' : 'is'} not set: ${why}`]
    : [`# ${why}`, `${directive}=${value}`];

function unitLines({ bin, dir, scope, beside, program }: ServiceSpec): Line[] {
  const what = bin === 'mesh-hub' ? 'founder of a mesh' : 'this machine works for a mesh';
  const places = [dir, ...beside, ...program].map((path) => quoted(path)).join(' ');
  const network: Line[] = [
    [
      'what listens and what mDNS hears depends on the interfaces that are there',
      'Wants',
      'network-online.target',
    ],
    ['the same', 'After', 'network-online.target'],
  ];
  return [
    ['shown by systemctl', 'Description', `Superfleet: ${what}`],
    ...(scope === 'system' ? network : []),
    ['data or program may lie on a disk that is mounted late', 'RequiresMountsFor', places],
    [
      'a machine that was given stays given, however often it had to be started',
      'StartLimitIntervalSec',
      '0',
    ],
  ];
}

function runLines(spec: ServiceSpec): Line[] {
  const [file = '', ...words] = startCommand(spec);
  return [
    [
      'Node has no datagram socket to notify by; the command that installs this waits for the API itself',
      'Type',
      'exec',
    ],
    // The colon: `$` stands for itself.
    [
      'the program that was asked to install this, by absolute path',
      'ExecStart',
      `:${[file, ...words].map((word) => quoted(word)).join(' ')}`,
    ],
    ['only this account reads what the process writes', 'UMask', '0077'],
  ];
}

function restartLines(version: number | null): Line[] {
  const { usage, refused, notProved, interrupted } = EXIT;
  const steps: Line[] =
    version !== null && version >= STEPS_SINCE
      ? [
          ['the first try comes soon', 'RestartSec', '2s'],
          ['and each one later than the one before', 'RestartSteps', '8'],
          ['up to this', 'RestartMaxDelaySec', '5min'],
        ]
      : [[`RestartSteps, which waits longer each time, needs systemd ${STEPS_SINCE}`, 'RestartSec', '15s']];
  return [
    ['exit 0 is a person’s stop or leave, and holds until the next boot or start', 'Restart', 'on-failure'],
    ...steps,
    [
      `what no restart mends: ${usage} wrong configuration or no data folder, ${refused} revoked or too old a version, ${notProved} damaged log; ${EXIT.machine} (disk full, port in use) may pass`,
      'RestartPreventExitStatus',
      `${usage} ${refused} ${notProved}`,
    ],
    ['a person ended it at once', 'SuccessExitStatus', String(interrupted)],
  ];
}

const stopLines = (): Line[] => [
  [
    'the process ends its tasks itself and tells of them; what is left after the time is killed',
    'KillMode',
    'mixed',
  ],
  ['stops in order', 'KillSignal', 'SIGTERM'],
  ['as long as stop waits', 'TimeoutStopSec', `${STOP_S}s`],
];

const cgroupLines = (): Line[] => [
  ['limits of a task’s whole tree: the process divides its own cgroup', 'Delegate', 'cpu memory pids'],
  ['a task at its memory limit must not take the service with it', 'OOMPolicy', 'continue'],
  ['each task has a limit of its own', 'TasksMax', 'infinity'],
];

/** Filters are inherited by tasks, so only what their sandbox refuses anyway: a task ends the same wherever it runs. */
const filterLines = (): Line[] => [
  ['nobody gains rights by a program; bubblewrap needs none', 'NoNewPrivileges', 'yes'],
  [
    'the families a task may have; NETLINK brings up the sandbox’s loopback',
    'RestrictAddressFamilies',
    'AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  ],
  ['the sandbox refuses other architectures too', 'SystemCallArchitectures', 'native'],
  ['what only root may do anyway', 'SystemCallFilter', '~@module @raw-io @reboot @swap'],
  ['and so fails as it does without the filter', 'SystemCallErrorNumber', 'EPERM'],
  ['unprivileged processes have no real-time scheduling anyway', 'RestrictRealtime', 'yes'],
];

const rootLines = (): Line[] => [
  [
    'User and DynamicUser are not set: the process opens its folder, prepares its cgroup, and drops to --user for good; these are the rights it takes',
    'CapabilityBoundingSet',
    'CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_SETGID CAP_SETUID',
  ],
  ['none is handed on', 'AmbientCapabilities', ''],
  ['nothing of a login’s keys', 'KeyringMode', 'private'],
];

function mountLines({ dir, beside, program }: ServiceSpec): Line[] {
  const used = [dir, ...beside, ...program];
  const within = (...roots: string[]): boolean =>
    used.some((path) => roots.some((root) => path === root || path.startsWith(`${root}/`)));
  const home = within('/home', '/root', '/run/user');
  const tmp = within('/tmp', '/var/tmp');
  const written = [dir, ...beside, ...(tmp ? ['/tmp'] : [])];
  return [
    ['what it mounts is its own', 'PrivateMounts', 'yes'],
    ['everything is read-only but /dev, /proc, /sys', 'ProtectSystem', 'strict'],
    ['and what it must write', 'ReadWritePaths', written.map((path) => quoted(path, '-')).join(' ')],
    home
      ? ['data or program lie in a home: nothing else there is written', 'ProtectHome', 'read-only']
      : ['nothing of it lies in a home', 'ProtectHome', 'yes'],
    tmp
      ? ['data or program lie in a temporary folder, so /tmp is shared and written', 'PrivateTmp']
      : ['sandboxes have a /tmp of their own, and so has the process', 'PrivateTmp', 'yes'],
    ['null, zero, random and terminals are all that bwrap’s --dev takes', 'PrivateDevices', 'yes'],
    ['hides /usr/lib/modules and refuses loading', 'ProtectKernelModules', 'yes'],
    ['refuses setting it', 'ProtectClock', 'yes'],
  ];
}

const userLines = (): Line[] => [
  [
    'in a user’s manager these need a user namespace of their own around the service, which some distributions refuse',
    'ProtectSystem, ProtectHome, PrivateTmp, PrivateDevices',
  ],
];

const unsetLines = (): Line[] => [
  ['bwrap makes user, mount, pid, net, ipc, uts and cgroup namespaces', 'RestrictNamespaces'],
  ['bwrap maps its own users, and the drop needs the host’s', 'PrivateUsers'],
  [
    'it would cover parts of /proc, and the kernel then refuses a sandbox its own',
    'ProtectKernelTunables, ProtectKernelLogs, ProcSubset',
  ],
  ['who lives is looked up in /proc', 'ProtectProc'],
  ['limits are written there', 'ProtectControlGroups'],
  ['it refuses bwrap’s --hostname', 'ProtectHostname'],
  ['V8 compiles to memory that is then run', 'MemoryDenyWriteExecute'],
  [
    'tasks would feel it: sanitizers switch address randomization off, repositories are shared by g+s',
    'LockPersonality, RestrictSUIDSGID',
  ],
  ['the mesh is the LAN, and nobody knows here which addresses a LAN has', 'IPAddressDeny, PrivateNetwork'],
];

/** A word as the unit file needs it: specifiers doubled, quotes where it has more than plain characters. */
function quoted(word: string, prefix = ''): string {
  const text = `${prefix}${word.replaceAll('%', '%%')}`;
  return /^[A-Za-z0-9_/.,:=@%+-]+$/.test(text) ? text : `"${text}"`;
}

/** The directives that take paths disagree about escapes, so that some characters have no form that all understand. */
function requirePlain(path: string): void {
  const bad = /["'\\]|\p{Cc}|^[^/]/u.exec(path)?.[0];
  if (bad === undefined) return;
  throw new SuperfleetError('SF_USAGE', `a systemd unit cannot carry the path ${JSON.stringify(path)}`, {
    expected: 'an absolute path without quotes, backslashes and control characters',
    got: JSON.stringify(bad),
    hint: 'move it to another folder; the data folder is named by --dir',
  });
}
