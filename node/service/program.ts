import { join, resolve, sep } from 'node:path';
import type { Bin } from './types.ts';

/** What this process was started as. */
export interface ProgramFacts {
  /** The Node that runs, absolute. */
  node: string;
  /** The script it runs, absolute and without links. */
  script: string;
  isFile(path: string): boolean;
}

/**
 * The words that start `bin` anew as it is started here: a clone's launcher where its pinned Node is what runs, else
 * this very Node with the script beside this one, since a service's PATH may know no Node.
 */
export function programWords(bin: Bin, { node, script, isFile }: ProgramFacts): string[] {
  const root = resolve(script, '..', '..');
  const launcher = join(root, 'scripts', bin);
  const pinned = node.startsWith(join(root, 'node_modules') + sep);
  return pinned && isFile(launcher) ? [launcher] : [node, script];
}
