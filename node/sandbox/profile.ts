import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import type { SandboxRun } from './types.ts';

/** What of this machine the sandbox shows; read once, so that a start costs no look at the disk. */
export interface HostLayout {
  /** `/bin`, `/lib` …: where they are links into `/usr`, their targets; otherwise null, and the folder is shown. */
  roots: { path: string; link: string | null }[];
  /** Files and folders of `/etc` that programs need and that say nothing about the owner. */
  etc: string[];
}

/** Names of `/etc` that are shown when they exist: loader, alternatives, certificates, time zone, port names. */
const ETC = [
  'alternatives',
  'ca-certificates',
  'debian_version',
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'localtime',
  'mime.types',
  'os-release',
  'perl',
  'pki/tls/certs',
  'pki/ca-trust/extracted',
  'protocols',
  'python3',
  'python3.11',
  'services',
  'ssl/certs',
  'ssl/openssl.cnf',
  'timezone',
];
/** Debian keeps parts of each Java home in `/etc/java-N-openjdk`. */
const JAVA = /^java-[\w.-]+$/;

export function readHostLayout(): HostLayout {
  const roots = ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'].flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    return [{ path, link: stat.isSymbolicLink() ? readlinkSync(path).replace(/^\//, '') : null }];
  });
  const java = readdirSync('/etc').filter((name) => JAVA.test(name));
  const etc = [...ETC, ...java].map((name) => `/etc/${name}`).filter((path) => existsSync(path));
  return { roots, etc };
}

/** Descriptors bwrap reads from; the numbers are those of the child's stdio array. */
export const FD = { args: 3, seccomp: 4, status: 5, passwd: 6, group: 7, hosts: 8, nsswitch: 9 } as const;

export const SANDBOX_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin';
export const SANDBOX_HOME = '/home/sandbox';
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
  for (const { path, link } of layout.roots) {
    options.push(...(link === null ? ['--ro-bind', path, path] : ['--symlink', link, path]));
  }
  options.push('--perms', '0755', '--dir', '/etc');
  for (const path of layout.etc) options.push('--ro-bind-try', path, path);
  for (const { fd, path } of ownFiles(uid, gid)) options.push('--perms', '0444', '--file', String(fd), path);
  options.push('--dev', '/dev', ...tmpfs('/dev/shm', '1777', shmBytes), '--remount-ro', '/dev');
  options.push('--proc', '/proc', ...tmpfs('/tmp', '1777', tmpfsBytes), '--perms', '0755', '--dir', '/home');
  options.push(...tmpfs(SANDBOX_HOME, '0700', tmpfsBytes), '--symlink', '/tmp', '/var/tmp');
  for (const { from, to, writable } of run.mounts) options.push(writable ? '--bind' : '--ro-bind', from, to);
  options.push('--remount-ro', '/', '--chdir', run.cwd);
  const env = { ...run.env, PATH: SANDBOX_PATH, HOME: SANDBOX_HOME };
  options.push('--clearenv');
  for (const [name, value] of Object.entries(env)) options.push('--setenv', name, value);
  return options;
}
