import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

/** Each room may import the rooms before it; `scripts` and `test` may import anything, and nobody imports them. */
const ORDER = ['protocol', 'ledger', 'node', 'hub'];
/** The cores and the reducers decide and do no IO: these modules of Node are not theirs. */
const CORES = ['hub/core/', 'node/core/', 'ledger/state/'];
const IO = /^node:(fs|net|http|https|child_process|dgram|timers|worker_threads|os|tls)(\/|$)/;

/** One sentence for each import that runs against the rule. */
export function importFaults(root: string): string[] {
  const faults: string[] = [];
  for (const room of ORDER) {
    for (const file of sources(join(root, room))) {
      const from = relative(root, file);
      for (const target of importsIn(readFileSync(file, 'utf8'))) {
        if (CORES.some((core) => from.startsWith(core)) && IO.test(target)) {
          faults.push(`${from} is a core without IO and imports ${target}`);
        }
        if (!target.startsWith('.')) continue;
        const to = relative(root, resolve(dirname(file), target));
        const toRoom = ORDER.indexOf(to.split('/')[0] ?? '');
        if (toRoom === -1 || toRoom > ORDER.indexOf(room)) {
          faults.push(`${from} imports ${to}: imports run ${ORDER.join(' ← ')}`);
        }
        if (/(^|\/)cli\.[jt]s$/.test(to)) faults.push(`${from} imports ${to}: nobody imports a cli`);
      }
    }
  }
  return faults;
}

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.[jt]s$/.test(name))
    .map((name) => join(folder, name));
}

/** What a file's text imports, as it is written there. */
export function importsIn(text: string): string[] {
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|\bimport\s*\(?\s*['"]([^'"]+)['"]/g,
  );
  return [...found].map((match) => match[1] ?? match[2] ?? '');
}
