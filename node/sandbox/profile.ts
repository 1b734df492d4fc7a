import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { SandboxRun } from './types.ts';

/** A path the sandbox shows: as the link it is where that leads into `/usr`, which costs nothing; else as a mount. */
interface Shown {
  path: string;
  link: string | null;
}

/** What of this machine the sandbox shows; read once, so that a start costs no look at the disk. */
export interface HostLayout {
  /** `/bin`, `/lib` … */
  roots: Shown[];
  /** Files and folders of `/etc` that programs need and that say nothing about the owner. */
  etc: Shown[];
  /** Folders that the owner shows besides. */
  readOnly: readonly string[];
  /** Programs in those, for PATH. */
  programs: string[];
}

/** Each mount costs a start about 0.15 ms: what only packaging tools or logins need is left out. */
const ETC = [
  'alternatives',
  'ld.so.cache',
  'localtime',
  'os-release',
  'pki/ca-trust/extracted',
  'pki/tls/certs',
  'protocols',
  'services',
  'ssl/certs',
  'ssl/openssl.cnf',
];
/** Debian keeps parts of each Java home in `/etc/java-N-openjdk`. */
const JAVA = /^java-[\w.-]+$/;

/** Folders of one toolchain in a folder of several. */
const TOOLCHAINS_MAX = 64;

/** `bin` of a toolchain, and of each in a folder of toolchains. */
function programsOf(folder: string): string[] {
  let inner: string[] = [];
  try {
    inner = readdirSync(folder).sort().slice(0, TOOLCHAINS_MAX);
  } catch {
    // It is not there now, or its names are closed to us.
  }
  return ['bin', ...inner.map((name) => `${name}/bin`)]
    .map((path) => `${folder}/${path}`)
    .filter((path) => !path.includes(':') && existsSync(path));
}

/** `readOnly`: see `SandboxOptions`. */
export function readHostLayout(readOnly: readonly string[] = []): HostLayout {
  const java = readdirSync('/etc').filter((name) => JAVA.test(name));
  return {
    roots: ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'].flatMap(shown),
    etc: [...ETC, ...java].flatMap((name) => shown(`/etc/${name}`)),
    readOnly,
    programs: readOnly.flatMap(programsOf),
  };
}

function shown(path: string): Shown[] {
  if (!existsSync(path)) return [];
  const link = lstatSync(path).isSymbolicLink() ? resolve(dirname(path), readlinkSync(path)) : null;
  return [{ path, link: link?.startsWith('/usr/') ? link : null }];
}

/** Descriptors of the child's stdio array: the gate is the task's wrapper's, the others are read by bwrap. */
export const FD = {
  gate: 3,
  args: 4,
  seccomp: 5,
  status: 6,
  passwd: 7,
  group: 8,
  hosts: 9,
  nsswitch: 10,
  stdin: 11,
} as const;
export const FD_LAST = FD.stdin;

export const SANDBOX_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin';
export const SANDBOX_HOME = '/home/sandbox';
/** A file, so that a task may open its `/dev/stdin` by name, which would wait for ever with a FIFO. */
const STDIN = '/run/stdin';
const SHARED_MEMORY_BYTES_MAX = 256 * 1024 * 1024;
/** A run whose folders in memory were smaller than this could not compile a hello world. */
const TMPFS_BYTES_MIN = 16 * 1024 * 1024;

/** Contents of the few files of `/etc` that are the sandbox's own: they name nobody of this machine. */
export function ownFiles(uid: number, gid: number): { fd: number; path: string; text: string }[] {
  return [
    {
      fd: FD.passwd,
      path: '/etc/passwd',
      text: `sandbox:x:${uid}:${gid}:sandbox:${SANDBOX_HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`,
    },
    { fd: FD.group, path: '/etc/group', text: `sandbox:x:${gid}:\nnogroup:x:65534:\n` },
    { fd: FD.hosts, path: '/etc/hosts', text: '127.0.0.1 localhost sandbox\n::1 localhost sandbox\n' },
    { fd: FD.nsswitch, path: '/etc/nsswitch.conf', text: 'passwd: files\ngroup: files\nhosts: files\n' },
  ];
}

/**
 * bwrap's options for one run, without the command. Everything but the mounts of the run is read-only or private
 * and sized; the root and `/dev` are in memory and would be unbounded, so they are made read-only at the end.
 */
