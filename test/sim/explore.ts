import { parentPort, Worker, workerData } from 'node:worker_threads';
import { replayCommand, runBothWalls, runSeed, usual } from './run.ts';
import { shrink } from './shrink.ts';
import { checkerOf } from './violation.ts';

/** Every so many-th seed runs a second time with other wall clocks. */
const wallsEach = 5;
/** Violations made smaller by one worker: one defect breaks many seeds. */
const shrunkMax = 2;

export interface Found {
  seed: number;
  checker: string;
  message: string;
  /** The command that replays what is left of it. */
  smaller: string | null;
}

type Said = { ran: number } | { found: Found };

export interface Explored {
  seeds: number;
  found: Found[];
}

/** Runs seeds from `first` on by `processors` threads until the time (Unix ms) is over. `told`: after each, and for what it found. */
export async function explore(
  first: number,
  until: number,
  processors: number,
  told: (seeds: number, found: Found | null) => void,
): Promise<Explored> {
  const explored: Explored = { seeds: 0, found: [] };
  const work = (offset: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const plan = { first: first + offset, stride: processors, until };
      const worker = new Worker(new URL(import.meta.url), { workerData: plan });
      worker.on('message', (said: Said) => {
        if ('ran' in said) explored.seeds += said.ran;
        else explored.found.push(said.found);
        told(explored.seeds, 'found' in said ? said.found : null);
      });
      worker.on('error', reject);
      worker.on('exit', () => resolve());
    });
  await Promise.all(Array.from({ length: processors }, (_, offset) => work(offset)));
  return explored;
}

function lookAt(seed: number, shrunk: number): Found | null {
  try {
    if (seed % wallsEach === 0) runBothWalls(seed, usual(seed));
    else runSeed(seed, usual(seed));
    return null;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const less = shrunk < shrunkMax ? shrink(seed, usual(seed)) : null;
    const smaller =
      less === null ? null : `${replayCommand(seed, { ...usual(seed), ...less })} (${less.runs} runs)`;
    return { seed, checker: checkerOf(error), message, smaller };
  }
}

const plan = workerData as { first: number; stride: number; until: number } | null;
if (plan !== null && parentPort !== null) {
  let shrunk = 0;
  for (let seed = plan.first; Date.now() < plan.until; seed += plan.stride) {
    const found = lookAt(seed, shrunk);
    parentPort.postMessage({ ran: 1 } satisfies Said);
    if (found === null) continue;
    shrunk += 1;
    parentPort.postMessage({ found } satisfies Said);
  }
}
