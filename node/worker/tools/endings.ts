import { z } from 'zod';
import { modelNoteCharactersMax } from '../../../protocol/limits.ts';
import { defineTool } from './tool.ts';

const words = z.string().min(1).max(4000);

export const finish = defineTool({
  name: 'finish',
  description: 'Says that the goal is reached. The checks of the task are then run; they decide, not this.',
  needs: 'read',
  parameters: z.strictObject({
    summary: words.describe('What was changed and why'),
    note: z
      .string()
      .min(1)
      .max(modelNoteCharactersMax)
      .optional()
      .describe('What later work in this repository should know and its files do not say; mostly nothing'),
    lowConfidence: z.boolean().default(false).describe('True: somebody should look at it with care'),
  }),
  run: async ({ summary, lowConfidence, note }) => ({
    content: 'noted.',
    failed: false,
    ending: { kind: 'finish', summary, lowConfidence, ...(note === undefined ? {} : { note }) },
  }),
});

export const signal = defineTool({
  name: 'signal',
  description:
    'Says that the task cannot go on as it is: clarification_needed with the question; low_confidence with the reason; partial_completion with what is left to do; task_rejection with the reason.',
  needs: 'read',
  parameters: z.strictObject({
    signal: z.enum(['clarification_needed', 'low_confidence', 'partial_completion', 'task_rejection']),
    text: words.describe('The question, the reason, or what is left'),
  }),
  run: async ({ signal, text }) => ({
    content: 'noted.',
    failed: false,
    ending: { kind: 'signal', signal, text },
  }),
});
