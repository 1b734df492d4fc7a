import { Command, type CommanderError, Option } from 'commander';
import type { SuperfleetError } from '../../protocol/errors.ts';
import { type Closing, closingText, examplesText, helpColumnsMax, helpLayout } from './help.ts';
import { type Shape, shapeOf } from './shape.ts';
import { leavesOf, pathOf, usageError, usageOf } from './usage-errors.ts';

/** What every command may be told. */
export interface GlobalFlags {
  /** As typed; null: MESH_HOME or the default. */
  dir: string | null;
  json: boolean;
}

/** What a command line means: a command to run, or a text (help, version) to print. */
export type Parsed<C> = { kind: 'command'; command: C; global: GlobalFlags } | { kind: 'text'; text: string };

/** What a command's own parser is given: its options, its operands, and what stood behind `--`. */
export interface Typed {
  options: Record<string, unknown>;
  operands: string[];
  argv: string[] | null;
}

export interface LeafOptions<C> {
  /** `name <operand> [operand]` as commander reads it. */
  usage: string;
  summary: string;
  /** What the group's name alone means. @default false */
  isDefault?: boolean;
  /** Shown in the command's own help instead of the summary. */
  about?: string;
  options?: Option[];
  /** Operands that are one of a few words, by name. */
  operands?: Record<string, readonly string[]>;
  /** Shown under the help, each one command as a person would type it; one at least. */
  examples: readonly [string, ...string[]];
  /** What stands behind `--` is wanted; elsewhere it is refused. */
  takesArgv?: boolean;
  read: (typed: Typed) => C;
}

/** Commands that the other program knows, groups named with theirs, and where that one is typed. */
export interface Neighbour {
  bin: string;
  words: readonly string[];
  where: string;
}

/** A grammar under construction: parsing is pure, so everything it says is collected, not printed. */
export class Grammar<C> {
  readonly #program: Command;
  readonly #neighbour: Neighbour;
  readonly #groups = new Map<string, Command>();
  readonly #examples = new Map<string, readonly string[]>();
  readonly #argvTakers = new Set<Command>();
  /** By group: what its name alone stands for. */
  readonly #defaults = new Map<string, string>();
  #said = '';
  #columns = helpColumnsMax;
  #argv: string[] | null = null;
  #found: { command: C; global: GlobalFlags } | null = null;

