import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';

/** What a node does at a worker's question of one kind. Throws where the question is not of the form agreed. */
export type Answer = (args: unknown[], signal: AbortSignal) => Promise<unknown>;
/** What it does when it is told something. Throws likewise. */
export type Hearer = (args: unknown[]) => void;

/** A part of what a node does for the worker of one attempt. */
export interface Service {
  readonly asks: Readonly<Record<string, Answer>>;
  readonly tells: Readonly<Record<string, Hearer>>;
  /** The worker is done, or gone: whatever it has of this node is taken back. Resolves when nothing runs for it any more. */
  close(): void | Promise<void>;
}

/** `run` with the arguments, once they are found to be of the form. */
export const answer =
  <S extends z.ZodType>(form: S, run: (args: z.infer<S>, signal: AbortSignal) => unknown): Answer =>
  (args, signal) => {
    const read = parsed(form, args);
    return new Promise((resolve) => resolve(run(read, signal)));
  };

export const hearer =
  <S extends z.ZodType>(form: S, run: (args: z.infer<S>) => void): Hearer =>
  (args) =>
    run(parsed(form, args));

/** A number that the node gave out. */
export const number = z.int().min(0);

let numbers = 0;
/** Never given out before: what an attempt left unsaid names nothing of the next one. */
export const nextNumber = (): number => ++numbers;

export const bytes = z.instanceof(Uint8Array);

function parsed<S extends z.ZodType>(form: S, args: unknown[]): z.infer<S> {
  const read = form.safeParse(args);
  if (read.success) return read.data;
  throw new SuperfleetError(
    'SF_FRAME',
    `a worker said what is not of the form: ${read.error.issues[0]?.message}`,
  );
}
