import { z } from 'zod';
import { bounded, escaped, resultCharactersMax } from './output.ts';
import { hasCrlf, linesOf, requiredText } from './text.ts';
import { defineTool, ToolFault } from './tool.ts';

const linesMax = 2000;
const lineCharactersMax = 2000;
/** Left for the words at the end. */
const reserve = 300;

export const read = defineTool({
  name: 'read',
  description:
    'Reads a text file of the workspace. Each line comes with its number and a tab, which are no part of the file.',
  needs: 'read',
  parameters: z.strictObject({
    path: z.string().min(1).describe('Relative to the workspace'),
    from: z.int().min(1).default(1).describe('First line'),
    lines: z.int().min(1).max(linesMax).default(linesMax).describe('How many lines'),
  }),
  async run({ path, from, lines: count }, { files, log }) {
    const text = requiredText(await files.read(path), path);
    // Masked before it is cut, so that no piece of a secret is left at an end.
    const lines = linesOf(log.masked(text));
    if (lines.length === 0) return { content: `${path} is empty.`, failed: false };
    if (from > lines.length) {
      throw new ToolFault(`${path} has ${lines.length} lines, so there is no line ${from}.`);
    }
    const crlf = hasCrlf(text);
    const shown: string[] = [];
    let characters = 0;
    for (const [index, raw] of lines.slice(from - 1, from - 1 + count).entries()) {
      const whole = escaped(crlf ? raw.replace(/\r$/, '') : raw);
      const line = `${from + index}\t${bounded(whole, lineCharactersMax, null)}`;
      characters += line.length + 1;
      if (characters > resultCharactersMax - reserve && shown.length > 0) break;
      shown.push(line);
    }
    const last = from + shown.length - 1;
    if (last < lines.length || from > 1) {
      const on = last < lines.length ? `; read on with from: ${last + 1}` : '';
      shown.push(`[lines ${from} to ${last} of ${lines.length}${on}]`);
    }
    if (crlf) shown.push('[its lines end in CRLF; edit keeps that by itself]');
    return { content: shown.join('\n'), failed: false };
  },
});