  constructor(name: string, version: string, description: string, closing: Closing, neighbour: Neighbour) {
    this.#neighbour = neighbour;
    this.#program = this.#prepare(new Command(name))
      .description(description)
      .version(version, '-V, --version', 'print the version')
      .helpCommand(false)
      .enablePositionalOptions()
      .addHelpText('after', () => closingText(closing, this.#columns));
    addGlobals(this.#program);
  }

  /** A word under which commands are gathered, such as `task`. */
  group(name: string, summary: string): void {
    const group = this.#prepare(this.#program.command(name)).description(summary).helpCommand(false);
    this.#groups.set(name, group);
  }

  /** A command; `group` null puts it at the top. */
  leaf(group: string | null, leaf: LeafOptions<C>): void {
    const parent = group === null ? this.#program : this.#groups.get(group);
    if (parent === undefined) throw new Error(`no group ${group}`);
    const command = this.#prepare(parent.command(leaf.usage))
      .summary(leaf.summary)
      .description(leaf.about ?? leaf.summary);
    for (const option of leaf.options ?? []) command.addOption(option);
    addGlobals(command);
    for (const operand of command.registeredArguments) {
      const choices = leaf.operands?.[operand.name()];
      if (choices !== undefined) operand.argChoices = [...choices];
    }
    if (leaf.isDefault === true && group !== null) this.#defaults.set(group, command.name());
    if (leaf.takesArgv === true) {
      command.usage('[options] -- COMMAND [ARGUMENT...]');
      this.#argvTakers.add(command);
    }
    command.addHelpText('after', () => examplesText(leaf.examples, this.#columns));
    this.#examples.set(pathOf(command), leaf.examples);
    command.action((...given: unknown[]) => {
      const operands = given.slice(0, -2).filter((value) => value !== undefined) as string[];
      const merged = command.optsWithGlobals() as Record<string, unknown>;
      if (leaf.takesArgv !== true && this.#argv !== null) {
        throw usageError(`${pathOf(command)} takes nothing behind --`, {
          expected: 'no --',
          got: ['--', ...this.#argv].join(' '),
        });
      }
      const global = { dir: (merged.dir as string | undefined) ?? null, json: merged.json === true };
      this.#found = { command: leaf.read({ options: merged, operands, argv: this.#argv }), global };
    });
  }

  /**
   * What this command line means; help is laid out for so many `columns`. Throws `SF_USAGE` saying what was expected and
   * what it got.
   */
  parse(args: readonly string[], columns: number = helpColumnsMax): Parsed<C> {
    this.#columns = columns;
    const split = args.indexOf('--');
    const typed = split === -1 ? [...args] : args.slice(0, split);
    const before = typed[0] === 'help' ? [...typed.slice(1), '--help'] : typed;
    this.#argv = split === -1 ? null : args.slice(split + 1);
    this.#found = null;
    this.#said = '';
    if (before.length === 0) throw this.#commandNeeded(this.#program);
    try {
      this.#program.parse(this.#whole(before), { from: 'user' });
    } catch (thrown) {
      if (!(thrown instanceof Stopped)) throw thrown;
      const { cause, command } = thrown;
      if (cause.exitCode === 0) return { kind: 'text', text: this.#said };
      if (cause.code === 'commander.help') throw this.#commandNeeded(command);
      throw this.#elsewhere(command) ?? usageOf(cause, command);
    }
    if (this.#found === null) throw this.#commandNeeded(this.#program);
    return { kind: 'command', ...(this.#found as { command: C; global: GlobalFlags }) };
  }

  /** What is typed, with the command that a group's name alone stands for where nothing or an option comes after the name. */
  #whole(typed: readonly string[]): readonly string[] {
    const at = typed.findIndex((word, index) => this.#groups.has(word) && typed[index - 1] !== '--dir');
    const meant = this.#defaults.get(typed[at] ?? '');
    const next = typed[at + 1] ?? '-';
    if (meant === undefined || !next.startsWith('-') || next === '--help' || next === '-h') return typed;
    return typed.toSpliced(at + 1, 0, meant);
  }

  /** Every command in full, such as `mesh-hub task run`. */
  commands(prefix: string): string[] {
    return leavesOf(this.#program).map((leaf) => pathOf(leaf).replace(this.#program.name(), prefix));
  }

  /** The long flags of one command, as its help has them. */
  options(...path: string[]): string[] {
    let at: Command | undefined = this.#program;
    for (const name of path) at = at?.commands.find((child) => child.name() === name);
    return (at?.options ?? []).filter(({ hidden }) => !hidden).map((option) => option.long ?? '');
  }

  /** What may be typed where, as data. */
  shape(): Shape {
    return shapeOf(this.#program, this.#argvTakers);
  }

  /** The examples of every command, by its full name. */
  get examples(): ReadonlyMap<string, readonly string[]> {
    return this.#examples;
  }

  /** A command of the other program; null: neither knows it. */
  #elsewhere(command: Command): SuperfleetError | null {
    const { bin, where, words } = this.#neighbour;
    const [name, ...groups] = pathOf(command).split(' ');
    const word = [...groups, command.args[0] ?? ''].join(' ');
    if (!words.includes(word)) return null;
    return usageError(`${name} has no command ${word}: it is one of ${bin}`, {
      expected: `one of ${command.commands.map((child) => child.name()).join(', ')}`,
      got: word,
      hint: `${bin} ${word}, ${where}`,
    });
  }

  #prepare(command: Command): Command {
    return command
      .exitOverride((cause) => {
        throw new Stopped(cause, command);
      })
      .configureOutput({
        writeOut: (text) => {
          this.#said += text;
        },
        writeErr: () => {},
        getOutHelpWidth: () => this.#columns,
        getErrHelpWidth: () => this.#columns,
      })
      .configureHelp(helpLayout);
  }

  #commandNeeded(command: Command): SuperfleetError {
    const path = pathOf(command);
    return usageError(`${path} needs a command`, {
      expected: `one of ${command.commands.map((child) => child.name()).join(', ')}`,
      got: 'nothing',
      hint: `${path} --help`,
    });
  }
}

/** Commander's own wish to end, with the command it happened in. */
class Stopped extends Error {
  override readonly cause: CommanderError;
  readonly command: Command;

  constructor(cause: CommanderError, command: Command) {
    super(cause.message);
    this.cause = cause;
    this.command = command;
  }
}

function addGlobals(command: Command): void {
  command.addOption(
    new Option('--dir <path>', 'data folder (default: MESH_HOME, else the one of this user)'),
  );
  command.addOption(new Option('--json', 'print JSON, errors too'));
}

/** Whether the line asks for JSON, even where it can't be parsed otherwise. */
export function asksForJson(args: readonly string[]): boolean {
  const split = args.indexOf('--');
  return (split === -1 ? args : args.slice(0, split)).includes('--json');
}
