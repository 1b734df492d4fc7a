import type { Figure } from './figures.ts';
import { median } from './figures.ts';

/** Moments of a task in order, by the name of the phase that ends there. */
const PHASES: readonly (readonly [phase: string, ends: string])[] = [
  ['submit.open', 'opened'],
  ['submit.bundle', 'submit.bundled'],
  ['submit.upload', 'submit.uploaded'],
  ['submit.ack', 'acknowledged'],
  ['assign', 'execute.assigned'],
  ['fetch', 'execute.prepare'],
  ['prepare', 'execute.run'],
  ['run', 'execute.take'],
  ['take', 'execute.check'],
  ['check', 'execute.converge'],
  ['converge', 'execute.finished'],
  ['collect', 'execute.collected'],
  ['verify.assign', 'verify.assigned'],
  ['verify.fetch', 'verify.prepare'],
  ['verify.prepare', 'verify.check'],
  ['verify.check', 'verify.finished'],
  ['verify.collect', 'verify.collected'],
  ['deliver', 'told'],
  ['place', 'placed'],
];

/** Milliseconds of each phase of one task; what two processes saw at nearly one moment counts to the earlier phase. */
export function phasesOf(began: bigint, at: (moment: string) => bigint | undefined): Map<string, number> {
  const phases = new Map<string, number>();
  let before = began;
  for (const [phase, ends] of PHASES) {
    const end = at(ends) ?? before;
    phases.set(phase, Number(end > before ? end - before : 0n) / 1e6);
    if (end > before) before = end;
  }
  return phases;
}

const medians = (runs: Map<string, number>[]): Map<string, number> =>
  new Map(PHASES.map(([phase]) => [phase, median(runs.map((run) => run.get(phase) ?? 0))]));

/** A table of the medians of several kinds of tasks, side by side. */
export function phaseTable(kinds: ReadonlyMap<string, Map<string, number>[]>): string[] {
  const columns = [...kinds].map(([kind, runs]) => [kind, medians(runs)] as const);
  const cell = (text: string): string => text.padStart(10);
  return [
    `${'phase'.padEnd(16)}${columns.map(([kind]) => cell(kind)).join('')}  (ms, medians)`,
    ...PHASES.map(
      ([phase]) => phase.padEnd(16) + columns.map(([, of]) => cell((of.get(phase) ?? 0).toFixed(1))).join(''),
    ),
  ];
}

/** `task.phase.*`: where the time of these runs goes. */
export function phaseFigures(runs: Map<string, number>[]): Figure[] {
  return [...medians(runs)].map(([phase, ours]) => ({
    figure: `task.phase.${phase}`,
    ours,
    peer: null,
    ratio: null,
    unit: 'ms',
    runs: runs.length,
  }));
}
