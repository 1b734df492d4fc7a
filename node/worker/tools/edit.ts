import { z } from 'zod';
import { nearMiss } from './near-miss.ts';
import { hasCrlf, requiredText } from './text.ts';
import { defineTool, ToolFault } from './tool.ts';
import { fileBytesMax, namesOf } from './workspace.ts';

const path = z.string().min(1).describe('Relative to the workspace');
/** Line numbers named where a text is there more than once. */
const namedMax = 10;

export const edit = defineTool({
  name: 'edit',
  description:
    'Replaces a text in a file. `old` must be there exactly once, to the character, with its indentation; with `all`, every place is replaced.',
  needs: 'write',
  parameters: z.strictObject({
    path,
    old: z.string().min(1).describe('The text as it is in the file, without line numbers'),
    new: z.string().describe('What stands there afterwards'),
    all: z.boolean().default(false),
  }),
  async run({ path, old, new: replacement, all }, { files, log }) {
    const text = requiredText(await files.read(path), path);
    const crlf = hasCrlf(text);
    const [from, to] = [asIn(crlf, old), asIn(crlf, replacement)];
    if (from === to) throw new ToolFault('old and new are the same, so nothing would change.');
    const places = placesOf(text, from);
    const masked = log.masked(text);
    // What a model is not shown it does not edit: matching would tell it, piece by piece.
    const hidden = masked !== text && placesOf(masked, from).length !== places.length;
    if (places.length === 0 || hidden) {
      throw new ToolFault(`${path} does not have that text; nothing was changed.\n${nearMiss(masked, old)}`);
    }
    if (places.length > 1 && !all) {
      const lines = lineNumbers(text, places.slice(0, namedMax)).join(', ');
      const more = places.length > namedMax ? ', …' : '';
      throw new ToolFault(
        `${path} has that text ${places.length} times, at lines ${lines}${more}; nothing was changed. Take more of what stands around the one that is meant, or set all.`,
      );
    }
    // Before the text is built: small words can make a very large one.
    if (text.length + places.length * (to.length - from.length) > fileBytesMax) {
      throw new ToolFault(`${path} would have more than ${fileBytesMax} bytes; nothing was changed.`);
    }
    await files.write(path, Buffer.from(text.split(from).join(to)));
    const at = lineNumbers(text, places.slice(0, 1))[0];
    const words = places.length === 1 ? `at line ${at}` : `in ${places.length} places`;
    return { content: `${path} was changed ${words}.`, failed: false, changed: namesOf(path).join('/') };
  },
});

export const write = defineTool({
  name: 'write',
  description: 'Writes a whole file, new or in the place of the old one. Missing folders are made.',
  needs: 'write',
  parameters: z.strictObject({ path, content: z.string() }),
  async run({ path, content }, { files }) {
    const bytes = Buffer.from(content);
    const fresh = await files.write(path, bytes);
    const words = `${path} was ${fresh ? 'made' : 'replaced'}: ${bytes.length} bytes.`;
    return { content: words, failed: false, changed: namesOf(path).join('/') };
  },
});

const asIn = (crlf: boolean, text: string): string => (crlf ? text.replace(/\r?\n/g, '\r\n') : text);

/** Where the text stands, from the left, none overlapping another. */
function placesOf(text: string, wanted: string): number[] {
  const places: number[] = [];
  for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length))
    places.push(at);
  return places;
}

function lineNumbers(text: string, places: readonly number[]): number[] {
  let [line, from] = [1, 0];
  return places.map((place) => {
    for (let at = text.indexOf('\n', from); at !== -1 && at < place; at = text.indexOf('\n', at + 1)) {
      line += 1;
      from = at + 1;
    }
    return line;
  });
}
