import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { LimitKinds } from '../../protocol/session.ts';
import { findProgram, noSandbox } from './host.ts';
import { seccompProgram } from './seccomp.ts';
import type { Sandbox } from './types.ts';

export const BWRAP_MIN = [0, 8] as const;
/** RLIMIT_NPROC counts per user namespace, and cgroup.kill exists, from here on. */
export const KERNEL_MIN = [5, 14] as const;

export interface Lack {
  /** Stable id of the finding, such as `sandbox/bubblewrap-missing`. */
  finding: string;
  /** What is missing, in one sentence. */
  what: string;
  /** What a person can do about it: a command, a file's contents, or a plain no. */
  remedy: string;
}

export interface SandboxReport {
  /** Tasks can run here: the real profile ran, and what it must refuse it refused. */
  works: boolean;
  limitKinds: LimitKinds;
  bwrap: string | null;
  kernel: string;
  lacks: Lack[];
}

const PROBE_MS = 10_000;

/**
 * Does this machine have a working sandbox? Runs the real profile once, with a task that tries what must fail, and
 * looks for the reason when it does not work. Never throws.
 */
export async function probe(sandbox: Sandbox, signal?: AbortSignal): Promise<SandboxReport> {
  const bwrap = bwrapVersion();
  const kernel = release();
  const elsewhere = process.platform !== 'linux';
  const lacks = elsewhere ? [] : await tryProfile(sandbox, signal);
  const works = !elsewhere && lacks.length === 0;
  if (!works && (elsewhere || process.getuid?.() !== 0))
    lacks.unshift(...findReasons(readFacts(bwrap, kernel)));
  // The trial run names what a fact has named already, in the same words.
  const distinct = lacks.filter(({ what }, at) => lacks.findIndex((lack) => lack.what === what) === at);
  return { works, limitKinds: sandbox.limitKinds, bwrap, kernel, lacks: distinct };
}

/** Each line is `name yes|no`; every one must say yes. `echo` and `read` are the shell's own. */
const SCRIPT = `
say() { if "$@" 2>/dev/null; then echo "$label no"; else echo "$label yes"; fi; }
label=usr-is-read-only; say touch /usr/.superfleet
label=root-is-read-only; say touch /.superfleet
label=proc-sys-is-read-only; say sh -c 'echo x > /proc/sys/kernel/core_pattern'
label=no-nested-namespaces; say unshare --user true
filter=no; while read -r name value; do [ "$name$value" = Seccomp:2 ] && filter=yes; done </proc/self/status
echo "system-calls-are-filtered $filter"
net=yes; while read -r name rest; do case "$name" in *:*) [ "\${name%%:*}" = lo ] || net=no;; esac; done </proc/net/dev
echo "no-network $net"
if echo x > /workspace/x; then echo "workspace-is-writable yes"; else echo "workspace-is-writable no"; fi
`;
const ANSWERS = 7;

async function tryProfile(sandbox: Sandbox, signal?: AbortSignal): Promise<Lack[]> {
  const workspace = mkdtempSync(join(tmpdir(), 'superfleet-probe-'));
  try {
    const run = sandbox.start(
      {
        argv: ['sh', '-c', SCRIPT],
        env: {},
        mounts: [{ from: workspace, to: '/workspace', writable: true }],
        cwd: '/workspace',
        limits: {
          memoryBytes: 256 * 1024 * 1024,
          processes: 32,
          diskBytes: 1024 * 1024,
          watchBytesIn: workspace,
          wallMs: PROBE_MS,
        },
        stdin: null,
      },
      signal ?? AbortSignal.timeout(PROBE_MS),
    );
    const [out, complaint] = [text(run.stdout), text(run.stderr)];
    const end = await run.ended.catch(async (thrown: unknown) => {
      const said = (await complaint).trim().slice(0, 300);
      throw said === ''
        ? thrown
        : noSandbox(`the sandbox could not be set up: ${said}`, 'run `mesh-node doctor`', thrown);
    });
    if (end.killedBy !== null) return [brokeOff(`the trial run was ended (${end.killedBy})`)];
    return judge(await out, await complaint);
  } catch (thrown) {
    const error = asSuperfleetError(thrown);
    return [
      {
        finding: 'sandbox/not-started',
        what: error.message,
        remedy: error.hint ?? 'run `mesh-node doctor`',
      },
    ];
  } finally {
    rmSync(workspace, { recursive: true, force: true });
  }
}

/** Pure: what the trial run's answers lack. */
export function judge(out: string, complaint: string): Lack[] {
  const answers = out.split('\n').filter((line) => / (yes|no)$/.test(line));
  if (answers.length !== ANSWERS) {
    return [brokeOff(`the trial run broke off: ${complaint.trim().slice(0, 300)}`)];
  }
  return answers
    .filter((line) => line.endsWith(' no'))
    .map((line) => ({
      finding: 'sandbox/not-tight',
      what: `inside the sandbox this does not hold: ${line.slice(0, -3).replaceAll('-', ' ')}`,
      remedy: 'no tasks run here; report it, with the versions of bubblewrap and of the kernel',
    }));
}

