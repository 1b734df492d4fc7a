import { z } from 'zod';
import { count } from '../../../protocol/ids.ts';
import { memoryId, notePath, noteText, noteTopic } from '../../../protocol/memory.ts';
import { repositoryInput } from '../../../protocol/task.ts';

const repository = repositoryInput.pick({ id: true, name: true });

/** What `/v1/memory` is asked, and what its plugin is. */
export const listBody = z.strictObject({
  /** Records older than this one's number. */
  cursor: count.default(Number.MAX_SAFE_INTEGER),
  limit: count.min(1).max(1_000).default(100),
  repository: repository.shape.id.nullable().default(null),
});
export const showBody = z.strictObject({ record: memoryId });
export const forgetBody = showBody;
export const searchBody = z.strictObject({
  words: z.string().min(1).max(1_000),
  limit: count.min(1).max(1_000).default(20),
});
export const noteBody = z.strictObject({
  text: noteText,
  repository: repository.nullable().default(null),
  file: notePath.nullable().default(null),
  topic: noteTopic.nullable().default(null),
});

/** The same of a query, whose values are text. */
const number = z
  .string()
  .regex(/^\d{1,15}$/, 'a number')
  .transform(Number);
export const listQuery = z.object({
  cursor: number.optional(),
  limit: number.optional(),
  repository: z.string().optional(),
});
export const searchQuery = z.object({ q: searchBody.shape.words, limit: number.optional() });
