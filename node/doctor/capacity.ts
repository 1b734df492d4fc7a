import { statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { Capacity } from '../../protocol/session.ts';
import { termsOf } from '../../protocol/terms.ts';
import type { SandboxReport } from '../sandbox/probe.ts';
import type { Sandbox } from '../sandbox/types.ts';
import { modelServers } from './models.ts';
import { toolVersions } from './tools.ts';

export interface CapacityOptions {
  /** The data folder: its disk is what tasks fill. */
  dir: string;
  report: SandboxReport;
  /** Where tools are asked for their versions. @default null: no tools are named */
  sandbox?: Sandbox | null;
  /** Attempts at one time. @default null: one where there is a seat; else one a processor, as far as memory allows */
  slots?: number | null;
  /** @default {} */
  labels?: Record<string, string>;
  /** @default false */
  ownerPaused?: boolean;
  /** Somebody may sit at a screen of this machine. @default false */
  seat?: boolean;
  /** Models of servers elsewhere that this machine lends. @default [] */
  lent?: string[];
  /** What else works on goals: kinds of those servers, agents by name. @default [] */
  brains?: string[];
  /** No more memory than this is offered, in bytes. @default all there is */
  memoryBytesMax?: number;
  /** The policy in force. @default not said */
  policy?: string;
  /** When its hours are over, Unix ms; null: they have no end. @default null */
  worksUntil?: number | null;
  /** How the models are lent to other members. @default they are not */
  lends?(models: readonly string[]): NonNullable<Capacity['lends']> | null;
}

/** A slot with less memory than this is not worth a task: a compiler takes about as much. */
const SLOT_BYTES = 1024 ** 3;
const SLOTS_MAX = 1024;
const MODELS_MAX = 64;
const BRAINS_MAX = 32;
/** Tools come and go with packages: looked up again after this. */
const TOOLS_MS = 15 * 60_000;
const known = new WeakMap<Sandbox, { at: number; tools: Promise<Record<string, string>> }>();

/** What this machine offers, measured now. Without a working sandbox: no slots, and `sandbox` null (promise 14). */
export async function measureCapacity(options: CapacityOptions): Promise<Capacity> {
  const {
    dir,
    report,
    sandbox = null,
    labels = {},
    ownerPaused = false,
    seat = false,
    policy,
    worksUntil = null,
    lent = [],
    brains = [],
  } = options;
  const [servers, tools] = await Promise.all([
    modelServers(),
    sandbox === null || !report.works ? {} : cachedTools(sandbox),
  ]);
  const memoryBytes = Math.min(memoryOfMachine(), options.memoryBytesMax ?? Number.POSITIVE_INFINITY);
  const cpus = availableParallelism();
  // Who sits there is to notice one task at most.
  const fitting = seat ? 1 : Math.max(1, Math.min(cpus, Math.floor(memoryBytes / SLOT_BYTES)));
  const models = [...new Set([...servers.flatMap((server) => server.models), ...lent])].slice(0, MODELS_MAX);
  const accepts = policy === undefined ? null : termsOf(policy);
  const lends = options.lends?.(models) ?? null;
  return {
    slots: report.works ? Math.min(options.slots ?? fitting, SLOTS_MAX) : 0,
    sandbox: report.works ? 'bubblewrap' : null,
    limits: report.works ? report.limitKinds : { memory: 'none', processes: 'none', disk: 'none' },
    memoryBytes,
    cpus,
    diskFreeBytes: diskFree(dir) ?? 0,
    models,
    brains: [
      ...new Set([...servers.map(({ name }) => (name === 'Ollama' ? 'ollama' : 'openai')), ...brains]),
    ].slice(0, BRAINS_MAX),
    tools,
    labels,
    ownerPaused,
    ...(policy === undefined ? {} : { policy }),
    ...(accepts === null ? {} : { accepts }),
    ...(worksUntil === null ? {} : { worksUntil }),
    ...(lends === null ? {} : { lends }),
  };
}

/** In bytes: what there is, or what this process may have of it. */
export function memoryOfMachine(): number {
  const constrained = process.constrainedMemory();
  // Where there is no limit the kernel says an enormous number, or nothing.
  return Math.min(totalmem(), constrained > 0 ? constrained : Number.POSITIVE_INFINITY);
}

/** Versions of the tools that tasks find in a sandbox, as last asked for. */
export function cachedTools(sandbox: Sandbox): Promise<Record<string, string>> {
  const now = performance.now();
  const last = known.get(sandbox);
  if (last !== undefined && now - last.at < TOOLS_MS) return last.tools;
  const tools = toolVersions(sandbox);
  known.set(sandbox, { at: now, tools });
  return tools;
}

/** Bytes an unprivileged user may still write where `path` is or would be; null where nobody can tell. */
export function diskFree(path: string): number | null {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize;
    } catch {
      if (at === dirname(at)) return null;
    }
  }
}
