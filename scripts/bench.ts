/**
 * `npm run -s bench -- NAME… [--json] [--plot]`: measures ours against a peer in alternating runs of one go and prints a
 * table, or with `--json` an array of `{figure, ours, peer, ratio, unit, runs}`. `--plot` draws those that have a picture anew
 * (`docs/plots/NAME.svg`, or in the folder `BENCH_PLOTS`). Benchmarks assert nothing.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Benchmark, Figure, Plot } from './bench/figures.ts';

const folder = join(import.meta.dirname, 'bench');
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => basename(file, '.bench.ts'))
  .sort();
const json = process.argv.includes('--json');
const plots = process.argv.includes('--plot')
  ? resolve(process.env.BENCH_PLOTS ?? join(import.meta.dirname, '../docs/plots'))
  : null;
const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = asked.filter((name) => !names.includes(name));
if (unknown.length > 0 || asked.length === 0) {
  console.error(`bench: expected a name of ${names.join(', ')}; got ${unknown.join(', ') || 'none'}`);
  process.exit(2);
}

const figures: Figure[] = [];
for (const name of asked) {
  const module: { benchmark: Benchmark; plot?: Plot } = await import(
    pathToFileURL(join(folder, `${name}.bench.ts`)).href
  );
  console.error(`bench: ${name} …`);
  const measured = await module.benchmark((line) => console.error(line));
  figures.push(...measured);
  if (plots === null || module.plot === undefined) continue;
  mkdirSync(plots, { recursive: true });
  writeFileSync(join(plots, `${name}.svg`), module.plot(measured));
}
if (json) console.log(JSON.stringify(figures));
else {
  const cell = (value: number | null): string => (value === null ? '–' : value.toPrecision(4));
  const rows = figures.map((f) => [
    f.figure,
    cell(f.ours),
    cell(f.peer),
    cell(f.ratio),
    f.unit,
    String(f.runs),
  ]);
  const table = [['figure', 'ours', 'peer', 'ratio', 'unit', 'runs'], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  for (const row of table)
    console.log(
      row
        .map((text, column) => text.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    );
}
