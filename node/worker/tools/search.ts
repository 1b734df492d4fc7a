import { setImmediate as nextTurn } from 'node:timers/promises';
import { RE2JS } from 're2js';
import { z } from 'zod';
import { type Glob, glob as globOf } from '../../attempt/glob.ts';
import { noteOf } from './list.ts';
import { bounded, resultCharactersMax, wholeAt } from './output.ts';
import { linesOf, textOf } from './text.ts';
import { defineTool, type ToolContext, ToolFault } from './tool.ts';
import { fileBytesMax, readWhole, SKIPPED } from './workspace.ts';

/** Instructions of a compiled pattern: a line takes time in proportion to them, at the worst about a quarter of a second. */
const programMax = 500;
/** Characters of a line that are searched; longer ones are of generated files. */
const lineCharactersMax = 2048;
const shownCharactersMax = 240;
const hitsMax = 200;
const bytesMax = 256 * 1024 * 1024;
/** Of the node's one thread, in pieces; other work goes on between them. */
const searchMs = 3_000;
const pieceMs = 10;
const depthMax = 64;
/** Left for the words at the end. */
const reserve = 600;

type Matches = (line: string) => boolean;

/**
 * Regular expressions of a model run in RE2's linear-time engine: no pattern can hang the node, all members take the same
 * syntax, and a search costs no process. grep in the sandbox would cost one per call, and its syntax is the machine's.
 */
export const search = defineTool({
  name: 'search',
  description:
    'Searches the text files of the workspace line by line, for a text as it is or, with regex, for an RE2 regular expression.',
  needs: 'read',
  parameters: z.strictObject({
    pattern: z.string().min(1).max(500),
    regex: z.boolean().default(false).describe('RE2 syntax: no look-around, no back-references'),
    ignoreCase: z.boolean().default(false),
    folder: z.string().default('.').describe('Relative to the workspace'),
    glob: z.string().max(512).optional().describe('Only files whose path matches, such as **/*.py'),
  }),
  async run({ pattern, regex, ignoreCase, folder, glob }, context, signal) {
    const matches = regex ? expression(pattern, ignoreCase) : literal(pattern, ignoreCase);
    const found = new Search(matches, glob === undefined ? null : globOf(glob), context);
    await found.below(folder, signal);
    return { content: found.words(), failed: false };
  },
});

function literal(pattern: string, ignoreCase: boolean): Matches {
  if (pattern.includes('\n'))
    throw new ToolFault('the pattern has a line end in it, and lines are searched one by one.');
  const wanted = ignoreCase ? pattern.toLowerCase() : pattern;
  return (line) => (ignoreCase ? line.toLowerCase() : line).includes(wanted);
}

function expression(pattern: string, ignoreCase: boolean): Matches {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  } catch (error) {
    throw new ToolFault(
      `the pattern is no RE2 regular expression: ${(error as Error).message}. Look-around and back-references do not exist; without regex it is searched as it is.`,
    );
  }
  const size = compiled.programSize();
  if (size > programMax) {
    throw new ToolFault(
      `the pattern compiles to ${size} instructions, at most ${programMax} are run. Repeat less in it.`,
    );
  }
  return (line) => compiled.test(line);
}

class Search {
  readonly #matches: Matches;
  readonly #glob: Glob | null;
  readonly #context: ToolContext;
  readonly #hits: string[] = [];
  readonly #notes: string[] = [];
  readonly #skipped = new Set<string>();
  #characters = 0;
  #files = 0;
  #large = 0;
  #longLines = 0;
  #ended: string | null = null;
  #usedMs = 0;
  #pieceFrom = performance.now();

  constructor(matches: Matches, glob: Glob | null, context: ToolContext) {
    this.#matches = matches;
    this.#glob = glob;
    this.#context = context;
  }

  async below(folder: string, signal: AbortSignal): Promise<void> {
    let bytesLeft = bytesMax;
    for await (const { path, kind, bytes, open } of this.#context.files.walk(folder, depthMax, signal)) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      if (kind === 'folder' && SKIPPED.has(name)) this.#skipped.add(name);
      if (kind !== 'file' || (this.#glob !== null && !this.#glob.matches(path))) continue;
      if (bytes > fileBytesMax) {
        this.#large += 1;
        continue;
      }
      bytesLeft -= bytes;
      if (bytesLeft < 0) this.#ended = `${bytesMax} bytes were searched`;
      const file = this.#ended === null ? await open() : null;
      if (file !== null) {
        try {
          await this.#file(path, await readWhole(file, fileBytesMax), signal);
        } finally {
          await file.close();
        }
      }
      if (this.#ended !== null) return;
    }
  }

  async #file(path: string, bytes: Buffer | null, signal: AbortSignal): Promise<void> {
    const text = bytes === null ? null : textOf(bytes);
    if (text === null) return;
    this.#files += 1;
    this.#pieceFrom = performance.now();
    for (const [index, line] of linesOf(this.#context.log.masked(text)).entries()) {
      if (line.length > lineCharactersMax) this.#longLines += 1;
      const searched =
        line.length > lineCharactersMax ? line.slice(0, wholeAt(line, lineCharactersMax)) : line;
      if (this.#matches(searched))
        this.#hit(`${path}:${index + 1}: ${bounded(line.trim(), shownCharactersMax, null)}`);
      await this.#breathe(signal);
      if (this.#ended !== null) return;
    }
    this.#usedMs += performance.now() - this.#pieceFrom;
  }

  #hit(line: string): void {
    this.#characters += line.length + 1;
    if (this.#hits.length === hitsMax || this.#characters > resultCharactersMax - reserve) {
      this.#ended = `${this.#hits.length} lines were found`;
    } else this.#hits.push(line);
  }

  /** Lets others run; ends the search where it took its time. */
  async #breathe(signal: AbortSignal): Promise<void> {
    const spent = performance.now() - this.#pieceFrom;
    if (spent < pieceMs) return;
    this.#usedMs += spent;
    if (this.#usedMs > searchMs) this.#ended = `it took ${searchMs} ms`;
    await nextTurn();
    signal.throwIfAborted();
    this.#pieceFrom = performance.now();
  }

  words(): string {
    const end = this.#ended;
    if (end !== null) this.#notes.push(`[cut: ${end}; search a folder, with glob, or for something rarer]`);
    if (this.#large > 0)
      this.#notes.push(`[${this.#large} files larger than ${fileBytesMax} bytes were left out]`);
    if (this.#longLines > 0)
      this.#notes.push(
        `[${this.#longLines} lines were searched in their first ${lineCharactersMax} characters only]`,
      );
    const found = this.#hits.length === 0 ? [`nothing was found in ${this.#files} text files.`] : this.#hits;
    return [...found, ...this.#notes].join('\n') + noteOf(this.#skipped);
  }
}