export function bwrapOptions(layout: HostLayout, run: SandboxRun, uid: number, gid: number): string[] {
  const tmpfsBytes = Math.max(TMPFS_BYTES_MIN, Math.floor(run.limits.memoryBytes / 2));
  const shmBytes = Math.min(SHARED_MEMORY_BYTES_MAX, tmpfsBytes);
  const tmpfs = (path: string, mode: string, bytes: number): string[] => [
    '--perms',
    mode,
    '--size',
    String(bytes),
    '--tmpfs',
    path,
  ];
  const options = [
    '--unshare-all',
    '--unshare-user',
    '--disable-userns',
    '--new-session',
    '--die-with-parent',
    '--cap-drop',
    'ALL',
    '--hostname',
    'sandbox',
    '--seccomp',
    String(FD.seccomp),
    '--json-status-fd',
    String(FD.status),
    '--ro-bind',
    '/usr',
    '/usr',
  ];
  options.push('--perms', '0755', '--dir', '/etc');
  for (const { path, link } of [...layout.roots, ...layout.etc]) {
    options.push(...(link === null ? ['--ro-bind-try', path, path] : ['--symlink', link, path]));
  }
  for (const { fd, path } of ownFiles(uid, gid)) options.push('--perms', '0444', '--file', String(fd), path);
  if (run.stdin instanceof Uint8Array) options.push('--perms', '0444', '--file', String(FD.stdin), STDIN);
  options.push('--dev', '/dev', ...tmpfs('/dev/shm', '1777', shmBytes), '--remount-ro', '/dev');
  options.push('--proc', '/proc', ...tmpfs('/tmp', '1777', tmpfsBytes), '--perms', '0755', '--dir', '/home');
  options.push(...tmpfs(SANDBOX_HOME, '0700', tmpfsBytes));
  options.push('--perms', '0755', '--dir', '/var', '--symlink', '/tmp', '/var/tmp');
  for (const path of layout.readOnly) options.push('--ro-bind-try', path, path);
  for (const { from, to, writable } of run.mounts) options.push(writable ? '--bind' : '--ro-bind', from, to);
  options.push('--remount-ro', '/', '--chdir', run.cwd);
  const env = {
    ...run.env,
    PATH: [...programFolders(run), SANDBOX_PATH, ...layout.programs].join(':'),
    HOME: SANDBOX_HOME,
  };
  options.push('--clearenv');
  for (const [name, value] of Object.entries(env)) options.push('--setenv', name, value);
  return options;
}

const programFolders = ({ mounts }: SandboxRun): string[] =>
  mounts.flatMap(({ to, programs }) => (programs === undefined ? [] : [`${to}/${programs}`]));

/**
 * The gate, in the sandbox's shell without a fork: it waits until init's filter is in force, which bwrap loads right
 * after init has bound its life to its parent's; says so; and goes on only when the node answers. If the node or bwrap
 * died meanwhile, the answer never comes and nothing of the task has run.
 */
const GATE = `ok=
until [ -n "$ok" ]; do
  while read -r name value; do [ "$name$value" = Seccomp:2 ] && ok=1; done </proc/1/status
done
echo ready >&${FD.gate}
read -r go <&${FD.gate} || exit 125
exec ${FD.gate}<&-
[ ! -e ${STDIN} ] || exec <${STDIN}
umask 022
unset PWD OLDPWD SHLVL ok name value go
exec "$@"`;

/** Ceilings of this machine: a limit above them would be refused, not lowered. */
export interface Ceilings {
  processes: number;
  fileBytes: number;
  openFiles: number;
}

/** Files one process may have open. Programs that close "all" descriptors loop over this. */
const OPEN_FILES_MAX = 65_536;
/** The limit most programs expect to start with; they may raise it themselves. */
const OPEN_FILES_SOFT = 1024;

/**
 * The command bwrap runs: gate, then limits, then argv. Limits are set in here because they count per user and user
 * namespace; `prlimit` answers 127 for a program that is not there and 126 for one that can't be run.
 */
export function wrappedCommand(run: SandboxRun, ceilings: Ceilings): string[] {
  const openFiles = Math.min(OPEN_FILES_MAX, ceilings.openFiles);
  const limits = [
    `--nproc=${Math.min(run.limits.processes, ceilings.processes)}`,
    `--nofile=${Math.min(OPEN_FILES_SOFT, openFiles)}:${openFiles}`,
    '--core=0',
  ];
  if (run.limits.diskBytes !== null) {
    limits.push(`--fsize=${Math.min(run.limits.diskBytes, ceilings.fileBytes)}`);
  }
  // What sets the limits is not looked for among programs that came with a task.
  const prlimit = programFolders(run).length === 0 ? 'prlimit' : '/usr/bin/prlimit';
  return ['/bin/sh', '-c', GATE, 'sh', prlimit, ...limits, '--', ...run.argv];
}
