import { statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import type { Capacity } from '../../protocol/session.ts';
import type { SandboxReport } from '../sandbox/probe.ts';

export interface CapacityOptions {
  dir: string;
  report: SandboxReport;
  slots: number | null;
  labels: Record<string, string>;
  ownerPaused: boolean;
}

/** What this machine offers, measured now. */
export async function measureCapacity(options: CapacityOptions): Promise<Capacity> {
  const { dir, report, slots, labels, ownerPaused } = options;
  const { bavail, bsize } = await statfs(dir);
  return {
    slots: report.works ? (slots ?? availableParallelism()) : 0,
    sandbox: report.works ? 'bubblewrap' : null,
    limits: report.limitKinds,
    memoryBytes: totalmem(),
    cpus: availableParallelism(),
    diskFreeBytes: bavail * bsize,
    models: [],
    tools: {},
    labels,
    ownerPaused,
  };
}
