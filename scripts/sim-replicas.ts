import { runSuccession } from '../test/sim/succession/run.ts';

export interface ReplicatedOptions {
  /** Runs each seed a second time with other wall clocks and compares. */
  walls: boolean;
  trace: boolean;
  /** Goes on after a failure and counts them. */
  all: boolean;
}

/** One mesh with replicas, its report printed; null: a promise was broken, and the exit code says so. */
export async function replicated(
  seed: number,
  { walls, trace }: ReplicatedOptions,
  quiet = false,
): Promise<Record<string, number | string> | null> {
  try {
    const report = await runSuccession(seed, trace ? { trace: (line) => console.log(line) } : {});
    if (walls && (await runSuccession(seed, { wallSeed: `other ${seed}` })).decisions !== report.decisions)
      throw new Error(`seed ${seed}: other wall clocks, other decisions (promise 11)`);
    if (!quiet) console.log(report);
    return { ...report };
  } catch (error) {
    console.error(quiet ? (error as Error).message : error);
    process.exitCode = 1;
    return null;
  }
}

/** Seeds of meshes with replicas, until the time (Unix ms) is over. */
export async function manyReplicated(
  from: number,
  to: number,
  until: number,
  options: ReplicatedOptions,
): Promise<void> {
  const began = Date.now();
  const totals: Record<string, number> = {};
  let ran = 0;
  let failures = 0;
  for (let seed = from; seed <= to && Date.now() < until; seed += 1) {
    const report = await replicated(seed, options, true);
    ran += 1;
    if (report === null) failures += 1;
    if (report === null && !options.all) break;
    for (const [key, value] of Object.entries(report ?? {}))
      if (typeof value === 'number' && key !== 'seed') totals[key] = (totals[key] ?? 0) + value;
  }
  console.log(
    `${ran} seeds from ${from} in ${((Date.now() - began) / 1000).toFixed(1)} s, ${failures} failed`,
  );
  console.log(totals);
}
