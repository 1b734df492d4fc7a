import type { Help, HelpConfiguration } from 'commander';

/** Lines of help are never longer than this, however wide the terminal is: long lines are hard to read. */
export const helpColumnsMax = 80;
/** What is narrower is written as if it had this many columns. */
export const helpColumnsMin = 24;
/** A description gets at least so much room beside its term; with less it stands on the lines below. */
const besideMin = 32;

/** What stands at the end of a program's help: commands in the order they are typed, then a paragraph. */
export interface Closing {
  sections: { title: string; rows: [command: string, words: string][] }[];
  text: string;
}

/** What every program says last. */
export const exitCodesText = (bin: string): string =>
  'Exit codes: 0 ok, 1 the task failed, 2 wrong usage, 3 founder not reachable, 4 refused, 5 not proved, ' +
  `6 this machine can't, 70 internal error, 130 interrupted. "${bin} COMMAND --help" says more.`;

/** Columns for help on a terminal that is this wide; undefined: not known, or no terminal. */
export const helpColumns = (columns: number | undefined): number =>
  Math.min(helpColumnsMax, Math.max(helpColumnsMin, columns ?? helpColumnsMax));

/** The text in lines of at most `columns`, broken at spaces; a word that is longer has a line of its own. */
export function wrap(text: string, columns: number, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    const longer = line === '' ? indent + word : `${line} ${word}`;
    if (longer.length <= columns || line === '') line = longer;
    else {
      lines.push(line);
      line = indent + word;
    }
  }
  return [...lines, line].join('\n');
}

/** A command in lines of at most `columns` that a shell takes as one: broken outside quotes, by a backslash. */
export function wrapCommand(command: string, columns: number): string {
  const words = command.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? [];
  const lines: string[] = [];
  let line = ' ';
  words.forEach((word, at) => {
    const room = columns - (at === words.length - 1 ? 0 : 2);
    if (line.trim() !== '' && line.length + 1 + word.length > room) {
      lines.push(`${line} \\`);
      line = '   ';
    }
    line += ` ${word}`;
  });
  return [...lines, line].join('\n');
}

export const examplesText = (examples: readonly string[], columns: number): string =>
  `\n${examples.length === 1 ? 'Example' : 'Examples'}:\n${examples.map((line) => wrapCommand(line, columns)).join('\n')}\n`;

export function closingText({ sections, text }: Closing, columns: number): string {
  const commands = sections.flatMap(({ rows }) => rows.map(([command]) => command.length));
  const widest = Math.max(0, ...commands.filter((length) => length + besideMin < columns));
  const parts = sections.map(({ title, rows }) =>
    [
      wrap(title, columns),
      ...rows.map(([command, words]) => row(wrapCommand(command, columns), words, widest + 2, columns)),
    ].join('\n'),
  );
  return `\n${parts.join('\n')}\n\n${wrap(text, columns)}\n`;
}

/** How commander lays help out; the width is what it was told. */
export const helpLayout: HelpConfiguration = {
  sortSubcommands: false,
  showGlobalOptions: false,
  boxWrap: wrap,
  // What may be chosen stands in the description.
  optionDescription: ({ description }) => description,
  argumentDescription: ({ description }) => description,
  styleUsage(this: Help, usage: string): string {
    return wrap(usage, (this.helpWidth ?? helpColumnsMax) - 'Usage: '.length).replaceAll('\n', '\n       ');
  },
  formatItem(this: Help, term: string, termWidth: number, description: string): string {
    return row(`  ${term}`, description, termWidth + 2, this.helpWidth ?? helpColumnsMax);
  },
};

/** A term, and its description beside it where there is room, else below. */
function row(term: string, description: string, termWidth: number, columns: number): string {
  if (description === '') return term;
  const room = columns - termWidth - 2;
  if (room < besideMin || term.length > termWidth)
    return `${term}\n${wrap(description, columns, ' '.repeat(6))}`;
  const indent = ' '.repeat(termWidth + 2);
  return term.padEnd(termWidth + 2) + wrap(description, columns, indent).trimStart();
}
