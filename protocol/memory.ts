import { z } from 'zod';
import { count } from './ids.ts';
import {
  memoryIdPattern,
  modelNoteCharactersMax,
  noteCharactersMax,
  notePathPattern,
  noteTopicPattern,
} from './limits.ts';

/**
 * What a mesh remembers of goals, and what of that is sent with the next one. Texts in it come from persons, models and the output of
 * commands: whoever shows one marks it as quoted.
 */

/** Files of one attempt that are named, and characters of a name. */
export const lessonFilesMax = 32;
export const lessonPathCharactersMax = 200;
/** Checks of one attempt that are told of. */
export const lessonFailuresMax = 8;
/** Of a line that stands for what a check printed. */
export const failurePatternCharactersMax = 200;
/** Records sent with one attempt, and their characters as JSON together: a tenth of what a model of 16,384 tokens holds. */
export const rememberedMax = 8;
export const rememberedCharactersMax = 6_000;
/** Of a goal or a note as it is remembered and sent. */
export const rememberedTextCharactersMax = 600;

export const memoryId = z.string().regex(memoryIdPattern, 'the id of a task, or of a note such as n1042');
export const noteText = z.string().min(1).max(noteCharactersMax);
export const noteTopic = z.string().regex(noteTopicPattern, 'a topic of 1–64 letters and digits');
export const notePath = z.string().regex(notePathPattern, 'a path inside the repository, without ..');

/** What an attempt at a goal changed, by git's count, and which checks were red, by their end. */
export const lesson = z.object({
  /** Paths that differ from the base, the first of them. */
  files: z.array(z.string().max(lessonPathCharactersMax)).max(lessonFilesMax),
  /** `check`: its place among the task's. `before`: the work; else at its end. */
  failures: z
    .array(
      z.object({
        check: count.max(63),
        before: z.boolean(),
        pattern: z.string().max(failurePatternCharactersMax),
      }),
    )
    .max(lessonFailuresMax),
  /** What the model left for whoever works there next: a claim, also where the work was verified. @default nothing */
  note: z.string().max(modelNoteCharactersMax).optional(),
});
export type Lesson = z.infer<typeof lesson>;

/** A record as it is sent with an attempt. */
export const remembered = z.object({
  id: memoryId,
  kind: z.enum(['task', 'note']),
  /** A task that another machine verified. Anything else is what somebody said or claimed. */
  verified: z.boolean(),
  /** It is of the repository that the attempt works on. */
  here: z.boolean(),
  /** The goal of a task, or the note. */
  text: z.string().max(rememberedTextCharactersMax),
  /** How a task ended; what a note is about; null: nothing is said. */
  about: z.string().max(rememberedTextCharactersMax).nullable(),
  /** Files that a task changed, the first of them. */
  files: z.array(z.string().max(lessonPathCharactersMax)).max(lessonFilesMax),
  /** Checks of a task that were red before its work (`before`) or at its end. */
  failures: z
    .array(z.object({ before: z.boolean(), pattern: z.string().max(failurePatternCharactersMax) }))
    .max(lessonFailuresMax),
  /** What the model that did it left to be known. @default nothing */
  note: z.string().max(modelNoteCharactersMax).optional(),
});
export type Remembered = z.infer<typeof remembered>;
