import { bounded } from './output.ts';
import { linesOf } from './text.ts';

/** Lines of the file that are shown as the nearest, and characters of all. */
const shownLinesMax = 20;
const shownCharactersMax = 3000;
/** Lines compared before the search for a likeness is given up. */
const comparedMax = 200_000;

/** Why a text was not found in a file, for a model that is to try again: what comes nearest to it, and how it differs. */
export function nearMiss(text: string, wanted: string): string {
  const lines = linesOf(text).map((line) => line.replace(/\r$/, ''));
  const asked = linesOf(wanted).map((line) => line.replace(/\r$/, ''));
  const unnumbered = asked.map((line) => line.replace(/^\s*\d+\t/, ''));
  if (asked.every((line) => /^\s*\d+\t/.test(line)) && `${text}\n`.includes(unnumbered.join('\n'))) {
    return 'It does without the line numbers and tabs that read puts before each line. Leave them out.';
  }
  const same = blockAt(lines, asked, (line) => line.replace(/\s+/g, ' ').trim());
  if (same !== -1) return `It differs only in white space from ${shown(lines, same, asked.length)}`;
  const folded = blockAt(lines, asked, (line) => line.replace(/\s+/g, '').toLowerCase());
  if (folded !== -1)
    return `It differs only in case and white space from ${shown(lines, folded, asked.length)}`;
  const best = mostAlike(lines, asked);
  return best === -1
    ? 'No line of it is in the file. Use read to see the file as it is now.'
    : `The nearest is ${shown(lines, best, asked.length)}`;
}

/** First line of the block whose lines are the asked ones once both are reduced; -1: there is none. */
function blockAt(
  lines: readonly string[],
  asked: readonly string[],
  reduce: (line: string) => string,
): number {
  const wanted = asked.map(reduce);
  if (wanted.every((line) => line === '')) return -1;
  const reduced = lines.map(reduce);
  if (reduced.length * wanted.length > comparedMax * shownLinesMax) return -1;
  return reduced.findIndex((_, at) => wanted.every((line, index) => reduced[at + index] === line));
}

/** Where most of the asked lines stand, one by one, at their distance; -1: none of them is there. */
function mostAlike(lines: readonly string[], asked: readonly string[]): number {
  const at = new Map<string, number[]>();
  for (const [index, line] of asked.entries()) {
    const key = line.trim();
    // A bracket alone is everywhere.
    if (key.length > 2) at.set(key, [...(at.get(key) ?? []).slice(0, 8), index]);
  }
  const votes = new Map<number, number>();
  for (const [index, line] of lines.slice(0, comparedMax).entries()) {
    for (const offset of at.get(line.trim()) ?? []) {
      const start = Math.max(0, index - offset);
      votes.set(start, (votes.get(start) ?? 0) + 1);
    }
  }
  let best = -1;
  for (const [start, count] of votes) if (best === -1 || count > (votes.get(best) ?? 0)) best = start;
  return best;
}

function shown(lines: readonly string[], from: number, count: number): string {
  const block = lines.slice(from, from + Math.min(count, shownLinesMax));
  const range = block.length === 1 ? `line ${from + 1}` : `lines ${from + 1} to ${from + block.length}`;
  return `${range}:\n${bounded(block.join('\n'), shownCharactersMax, 'use read for the rest')}`;
}
