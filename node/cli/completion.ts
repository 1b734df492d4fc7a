import type { Shape, ShapeOption } from './shape.ts';

/** What may follow, of which the shell shows those that begin as the current word does. */
export interface Candidate {
  word: string;
  /** For shells that show one; '' for none. */
  about: string;
}

/** Objects that only the running process knows. */
export type Asked = 'task' | 'node' | 'code' | 'secret';

/** How the current word is completed. */
export type Completion =
  | { kind: 'words'; words: Candidate[] }
  /** By the names of these; `prefix` stands before each. */
  | { kind: 'ask'; what: Asked; verb: string; prefix: string }
  | { kind: 'files' | 'folders' | 'commands' };

/** The current word and what it means where it stands. */
export interface Place {
  completion: Completion;
  /** As typed for `--dir`; null: not given. */
  dir: string | null;
}

const nothing: Completion = { kind: 'words', words: [] };

/** What the names of operands and of options' values in the grammar stand for. */
const BY_NAME: Record<string, Asked | 'files' | 'folders'> = {
  task: 'task',
  node: 'node',
  code: 'code',
  file: 'files',
  path: 'folders',
  dir: 'folders',
};

/** Where the words of a line lead in a grammar, the last one being typed; pure. */
export function placeOf(root: Shape, words: readonly string[]): Place {
  const current = words.at(-1) ?? '';
  let at = root;
  let verb = '';
  let operands = 0;
  let dir: string | null = null;
  let option: ShapeOption | null = null;
  for (const [index, word] of words.slice(0, -1).entries()) {
    if (option !== null) {
      if (option.long === '--dir') dir = word;
      option = null;
    } else if (word === '--') {
      const first = index === words.length - 2;
      return { completion: at.takesArgv ? { kind: first ? 'commands' : 'files' } : nothing, dir };
    } else if (word.startsWith('-')) {
      if (word.startsWith('--dir=')) dir = word.slice('--dir='.length);
      const found = at.options.find(({ long, short }) => long === word || short === word);
      if (found !== undefined && found.value !== null) option = found;
    } else {
      const child = at.children.find(({ name }) => name === word);
      if (child === undefined) operands += 1;
      else {
        at = child;
        verb = `${verb} ${word}`.trim();
      }
    }
  }
  return { completion: completionAt(at, verb, operands, option, current), dir };
}

function completionAt(
  at: Shape,
  verb: string,
  operands: number,
  option: ShapeOption | null,
  current: string,
): Completion {
  if (option !== null) return valueAt(option, verb, '', current);
  const equals = /^(--[a-z-]+)=(.*)$/s.exec(current);
  if (equals !== null) {
    const found = at.options.find(({ long }) => long === equals[1]);
    return found === undefined || found.value === null
      ? nothing
      : valueAt(found, verb, `${equals[1]}=`, equals[2] ?? '');
  }
  const flags = (): Completion =>
    starting(
      at.options.map(({ long, summary }) => ({ word: long, about: summary })),
      current,
    );
  if (current.startsWith('-')) return flags();
  if (at.children.length > 0) {
    // A word that is no command of this group is a mistake, which the program will name.
    if (operands > 0) return nothing;
    return starting(
      at.children.map(({ name, summary }) => ({ word: name, about: summary })),
      current,
    );
  }
  const operand = at.operands[operands];
  if (operand === undefined) return flags();
  if (operand.choices !== null)
    return starting(
      operand.choices.map((word) => ({ word, about: '' })),
      current,
    );
  if (operand.name === 'name' && verb === 'secret remove')
    return { kind: 'ask', what: 'secret', verb, prefix: '' };
  return named(operand.name, verb, '');
}

function valueAt(option: ShapeOption, verb: string, prefix: string, current: string): Completion {
  if (option.choices !== null) {
    // Of several by comma the last is being typed.
    const before = option.value === 'states' ? (/^.*,/s.exec(current)?.[0] ?? '') : '';
    return starting(
      option.choices.map((word) => ({ word: `${prefix}${before}${word}`, about: '' })),
      `${prefix}${current}`,
    );
  }
  const found = named(option.value ?? '', verb, prefix);
  // What a shell completes by itself it completes as a word of its own.
  return prefix !== '' && found.kind !== 'ask' ? nothing : found;
}

function named(name: string, verb: string, prefix: string): Completion {
  const known = BY_NAME[name];
  if (known === undefined) return nothing;
  return known === 'files' || known === 'folders'
    ? { kind: known }
    : { kind: 'ask', what: known, verb, prefix };
}

const starting = (words: Candidate[], current: string): Completion => ({
  kind: 'words',
  words: words.filter(({ word }) => word.startsWith(current)),
});

/** Bash splits words at `=` too; as they were typed. */
export function joinedAtEquals(words: readonly string[]): string[] {
  const joined: string[] = [];
  let glue = false;
  for (const word of words) {
    if (word === '=' && (joined.at(-1) ?? '').startsWith('--')) {
      joined.push(`${joined.pop()}=`);
      glue = true;
    } else if (glue) {
      joined.push(`${joined.pop()}${word}`);
      glue = false;
    } else joined.push(word);
  }
  return joined;
}
