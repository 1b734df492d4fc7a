import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The package's version: its package.json lies above the source as above what is built of it. */
export function programVersion(): string {
  let folder = import.meta.dirname;
  for (let up = 0; up < 5; up++) {
    try {
      const found = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
      if (found.name === 'superfleet' && typeof found.version === 'string') return found.version;
    } catch {
      // Not this folder; the next one up.
    }
    folder = dirname(folder);
  }
  return 'unknown';
}
