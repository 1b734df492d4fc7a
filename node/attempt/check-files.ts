import { manifestName } from '../environment/manifest-name.ts';
import type { Change } from '../git/changes.ts';
import { printable } from '../git/fault.ts';
import { glob } from './glob.ts';

/**
 * Which changed paths are check files, from the task and the list of changes alone, so that executor and verifier
 * find the same. A check file is one that a check line names and whose path says that it checks: `sh test.sh`,
 * `node --test test/`. What a line runs or looks at otherwise (`node app.js | grep -q done`, `test -s out.txt`) is the
 * task's product; the submitter's globs add what has another name. The manifest is one always: later tasks take their checks
 * from it.
 */
export interface CheckFiles {
  /** Paths to put back as the base has them. */
  restore: Buffer[];
  /** Paths the base has not, inside a folder of tests or under a glob of the submitter's. */
  remove: Buffer[];
  /** All of these as text for people and receipts, sorted; at most `changedNamesMax`. */
  changed: string[];
}

/** Names in a receipt's list of changed check files, and the length of each. */
const changedNamesMax = 64;
const changedNameLengthMax = 512;

/** Programs that look at files and run nothing of them. */
const LOOKING = new Set(
  '[ [[ ! : basename cat cd cut dirname echo egrep export false fgrep grep head ls printf pwd readlink set sort stat tail test tr true uniq wc'.split(
    ' ',
  ),
);
/** Words before a command that are no command. */
const PREFIX = new Set([
  '!',
  'if',
  'then',
  'else',
  'elif',
  'while',
  'until',
  'do',
  '{',
  'exec',
  'time',
  'env',
  'command',
  'timeout',
]);
const SHELLS = new Set(['sh', 'bash', 'dash', 'zsh', 'ksh']);
/** A path says that it checks where one of its names has such a word in it; `src` is what is checked. */
const CHECKING = /(^|[ ._-])(tests?|specs?|checks?|verify|e2e|t)($|[ ._-])/i;
const saysItChecks = (path: string): boolean => path.split('/').some((name) => CHECKING.test(name));
/** Check lines inside check lines (`sh -c "…"`). */
const nestingMax = 4;

export function checkFilesIn(
  checks: readonly string[],
  globs: readonly string[],
  changes: readonly Change[],
): CheckFiles {
  const named = new Set(checks.flatMap((line) => pathsNamedBy(line)));
  const folders = [...named].filter((path) => CHECKING.test(path.slice(path.lastIndexOf('/') + 1)));
  const patterns = globs.map(glob);
  const found: CheckFiles = { restore: [], remove: [], changed: [] };
  for (const change of changes) {
    const path = change.path.toString('utf8');
    const within =
      folders.some((folder) => path.startsWith(`${folder}/`)) ||
      // A glob may name a folder: everything in it is meant.
      patterns.some(
        (pattern) => pattern.matches(path) || pattern.matches(firstFolderOf(path, pattern.pattern)),
      );
    const asFile = named.has(path) && saysItChecks(path) && change.status !== 'A';
    const manifest = path === manifestName;
    if (!within && !asFile && !manifest) continue;
    // A manifest that the base has not is what the task was to make, or harmless until it is merged.
    if (within || asFile || change.status !== 'A')
      (change.status === 'A' ? found.remove : found.restore).push(change.path);
    found.changed.push(printable(path).slice(0, changedNameLengthMax));
  }
  found.changed.sort();
  if (found.changed.length > changedNamesMax) {
    const more = found.changed.length - changedNamesMax + 1;
    found.changed.splice(changedNamesMax - 1, more, `and ${more} more`);
  }
  return found;
}

/** As many leading folders of `path` as the pattern has names. */
function firstFolderOf(path: string, pattern: string): string {
  const depth = pattern.split('/').filter((name) => name !== '' && name !== '.').length;
  return path.split('/').slice(0, depth).join('/');
}

/** Every path of the repository that a check line may mean by one of its words, normalised. */
export function pathsNamedBy(line: string): string[] {
  const paths: string[] = [];
  collect(line, paths, 0);
  return [...new Set(paths)];
}

