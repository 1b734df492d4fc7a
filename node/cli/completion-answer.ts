import { homedir } from 'node:os';
import { Client } from '../api/client.ts';
import type { NodeObject, Page, TaskObject } from '../api/objects.ts';
import { type Asked, type Candidate, joinedAtEquals, placeOf } from './completion.ts';
import { SHELLS, type Shell } from './completion-grammar.ts';
import { dataFolder } from './folder.ts';
import type { Shape } from './shape.ts';
import type { Terminal } from './terminal.ts';

/** The process has so long to answer; a person who pressed TAB waits for it. */
const askMs = 500;
/** Tasks offered, the newest first. */
const tasksMax = 50;
/** What a shell would not take as one plain word is not offered. */
const plainWord = /^[A-Za-z0-9_./:=@%+,-]+$/;
/** Characters of a description. */
const aboutMax = 60;

/**
 * Answers a shell's question: `SHELL WORD… CURRENT`. The first line is `words`, `files`, `folders` or `commands`, the words
 * follow, one a line. Whatever goes wrong, nothing is said and the exit code is 0.
 */
export async function answerCompletion(
  shape: Shape,
  args: readonly string[],
  terminal: Terminal,
): Promise<number> {
  try {
    const [shell, ...typed] = args;
    if (!SHELLS.includes(shell as Shell)) return 0;
    const words = shell === 'bash' ? joinedAtEquals(typed) : typed;
    const { completion, dir } = placeOf(shape, words);
    if (completion.kind !== 'words' && completion.kind !== 'ask') {
      terminal.stdout.write(`${completion.kind}\n`);
      return 0;
    }
    const current = words.at(-1) ?? '';
    const found =
      completion.kind === 'words'
        ? completion.words
        : (await ask(completion.what, completion.verb, dir, terminal))
            .map((candidate) => ({ ...candidate, word: completion.prefix + candidate.word }))
            .filter(({ word }) => word.startsWith(current));
    const lines = found
      .filter(({ word }) => plainWord.test(word))
      .map((candidate) => lineOf(candidate, shell as Shell, current));
    terminal.stdout.write(`${['words', ...lines].join('\n')}\n`);
  } catch {
    // A shell has no place for an error: nothing is offered.
  }
  return 0;
}

function lineOf({ word, about }: Candidate, shell: Shell, current: string): string {
  const shown = about.replace(/[\p{C}\s]+/gu, ' ').slice(0, aboutMax);
  switch (shell) {
    case 'bash':
      // For bash the word begins behind the `=`.
      return current.startsWith('--') ? word.replace(/^--[a-z-]+=/, '') : word;
    case 'zsh':
      return shown === '' ? word.replaceAll(':', '\\:') : `${word.replaceAll(':', '\\:')}:${shown}`;
    case 'fish':
      return shown === '' ? word : `${word}\t${shown}`;
    default:
      return shell satisfies never;
  }
}

async function ask(
  what: Asked,
  verb: string,
  flag: string | null,
  { env, cwd }: Terminal,
): Promise<Candidate[]> {
  const home = env.HOME ?? homedir();
  const typed = flag === null ? null : flag.replace(/^~(?=\/|$)/, home).replace(/^(['"])(.*)\1$/, '$2');
  const dir = dataFolder({ flag: typed, env, cwd, home, uid: process.getuid?.() ?? null });
  const client = new Client({ dir, startHint: '' });
  const get = async <T>(path: string): Promise<T[]> =>
    (await client.get<Page<T>>(path, AbortSignal.timeout(askMs))).items;
  switch (what) {
    case 'task': {
      const tasks = await get<TaskObject>(`/v1/tasks?limit=${tasksMax}${statesFor(verb)}`);
      return tasks.map(({ id, state, executor }) => ({
        word: id,
        about: executor === null ? state : `${state}, ${executor.name ?? executor.id}`,
      }));
    }
    case 'node':
    case 'code': {
      const nodes = await get<NodeObject>('/v1/nodes');
      return nodes.flatMap(({ name, code, state }) => {
        if (what === 'code') return code === null ? [] : [{ word: code, about: name }];
        return code === null && state !== 'revoked' ? [{ word: name, about: state }] : [];
      });
    }
    case 'secret':
      return (await get<{ name: string }>('/v1/secrets')).map(({ name }) => ({ word: name, about: '' }));
    default:
      return what satisfies never;
  }
}

/** Only tasks that the verb can do something with. */
function statesFor(verb: string): string {
  switch (verb) {
    case 'task stop':
      return '&state=proposed,queued,assigned,running,executed';
    case 'task apply':
      return '&state=delivered';
    case 'task get':
      return '&state=delivered,failed,cancelled,rejected';
    default:
      return '';
  }
}
