import type { LimitKinds } from '../../protocol/session.ts';
import { findProgram, hardLimit, inheritedDescriptors, noSandbox } from './host.ts';
import { type CgroupSlots, delegatedCgroups } from './limits/cgroup.ts';
import { nicenessOf } from './niceness.ts';
import { PipePool } from './pipes.ts';
import { readHostLayout } from './profile.ts';
import { failedStart } from './refused.ts';
import { type Machine, startRun } from './run.ts';
import { seccompProgram } from './seccomp.ts';
import type { Sandbox, SandboxRun } from './types.ts';

export interface SandboxOptions {
  /**
   * What `prepareCgroups` gave while this process was root.
   * @default what a service manager delegated to this process, if anything
   */
  cgroups?: CgroupSlots;
  /**
   * Folders of this machine that every run sees at their own path, read-only. Programs in their `bin`, or in that of a folder in
   * them, are found by name where the system has none of that name. @default none
   */
  readOnly?: readonly string[];
  /** What runs get of the processor by their niceness where others want it too, 1 to 100 and more: as much as those. @default 100 */
  cpuWeight?: number;
  /** No run gets more memory than this, in bytes. @default what it asks for */
  memoryBytesMax?: number;
}

/**
 * The sandbox of this machine (design §7). A run started as root, without bwrap, or on an architecture without a
 * system call filter rejects `ended` with `SF_NO_SANDBOX`: there is no weaker way to run a task (promise 14).
 */
export function createSandbox(options: SandboxOptions = {}): Sandbox {
  const cgroups = options.cgroups ?? delegatedCgroups();
  const limitKinds: LimitKinds = {
    memory: cgroups.memory === null ? 'watched' : 'cgroup',
    processes: cgroups.pids === null ? 'nproc' : 'cgroup',
    disk: 'watched',
  };
  let machine: Machine | null = null;
  return {
    limitKinds,
    start(run, signal) {
      try {
        machine ??= readMachine(cgroups, options);
        return startRun(machine, bounded(run, options.memoryBytesMax), signal);
      } catch (thrown) {
        return failedStart(thrown);
      }
    },
  };
}

const bounded = (run: SandboxRun, memoryBytesMax = Number.POSITIVE_INFINITY): SandboxRun =>
  run.limits.memoryBytes <= memoryBytesMax
    ? run
    : { ...run, limits: { ...run.limits, memoryBytes: memoryBytesMax } };

/** What a run needs of the machine, looked up once. */
function readMachine(cgroups: CgroupSlots, { readOnly = [], cpuWeight = 100 }: SandboxOptions): Machine {
  const bwrap = findProgram('bwrap');
  if (bwrap === null) throw noSandbox('bubblewrap is not installed', 'install the package `bubblewrap`');
  const seccomp = seccompProgram(process.arch);
  if (seccomp === null) {
    throw noSandbox(
      `there is no system call filter for ${process.arch}`,
      'use a machine with x86-64 or arm64',
    );
  }
  return {
    bwrap,
    seccomp,
    layout: readHostLayout(readOnly),
    inherited: inheritedDescriptors(),
    pipes: new PipePool(),
    cgroups,
    niceness: nicenessOf(cpuWeight),
    ceilings: {
      processes: hardLimit('Max processes'),
      fileBytes: hardLimit('Max file size'),
      openFiles: hardLimit('Max open files'),
    },
  };
}
