/** One measured figure. `ratio` is ours ÷ peer; peer and ratio are null where there is nothing to compare with. */
export interface Figure {
  figure: string;
  ours: number;
  peer: number | null;
  ratio: number | null;
  unit: 'us' | 'ms' | 's' | 'MB' | '/s' | 'x';
  runs: number;
}

export type Benchmark = (say: (line: string) => void) => Promise<Figure[]>;

/** A picture of what a benchmark measured, as SVG. */
export type Plot = (figures: readonly Figure[]) => string;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) throw new RangeError('the median of no values is not defined');
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Runs ours and peer in turn, `runs` times each after one warm-up of both, and gives the figure of their medians.
 * Each returns what it measured, in the figure's unit.
 */
export async function alternate(
  figure: string,
  unit: Figure['unit'],
  runs: number,
  ours: () => Promise<number>,
  peer: (() => Promise<number>) | null,
): Promise<Figure> {
  const mine: number[] = [];
  const theirs: number[] = [];
  for (let run = -1; run < runs; run++) {
    const a = await ours();
    const b = peer === null ? null : await peer();
    if (run < 0) continue;
    mine.push(a);
    if (b !== null) theirs.push(b);
  }
  const peerMedian = peer === null ? null : median(theirs);
  const oursMedian = median(mine);
  return {
    figure,
    ours: oursMedian,
    peer: peerMedian,
    ratio: peerMedian === null ? null : oursMedian / peerMedian,
    unit,
    runs,
  };
}
