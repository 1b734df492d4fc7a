import { z } from 'zod';
import { glob as globOf } from '../../attempt/glob.ts';
import { resultCharactersMax } from './output.ts';
import { defineTool, ToolFault } from './tool.ts';
import { SKIPPED } from './workspace.ts';

/** Folders deep that a listing by glob goes. */
const globDepth = 32;
/** Left for the words at the end. */
const reserve = 400;

export const list = defineTool({
  name: 'list',
  description:
    'Lists a folder of the workspace: folders end in /, files come with their bytes. With glob, the files whose path matches it.',
  needs: 'read',
  parameters: z.strictObject({
    folder: z.string().default('.').describe('Relative to the workspace'),
    glob: z
      .string()
      .max(512)
      .optional()
      .describe('Such as **/*.ts; matched against paths relative to the workspace'),
    depth: z.int().min(1).max(globDepth).optional().describe('Folders deep: 1 without glob unless given'),
  }),
  async run({ folder, glob, depth }, { files }, signal) {
    const pattern = glob === undefined ? null : globOf(glob);
    const lines: string[] = [];
    const skipped = new Set<string>();
    let [characters, more] = [0, 0];
    for await (const { path, kind, bytes } of files.walk(
      folder,
      depth ?? (pattern === null ? 1 : globDepth),
      signal,
    )) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      if (kind === 'folder' && SKIPPED.has(name)) skipped.add(name);
      if (pattern !== null && (kind === 'folder' || !pattern.matches(path))) continue;
      const line =
        kind === 'folder'
          ? `${path}/`
          : kind === 'file'
            ? `${path}  ${bytes}`
            : `${path}  (a link, or no file)`;
      characters += line.length + 1;
      if (characters > resultCharactersMax - reserve) more += 1;
      else lines.push(line);
    }
    if (lines.length === 0) {
      if (pattern === null) return { content: `${folder} is empty.`, failed: false };
      throw new ToolFault(`no file below ${folder} matches ${pattern.pattern}.${noteOf(skipped)}`);
    }
    if (more > 0) lines.push(`[cut: ${more} more names; list a folder of it, or use glob]`);
    const note = pattern === null ? '' : noteOf(skipped);
    return { content: lines.join('\n') + note, failed: false };
  },
});

/** What was not looked into, to be said after a result. */
export const noteOf = (skipped: ReadonlySet<string>): string =>
  skipped.size === 0
    ? ''
    : `\n[not looked into: ${[...skipped].sort().join(', ')}; name such a folder to do so]`;
