import type { Grammar } from './parse.ts';
import { oneOf } from './values.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The first word of a call by which a shell asks what may follow; no command, and in no help. */
export const COMPLETE = '__complete';

export interface CompletionCommand {
  verb: 'completion';
  shell: Shell;
}

/** Adds `completion` to a grammar. */
export function addCompletionGrammar<C>(grammar: Grammar<C | CompletionCommand>, bin: string): void {
  grammar.leaf(null, {
    usage: 'completion <shell>',
    summary: 'print what makes your shell complete commands, flags, task ids and node names',
    about:
      'Prints what makes your shell complete commands, flags, task ids and node names: for bash and zsh to be ' +
      'evaluated in ~/.bashrc or ~/.zshrc, for fish to be kept as a file.',
    operands: { shell: SHELLS },
    examples: [
      `${bin} completion bash > ~/.${bin}.bash`,
      `${bin} completion zsh > ~/.${bin}.zsh`,
      `${bin} completion fish > ~/.config/fish/completions/${bin}.fish`,
    ],
    read: ({ operands }) => ({
      verb: 'completion',
      shell: oneOf('the shell', SHELLS)(operands[0] ?? ''),
    }),
  });
}