const brokeOff = (what: string): Lack => ({ finding: 'sandbox/broke-off', what, remedy: 'run it again' });

export interface Facts {
  platform: string;
  arch: string;
  bwrap: string | null;
  kernel: string;
  prlimit: boolean;
  /** Contents of sysctls; null where there is none. */
  apparmorRestricts: string | null;
  usernsClone: string | null;
  maxUserNamespaces: string | null;
  container: boolean;
}

function bwrapVersion(): string | null {
  const path = findProgram('bwrap');
  if (path === null) return null;
  const asked = spawnSync(path, ['--version'], { env: {}, encoding: 'utf8', timeout: 5_000 });
  return /(\d+\.\d+(?:\.\d+)*)/.exec(asked.stdout ?? '')?.[1] ?? 'unknown';
}

function readFacts(bwrap: string | null, kernel: string): Facts {
  const sysctl = (path: string): string | null => {
    try {
      return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
    } catch {
      return null;
    }
  };
  return {
    platform: process.platform,
    arch: process.arch,
    bwrap,
    kernel,
    prlimit: findProgram('prlimit') !== null,
    apparmorRestricts: sysctl('kernel/apparmor_restrict_unprivileged_userns'),
    usernsClone: sysctl('kernel/unprivileged_userns_clone'),
    maxUserNamespaces: sysctl('user/max_user_namespaces'),
    container: existsSync('/.dockerenv') || existsSync('/run/.containerenv'),
  };
}

const atLeast = (version: string, min: readonly number[]): boolean => {
  const parts = version.split(/[^\d]+/).map(Number);
  for (const [index, wanted] of min.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
};

/** Lets bwrap, and nothing else, make user namespaces where AppArmor keeps them from ordinary programs. */
export const APPARMOR_PROFILE_PATH = '/etc/apparmor.d/bwrap';
export const APPARMOR_PROFILE = `abi <abi/4.0>,
include <tunables/global>

profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
  include if exists <local/bwrap>
}
`;

/** Systems as people call them. */
const SYSTEMS: Readonly<Record<string, string>> = { darwin: 'macOS', win32: 'Windows' };

/** Pure: why a sandbox does not work, from the facts of a machine; the most likely first. */
export function findReasons(facts: Facts): Lack[] {
  const reasons: Lack[] = [];
  const lack = (missing: boolean, finding: string, what: string, remedy: string): void => {
    if (missing) reasons.push({ finding: `sandbox/${finding}`, what, remedy });
  };
  if (facts.platform !== 'linux') {
    return [
      {
        finding: 'sandbox/platform',
        what: `${SYSTEMS[facts.platform] ?? facts.platform} has no sandbox of equal strength`,
        remedy: 'this machine can operate, keep the log and serve models; tasks need Linux (WSL 2 will do)',
      },
    ];
  }
  lack(
    facts.bwrap === null,
    'bubblewrap-missing',
    'bubblewrap is not installed',
    'sudo apt install bubblewrap   (or: dnf install bubblewrap, pacman -S bubblewrap, apk add bubblewrap)',
  );
  lack(
    facts.bwrap !== null && !atLeast(facts.bwrap, BWRAP_MIN),
    'bubblewrap-old',
    `bubblewrap ${facts.bwrap} is too old: ${BWRAP_MIN.join('.')} can forbid nested user namespaces`,
    'upgrade the distribution, or install a newer bubblewrap',
  );
  lack(!facts.prlimit, 'prlimit-missing', '`prlimit` is not installed', 'sudo apt install util-linux');
  lack(
    !atLeast(facts.kernel, KERNEL_MIN),
    'kernel-old',
    `kernel ${facts.kernel} is too old: ${KERNEL_MIN.join('.')} counts processes per user namespace`,
    'upgrade the kernel',
  );
  lack(
    facts.apparmorRestricts === '1',
    'apparmor',
    'AppArmor keeps user namespaces from bubblewrap (kernel.apparmor_restrict_unprivileged_userns = 1)',
    `write this to /etc/apparmor.d/bwrap, then run: sudo apparmor_parser -r /etc/apparmor.d/bwrap\n${APPARMOR_PROFILE}`,
  );
  lack(
    facts.usernsClone === '0',
    'userns-clone',
    'unprivileged user namespaces are switched off (kernel.unprivileged_userns_clone = 0)',
    'echo kernel.unprivileged_userns_clone=1 | sudo tee /etc/sysctl.d/60-superfleet.conf && sudo sysctl --system',
  );
  lack(
    facts.maxUserNamespaces === '0',
    'userns-max',
    'no user namespaces are allowed (user.max_user_namespaces = 0)',
    'echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/60-superfleet.conf && sudo sysctl --system',
  );
  lack(
    seccompProgram(facts.arch) === null,
    'architecture',
    `there is no system call filter for ${facts.arch}`,
    'use a machine with x86-64 or arm64',
  );
  lack(
    facts.container && reasons.length === 0,
    'container',
    'this is a container, and its manager forbids namespaces inside by default',
    'run the node on the host; a member in a container can keep the log and serve models',
  );
  return reasons;
}
