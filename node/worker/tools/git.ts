import { z } from 'zod';
import { REVISION } from '../../git/look.ts';
import { HeadAndTail } from './output.ts';
import { defineTool, ToolFault } from './tool.ts';
import { namesOf } from './workspace.ts';

const headBytes = 11_000;
const tailBytes = 3_000;
/** A question that takes longer is too large for a model anyway. */
const lookMs = 60_000;

export const git = defineTool({
  name: 'git',
  description:
    'Asks git about the workspace: status; diff of the files as they are against a revision (HEAD unless given), new files too; log; show of a commit, or of a file at a revision; blame of a file. It changes nothing.',
  needs: 'read',
  parameters: z.strictObject({
    ask: z.enum(['status', 'diff', 'log', 'show', 'blame']),
    path: z.string().min(1).optional().describe('Relative to the workspace'),
    revision: z.string().regex(REVISION, 'expected a commit, branch or tag, such as HEAD~2').optional(),
    count: z.int().min(1).max(200).default(20).describe('Of log: how many commits'),
    from: z.int().min(1).optional().describe('Of blame: first line'),
    to: z.int().min(1).optional().describe('Of blame: last line'),
  }),
  async run({ ask, path, revision, count, from, to }, { place, secrets }, signal) {
    if (place.repository === null)
      throw new ToolFault('this task has no repository, so git has nothing to tell.');
    if (ask === 'blame' && path === undefined) throw new ToolFault('blame needs the path of a file.');
    const file = path === undefined ? null : namesOf(path).join('/') || null;
    if ((from === undefined) !== (to === undefined)) throw new ToolFault('from and to go together.');
    const range = from === undefined || to === undefined || ask !== 'blame' ? null : `${from},${to}`;
    const output = new HeadAndTail(secrets, headBytes, tailBytes);
    const limit = AbortSignal.timeout(lookMs);
    const question = { verb: ask, revision: revision ?? null, path: file, count, range };
    const either = AbortSignal.any([signal, limit]);
    const { end, complaint } = await place.repository
      .look(question, (chunk) => output.push(chunk), either)
      .catch((error: unknown) => {
        signal.throwIfAborted();
        if (limit.aborted) throw new ToolFault(`git ${ask} took longer than ${lookMs} ms. Ask for one path.`);
        throw error;
      });
    if (end.exitCode !== 0) {
      const said = complaint.trim().slice(-1000) || `it ended with ${end.exitCode ?? end.killedBy}`;
      throw new ToolFault(`git ${ask}: ${said}`);
    }
    return { content: output.text('name a path or a range to see less') || NOTHING[ask], failed: false };
  },
});

const NOTHING = {
  status: 'nothing is changed.',
  diff: 'no difference.',
  log: 'no commits.',
  show: 'it is empty.',
  blame: 'the file has no lines.',
} as const;
