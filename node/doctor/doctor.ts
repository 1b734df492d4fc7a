import { createServer } from 'node:net';
import { defaultPort } from '../config.ts';
import { dropPrivileges } from '../privileges.ts';
import { createSandbox } from '../sandbox/bubblewrap.ts';
import { probe, type SandboxReport } from '../sandbox/probe.ts';
import { diskFree } from './capacity.ts';
import { check, type DoctorCheck } from './check.ts';
import { modelServers } from './models.ts';
import { multicastInterfaces } from './multicast.ts';
import { reachFounder } from './reach.ts';
import { toolVersions } from './tools.ts';

export interface DoctorOptions {
  dir: string;
  /** Multiaddr or `host:port` to try. @default null: none is tried */
  founder?: string | null;
  /** The port a founder on this machine would listen on. @default 4701 */
  port?: number;
  /** @default never aborted */
  signal?: AbortSignal;
}

const GIT_MIN = [2, 36] as const;
const NODE_MIN = [22, 18] as const;
const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

/**
 * Can this machine work, what was found, and what to do about each lack. Looks and tries, changes nothing. Started as
 * root it first becomes the user that the node would become, for good: nothing else would be the truth about it.
 */
export async function runDoctor(options: DoctorOptions): Promise<DoctorCheck[]> {
  const { dir, founder = null, port = defaultPort, signal } = options;
  const wasRoot = process.getuid?.() === 0;
  const account = await dropPrivileges();
  const sandbox = createSandbox();
  const report = await probe(sandbox, signal);
  const [tools, models, multicast, portCheck, reach] = await Promise.all([
    report.works ? toolVersions(sandbox, signal) : Promise.resolve(null),
    modelServers(),
    multicastCheck(),
    founderPort(port),
    founder === null ? null : reachFounder(founder, signal),
  ]);
  return [
    nodeVersion(process.versions.node),
    sandboxCheck(report),
    seccompCheck(report),
    limitsCheck(report, wasRoot),
    check({
      name: 'user',
      status: 'ok',
      found:
        account === null ? `uid ${process.getuid?.() ?? '?'}, not root` : `root, drops to ${account.name}`,
      why: 'nothing of a task runs as root',
    }),
    gitCheck(tools),
    toolsCheck(tools),
    check({
      name: 'models',
      status: models.length > 0 ? 'ok' : 'warn',
      found:
        models.map((server) => `${server.name}: ${server.models.join(', ') || 'no models'}`).join('; ') ||
        'no model server on 127.0.0.1',
      why: 'coding goals need a model somewhere in the mesh; commands do not',
      fix: 'install Ollama and pull a model, or leave it to another member',
    }),
    multicast,
    portCheck,
    ...(reach === null ? [] : [reach]),
    diskCheck(diskFree(dir)),
    clockCheck(Date.now()),
  ];
}

const atLeast = (version: string, [major, minor]: readonly [number, number]): boolean => {
  const [is = 0, part = 0] = version.split('.').map((digits) => Number.parseInt(digits, 10));
  return is > major || (is === major && part >= minor);
};

/** Pure. */
export const nodeVersion = (version: string): DoctorCheck =>
  check({
    name: 'Node',
    status: atLeast(version, NODE_MIN) ? 'ok' : 'fail',
    found: version,
    why: 'the program runs its TypeScript as it is',
    fix: `install Node ${NODE_MIN.join('.')} or newer`,
  });

/** Pure. */
export function sandboxCheck(report: SandboxReport): DoctorCheck {
  const found = report.works
    ? `bubblewrap ${report.bwrap} on Linux ${report.kernel}`
    : report.lacks.map(({ what }) => what).join('; ');
  return check({
    name: 'sandbox',
    status: report.works ? 'ok' : 'fail',
    found,
    why: 'a task runs in a sandbox or not at all',
    fix: report.lacks.map(({ remedy }) => remedy).join('\n'),
  });
}

function seccompCheck(report: SandboxReport): DoctorCheck {
  return check({
    name: 'seccomp',
    status: report.works ? 'ok' : 'fail',
    found: report.works ? `filter in force (${process.arch})` : 'not tried: no sandbox',
    why: 'keeps tasks from the parts of the kernel that have let tasks out before',
    fix: 'mend the sandbox first',
  });
}

