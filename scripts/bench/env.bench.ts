/**
 * What it costs that a repository's dependencies are prepared, once they are: `env.warm`, how much later the command of a task begins than that of
 * the same task on the same repository without a manifest. Attempts of one member in one process, with real git and the real sandbox.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Benchmark, median } from './figures.ts';

const RUNS = Number(process.env.BENCH_ENV_RUNS ?? 15);

export const benchmark: Benchmark = async (say) => {
  const script = join(import.meta.dirname, 'env-runs.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script, String(RUNS)]);
  const { warm, bare } = JSON.parse(stdout) as { warm: number[]; bare: number[] };
  for (const [name, values] of Object.entries({ warm, bare })) {
    const sorted = [...values].sort((a, b) => a - b).map((ms) => ms.toFixed(0));
    say(`env ${name}: ${median(values).toFixed(0)} ms, ${sorted[0]} to ${sorted.at(-1)} ms`);
  }
  const ours = median(warm) - median(bare);
  return [{ figure: 'env.warm', ours, peer: null, ratio: null, unit: 'ms', runs: RUNS }];
};