function collect(line: string, paths: string[], depth: number): void {
  const commands = simpleCommands(line);
  const looksOnly = commands.every((words) => LOOKING.has(programOf(words)));
  const folders = [''];
  for (const words of commands) {
    const program = programOf(words);
    if (program === 'cd') {
      folders.push(...resolved(words.at(-1) ?? '', folders));
      continue;
    }
    if (SHELLS.has(program.slice(program.lastIndexOf('/') + 1)) && depth < nestingMax) {
      const at = words.findIndex((word) => /^-[a-z]*c$/.test(word));
      if (at !== -1) collect(words[at + 1] ?? '', paths, depth + 1);
    }
    if (looksOnly) continue;
    for (const word of words) {
      paths.push(...resolved(word, folders));
      // `--config=jest.config.js`, `FILE=x`: the part behind the sign may be a path too.
      const sign = word.indexOf('=');
      if (sign !== -1) paths.push(...resolved(word.slice(sign + 1), folders));
    }
  }
}

const programOf = (words: readonly string[]): string =>
  words.find((word) => !PREFIX.has(word) && !/^[A-Za-z_][A-Za-z0-9_]*=/.test(word)) ?? ':';

function resolved(word: string, folders: readonly string[]): string[] {
  // Test runners name a case inside a file: `tests/test_a.py::test_b`, `a.spec.js:12`.
  const file = word.replace(/::.*$|:\d+(:\d+)?$/s, '');
  return folders.flatMap((folder) => {
    const names: string[] = folder === '' ? [] : folder.split('/');
    for (const name of file.replace(/^\/workspace\//, '').split('/')) {
      if (name === '' || name === '.') continue;
      if (name === '..') names.pop();
      else names.push(name);
    }
    const path = names.join('/');
    return path === '' || file.startsWith('/') !== file.startsWith('/workspace/') ? [] : [path];
  });
}

/**
 * A line split into its simple commands and their words, as a shell would up to expansion. Near enough: a word
 * missed is a file not restored, which the submitter can name; a word too many matters only if it is changed.
 */
function simpleCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  let word: string | null = null;
  const endWord = (): void => {
    if (word !== null) commands.at(-1)?.push(word);
    word = null;
  };
  for (let at = 0; at < line.length; at += 1) {
    const character = line[at] ?? '';
    if (character === '\\') {
      at += 1;
      word = (word ?? '') + (line[at] ?? '');
    } else if (character === "'") {
      const close = line.indexOf("'", at + 1);
      const end = close === -1 ? line.length : close;
      word = (word ?? '') + line.slice(at + 1, end);
      at = end;
    } else if (character === '"') {
      const [text, end] = quoted(line, at + 1);
      word = (word ?? '') + text;
      // What a quoted `$( )` runs is looked at as a command of its own.
      for (const inner of text.matchAll(/\$\(([^()]*)\)|`([^`]*)`/g)) {
        const held = commands.pop() ?? [];
        commands.push(...simpleCommands(inner[1] ?? inner[2] ?? ''), held);
      }
      at = end;
    } else if (/[;&|()`\n]/.test(character) || (character === '$' && line[at + 1] === '(')) {
      endWord();
      if ((commands.at(-1)?.length ?? 0) > 0) commands.push([]);
      if (character === '$') at += 1;
    } else if (character === '#' && word === null) {
      const close = line.indexOf('\n', at);
      at = close === -1 ? line.length : close - 1;
    } else if (/[\s<>]/.test(character)) {
      endWord();
    } else word = (word ?? '') + character;
  }
  endWord();
  return commands.filter((words) => words.length > 0);
}

function quoted(line: string, from: number): [string, number] {
  let text = '';
  for (let at = from; at < line.length; at += 1) {
    const character = line[at] ?? '';
    if (character === '"') return [text, at];
    if (character === '\\' && /["\\$`]/.test(line[at + 1] ?? '')) at += 1;
    text += line[at] ?? '';
  }
  return [text, line.length];
}