/** Pure. */
export function limitsCheck(
  { limitKinds }: Pick<SandboxReport, 'limitKinds'>,
  wasRoot: boolean,
): DoctorCheck {
  const { memory, processes, disk } = limitKinds;
  const held = memory === 'cgroup' && processes === 'cgroup';
  return check({
    name: 'limits',
    status: held || wasRoot ? 'ok' : 'warn',
    found:
      wasRoot && !held
        ? 'cgroups, which the node prepares as root'
        : `memory ${memory}, processes ${processes}, disk ${disk}`,
    why: 'a watched limit is seen a moment late; one held by a cgroup cannot be passed',
    fix: 'start the node from a systemd unit with User= and Delegate=yes, or as root',
  });
}

function gitCheck(tools: Record<string, string> | null): DoctorCheck {
  const version = tools?.git;
  return check({
    name: 'git',
    status: version !== undefined && atLeast(version, GIT_MIN) ? 'ok' : tools === null ? 'warn' : 'fail',
    found: version ?? (tools === null ? 'not asked: tools run in the sandbox only' : 'not found in /usr'),
    why: 'tasks on repositories travel as git bundles',
    fix: `install git ${GIT_MIN.join('.')} or newer: sudo apt install git`,
  });
}

function toolsCheck(tools: Record<string, string> | null): DoctorCheck {
  const names = Object.entries(tools ?? {}).map(([name, version]) => `${name} ${version}`);
  return check({
    name: 'tools',
    status: names.length > 0 ? 'ok' : 'warn',
    found: names.join(', ') || (tools === null ? 'not asked: they run in the sandbox only' : 'none'),
    why: 'a task finds what is installed under /usr, nothing from anybody’s home',
    fix: 'install what your tasks need from the distribution’s packages',
  });
}

async function multicastCheck(): Promise<DoctorCheck> {
  const faces = await multicastInterfaces();
  const works = faces.filter(({ fault }) => fault === null);
  const faults = faces.filter(({ fault }) => fault !== null);
  return check({
    name: 'multicast',
    status: works.length > 0 ? 'ok' : 'warn',
    found:
      [
        works.length > 0 ? `works on ${works.map(({ name }) => name).join(', ')}` : '',
        ...faults.map(({ name, fault }) => `${name}: ${fault}`),
      ]
        .filter(Boolean)
        .join('; ') || 'no network interface',
    why: 'founders and members find each other by mDNS; access points may still keep it from other machines',
    fix: 'allow UDP 5353 in the firewall, or join by token or with --founder ADDRESS',
  });
}

/** A founder listens on one fixed port; whoever has it now is told apart only by name. */
export async function founderPort(port: number): Promise<DoctorCheck> {
  const server = createServer();
  const fault = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once('error', resolve);
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => resolve(null));
  });
  if (fault === null) await new Promise<void>((resolve) => server.close(() => resolve()));
  return check({
    name: 'founder’s port',
    status: fault === null ? 'ok' : 'warn',
    found:
      fault === null
        ? `${port} is free`
        : fault.code === 'EADDRINUSE'
          ? `${port} is in use`
          : `${port}: ${fault.message}`,
    why: 'only a founder needs it; in use is right where one runs already',
    fix: `where it is no founder: see who has it with \`ss -ltnp 'sport = :${port}'\`, or start with another --port`,
  });
}

/** Pure. */
export function diskCheck(freeBytes: number | null): DoctorCheck {
  const free = freeBytes ?? 0;
  return check({
    name: 'disk',
    status: free < 512 * MiB ? 'fail' : free < 8 * GiB ? 'warn' : 'ok',
    found: freeBytes === null ? 'unknown' : `${(free / GiB).toFixed(1)} GiB free`,
    why: 'a task’s workspace may take 8 GiB by default',
    fix: 'free some, or put the data folder on another disk with --dir',
  });
}

/** The program is younger than this: a clock before it is wrong. */
const BORN_MS = Date.UTC(2025, 0, 1);

/** Pure. Nothing is decided by wall clocks; invites and what people read are. */
export const clockCheck = (now: number): DoctorCheck =>
  check({
    name: 'clock',
    status: now >= BORN_MS ? 'ok' : 'warn',
    found: new Date(now).toISOString(),
    why: 'times in the log and expiry of invites are the founder’s clock; leases do not depend on it',
    fix: 'set the time: sudo timedatectl set-ntp true',
  });
