import type { Command } from 'commander';

/** A grammar as plain data: what may be typed where. */
export interface Shape {
  name: string;
  summary: string;
  options: ShapeOption[];
  operands: { name: string; choices: readonly string[] | null }[];
  /** Something stands behind `--`. */
  takesArgv: boolean;
  children: Shape[];
}

export interface ShapeOption {
  /** `--wait`. */
  long: string;
  /** `-f`; null: it has none. */
  short: string | null;
  summary: string;
  /** What its value is called in the help, such as `path`; null: it takes none. */
  value: string | null;
  choices: readonly string[] | null;
}

/** What commander was told, without commander. `argvTakers`: the commands that take something behind `--`. */
export function shapeOf(command: Command, argvTakers: ReadonlySet<Command>): Shape {
  const help = {
    long: '--help',
    short: '-h',
    summary: 'display help for command',
    value: null,
    choices: null,
  };
  return {
    name: command.name(),
    summary: command.summary() || command.description(),
    options: [
      ...command.options
        .filter(({ hidden }) => !hidden)
        .map((option) => ({
          long: option.long ?? '',
          short: option.short ?? null,
          summary: option.description,
          value: /<(.+)>/.exec(option.flags)?.[1] ?? null,
          choices: option.argChoices ?? null,
        })),
      help,
    ],
    operands: command.registeredArguments.map((operand) => ({
      name: operand.name(),
      choices: operand.argChoices ?? null,
    })),
    takesArgv: argvTakers.has(command),
    children: command.commands.map((child) => shapeOf(child, argvTakers)),
  };
}
