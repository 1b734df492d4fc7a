import { readFileSync } from 'node:fs';
import { processTree } from '../sandbox/limits/tree.ts';

/** What the load is averaged over: a page that loads is no reason to yield, a build is. */
const WINDOW_MS = 10_000;
/** Between two samples at least; nearer ones are counted in ticks of 10 ms. */
const APART_MS = 900;

/** Processor time so far, in the kernel's ticks: of the whole machine, idle or not, and of one tree of processes. */
export interface Ticks {
  all: number;
  idle: number;
  own: number;
}

/**
 * How much of the processors others take: all that runs on the machine but this process and what it started. A model server
 * is not started by it, so what that does counts as others'.
 */
export class LoadSensor {
  readonly #read: () => Ticks | null;
  #samples: { at: number; ticks: Ticks }[] = [];

  constructor(read: () => Ticks | null = () => ticksNow(process.pid)) {
    this.#read = read;
  }

  /** In percent of all processors over the last ten seconds or since the first look; null: nothing can be said yet. */
  look(now: number): number | null {
    const last = this.#samples.at(-1);
    if (last === undefined || now - last.at >= APART_MS || now < last.at) {
      const ticks = this.#read();
      if (ticks === null) return null;
      const kept = this.#samples.filter(({ at }) => at <= now);
      // The one just outside of the window is where it begins.
      while (kept.length > 1 && kept[1]!.at <= now - WINDOW_MS) kept.shift();
      this.#samples = [...kept, { at: now, ticks }];
    }
    const [first] = this.#samples;
    const newest = this.#samples.at(-1);
    if (first === undefined || newest === undefined || first === newest) return null;
    return othersPercent(first.ticks, newest.ticks);
  }
}

/** Pure: what others took between two samples, in percent; null: no time has passed. */
export function othersPercent(from: Ticks, to: Ticks): number | null {
  const all = to.all - from.all;
  if (all <= 0) return null;
  const busy = all - (to.idle - from.idle);
  // A process that is moved from one count to the other may be seen in both for a moment.
  const own = Math.max(0, to.own - from.own);
  return Math.min(100, Math.max(0, ((busy - own) / all) * 100));
}

function ticksNow(root: number): Ticks | null {
  const machine = machineTicks(read('/proc/stat'));
  if (machine === null) return null;
  const own = processTree(root).reduce((sum, pid) => sum + processTicks(read(`/proc/${pid}/stat`)), 0);
  return { ...machine, own };
}

/** Pure: the first line of `/proc/stat`. Waiting for a disk is idle; what a hypervisor took is nobody's here. */
export function machineTicks(text: string): { all: number; idle: number } | null {
  const fields = /^cpu +(.+)$/m.exec(text)?.[1]?.split(/\s+/).map(Number);
  if (fields === undefined || fields.length < 7) return null;
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, interrupts = 0, soft = 0, stolen = 0] = fields;
  return { all: user + nice + system + idle + wait + interrupts + soft + stolen, idle: idle + wait + stolen };
}

/** Pure: of `/proc/PID/stat`: its own time and that of the children it has waited for. */
export function processTicks(text: string): number {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + (Number(field) || 0), 0);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
