import type { ServerResponse } from 'node:http';
import type { Context } from 'hono';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { followersMax } from './http.ts';

/** A silent stream gets an empty line this often, so that a reader that is gone is noticed. */
const keepAliveMs = 15_000;
/** How long an answer waits for its first bytes, so that an early error keeps its status. */
const firstMs = 250;

/** Counts the requests that stay open; one past the bound is refused with `SF_FULL`. */
export class Followers {
  #open = 0;
  readonly #max: number;

  constructor(max: number = followersMax) {
    this.#max = max;
  }

  get open(): number {
    return this.#open;
  }

  enter(): () => void {
    if (this.#open >= this.#max) {
      throw new SuperfleetError('SF_FULL', 'too many requests are being followed', {
        expected: `at most ${this.#max} at one time`,
        got: `${this.#open}`,
        hint: 'end another --follow and try again',
      });
    }
    this.#open++;
    let left = false;
    return () => {
      if (!left) this.#open--;
      left = true;
    };
  }
}

export type Source = (signal: AbortSignal) => AsyncIterable<Uint8Array>;

/**
 * Answers with the bytes of `source` as they come. The source's signal is aborted when the reader goes away. An error
 * before the first byte is an ordinary error answer; a later one breaks the connection, so no reader takes half for whole.
 */
export async function streamBytes(context: Context, followers: Followers, source: Source): Promise<Response> {
  return stream(context, followers, source, {
    type: 'application/octet-stream',
    keepAlive: null,
    failure: null,
  });
}

/**
 * Answers with one JSON document a line. An error after the first line is the last line: `{"error": …}`. Empty lines
 * are to be skipped.
 */
export async function streamLines(
  context: Context,
  followers: Followers,
  source: (signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<Response> {
  const encode = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`);
  async function* lines(signal: AbortSignal): AsyncIterable<Uint8Array> {
    for await (const value of source(signal)) yield encode(value);
  }
  return stream(context, followers, lines, {
    type: 'application/x-ndjson',
    keepAlive: Buffer.from('\n'),
    failure: (thrown) => encode({ error: asSuperfleetError(thrown).toJSON() }),
  });
}

interface Form {
  type: string;
  keepAlive: Uint8Array | null;
  failure: ((thrown: unknown) => Uint8Array) | null;
}

async function stream(context: Context, followers: Followers, source: Source, form: Form): Promise<Response> {
  const leave = followers.enter();
  const abort = new AbortController();
  const iterator = source(abort.signal)[Symbol.asyncIterator]();
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    clearInterval(timer);
    abort.abort();
    leave();
    // A generator that waits on something else than the signal still gets to its `finally`.
    iterator.return?.().catch(() => {});
  };
  context.req.raw.signal.addEventListener('abort', end, { once: true });
  let pending: Promise<IteratorResult<Uint8Array>> | null = iterator.next();
  try {
    await soon(pending);
  } catch (thrown) {
    end();
    throw thrown;
  }
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (form.keepAlive === null) return;
        const bytes = form.keepAlive;
        timer = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(bytes);
        }, keepAliveMs);
        timer.unref();
      },
      async pull(controller) {
        try {
          const next = await (pending ?? iterator.next());
          pending = null;
          if (abort.signal.aborted) return;
          if (next.done !== true) return controller.enqueue(next.value);
          end();
          controller.close();
        } catch (thrown) {
          if (abort.signal.aborted) return;
          end();
          if (form.failure !== null) controller.enqueue(form.failure(thrown));
          else if (!breakOff(context)) return controller.error(thrown);
          controller.close();
        }
      },
      cancel: end,
    },
    { highWaterMark: 1 },
  );
  return new Response(body, { headers: { 'content-type': form.type, 'x-accel-buffering': 'no' } });
}

/** Settles with `first`, or after a moment: an answer must begin although there is nothing to say yet. */
async function soon(first: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const moment = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, firstMs);
  });
  try {
    await Promise.race([first, moment]);
  } finally {
    clearTimeout(timer);
  }
}

/** Closes the connection under an answer that can't be completed; false: this answer has no connection of its own. */
function breakOff(context: Context): boolean {
  const { outgoing } = (context.env ?? {}) as { outgoing?: ServerResponse };
  outgoing?.destroy();
  return outgoing !== undefined;
}
