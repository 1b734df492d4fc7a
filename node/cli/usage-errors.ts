import type { Command, CommanderError } from 'commander';
import { SuperfleetError } from '../../protocol/errors.ts';

/** A command in full, such as `mesh-hub task run`. */
export function pathOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
  return names.join(' ');
}

/** What a line that commander refuses should have been. */
export function usageOf(error: CommanderError, command: Command): SuperfleetError {
  const path = pathOf(command);
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? null;
  const suggestion = suggested(error, command);
  const message = (error.message.replace(/^error: /, '').split('\n')[0] ?? '').trim();
  const hint = suggestion === null ? `${path} --help` : `did you mean ${suggestion}?`;
  const flags = command.options.map((option) => option.long ?? option.short ?? '').join(' ');
  switch (error.code) {
    case 'commander.unknownOption':
      if (command.commands.length > 0 && command.parent !== null) {
        return usageError(`${path} needs a command before ${quoted}`, {
          expected: `one of ${command.commands.map((child) => child.name()).join(', ')}`,
          got: quoted,
          hint: `${path} --help`,
        });
      }
      return usageError(`${path} has no option ${quoted}`, {
        expected: `one of ${flags}`,
        got: quoted,
        hint,
      });
    case 'commander.unknownCommand':
      return usageError(`${path} has no command ${quoted}`, {
        expected: `one of ${command.commands.map((child) => child.name()).join(', ')}`,
        got: quoted,
        hint,
      });
    case 'commander.optionMissingArgument':
      return usageError(`${path}: option ${quoted} needs a value`, {
        expected: quoted,
        got: 'no value',
        hint,
      });
    case 'commander.missingArgument':
      return usageError(`${path}: ${quoted} is missing`, {
        expected: `<${quoted}>`,
        got: 'nothing',
        hint: quoted === 'task' || quoted === 'node' ? `${programOf(command)} ${quoted} list` : hint,
      });
    case 'commander.excessArguments':
      if (command.commands.length > 0) {
        const got = command.args[0] ?? null;
        return usageError(`${path} has no command ${got}`, {
          expected: `one of ${command.commands.map((child) => child.name()).join(', ')}`,
          got,
          hint,
        });
      }
      return usageError(`${path} got more words than it takes`, {
        expected: `${path} ${command.usage()}`,
        got: command.args.join(' '),
        hint,
      });
    default:
      return usageError(`${path}: ${message}`, { expected: null, got: quoted, hint });
  }
}

/** What a person may have meant by a word that is not known, as it can be typed; null: nothing comes near. */
function suggested(error: CommanderError, command: Command): string | null {
  const near = /\(Did you mean (?:one of )?(.*?)\?\)/.exec(error.message)?.[1] ?? null;
  const unknown = error.code === 'commander.unknownCommand' || error.code === 'commander.excessArguments';
  if (!unknown || command.commands.length === 0) return near;
  if (near !== null)
    return near
      .split(', ')
      .map((name) => `${pathOf(command)} ${name}`)
      .join(', ');
  const word = /'([^']*)'/.exec(error.message)?.[1] ?? command.args[0];
  let top = command;
  while (top.parent !== null) top = top.parent;
  // The verb is right and its group was left out, or another was named.
  const found = leavesOf(top).filter((leaf) => leaf.name() === word);
  return found.length === 0 ? null : found.map(pathOf).join(', ');
}

function programOf(command: Command): string {
  let top = command;
  while (top.parent !== null) top = top.parent;
  return top.name();
}

/** The commands at the ends of the tree. */
export const leavesOf = (command: Command): Command[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);

/** An `SF_USAGE` error. */
export function usageError(
  message: string,
  detail: { expected: string | null; got: string | null; hint?: string | null },
): SuperfleetError {
  return new SuperfleetError('SF_USAGE', message, detail);
}
