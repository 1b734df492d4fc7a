import type { Context, MiddlewareHandler } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { z } from 'zod';
import type { Actor } from '../../ledger/lines/events.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { asSuperfleetError, ERROR_CODES, SuperfleetError } from '../../protocol/errors.ts';
import { requestBytesMax } from '../../protocol/limits.ts';

/** Requests that stay open (watch, logs, tail, export) at one time; each holds a socket and an iterator. */
export const followersMax = 64;
/** How long a request that does not stream may take. */
export const answerMs = 60_000;
/** What still comes of a body that is refused is thrown away for so long: a large blob over a local socket. */
const restMs = 10_000;

/** What travels beside a request: who asks, where something other than the socket's user does; why the founder did not answer it. */
export interface ApiEnv {
  Bindings: { by?: Actor; unanswered?: SuperfleetError };
  Variables: { by: Actor; correlation: string | null };
}

/** The JSON answer of an error, with the registry's status. */
export function errorResponse(context: Context, thrown: unknown): Response {
  const error = asSuperfleetError(thrown);
  if (error.retryAfterMs !== null)
    context.header('Retry-After', String(Math.ceil(error.retryAfterMs / 1000)));
  return context.json({ error: error.toJSON() }, ERROR_CODES[error.code].status as ContentfulStatusCode);
}

/**
 * First in every app: no browser (a page has Origin or Sec-Fetch headers, and a Host of its own), who asks, and the
 * correlation id. The user's name is a claim; a peer's identity comes from its connection, never from a header.
 */
export const guard: MiddlewareHandler<ApiEnv> = async (context, next) => {
  const host = (context.req.header('host') ?? '').replace(/:\d+$/, '');
  const browser = ['origin', 'sec-fetch-site', 'sec-fetch-mode'].find((name) => context.req.header(name));
  if (browser !== undefined || !['localhost', 'superfleet'].includes(host)) {
    throw new SuperfleetError('SF_REFUSED', 'this API answers programs on its own socket, not web pages', {
      expected: 'Host: localhost, and no Origin',
      got: browser === undefined ? `Host: ${host}` : `${browser}: ${context.req.header(browser)}`,
    });
  }
  const correlation = context.req.header('superfleet-correlation') ?? null;
  if (correlation !== null && !/^[A-Za-z0-9._-]{1,64}$/.test(correlation)) {
    throw new SuperfleetError('SF_USAGE', 'the correlation id is not of the form asked for', {
      expected: '1–64 letters, digits, . _ -',
      got: correlation,
    });
  }
  context.set('by', context.env?.by ?? claimedActor(context.req.header('superfleet-user')));
  context.set('correlation', correlation);
  await next();
};

function claimedActor(header: string | undefined): Actor {
  let user = 'unknown';
  try {
    if (header !== undefined) user = decodeURIComponent(header);
  } catch {
    user = '';
  }
  if (!/^[^\p{C}]{1,64}$/u.test(user)) {
    throw new SuperfleetError('SF_USAGE', 'Superfleet-User is not the name of a user', {
      expected: '1–64 printable characters, percent-encoded',
      got: header ?? null,
    });
  }
  return { kind: 'local', user, claimed: true };
}

/** The body as JSON of this schema; `SF_USAGE` names the field, what was expected and what it got. */
export async function jsonBody<T extends z.ZodType>(
  context: Context,
  schema: T,
  bytesMax: number = requestBytesMax,
): Promise<z.output<T>> {
  const type = context.req.header('content-type') ?? '';
  if (!/^application\/json\b/.test(type)) {
    throw new SuperfleetError('SF_USAGE', 'the body must be JSON', {
      expected: 'Content-Type: application/json',
      got: type === '' ? 'no Content-Type' : type,
    });
  }
  const text = Buffer.from(await boundedBody(context, bytesMax)).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SuperfleetError('SF_USAGE', 'the body is not JSON', {
      expected: 'one JSON document',
      got: text.slice(0, 60),
      cause,
    });
  }
  return parsed(schema, value);
}

/** A value of this schema, or `SF_USAGE` naming the first field that is not. */
export function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = (issue?.path ?? []).map(String);
  let got: unknown = value;
  for (const key of path) got = (got as Record<string, unknown> | null | undefined)?.[key];
  throw new SuperfleetError(
    'SF_USAGE',
    `${path.join('.') || 'the request'}: ${issue?.message ?? 'invalid'}`,
    {
      expected: issue?.message ?? null,
      got: got === undefined ? 'nothing' : JSON.stringify(got).slice(0, 120),
    },
  );
}

/** A file of JSON with one spelling, byte for byte. */
export const fileResponse = (bytes: Uint8Array): Response =>
  new Response(new Uint8Array(bytes), { headers: { 'content-type': 'application/json' } });

/** The whole body, never more than `bytesMax`. */
export async function boundedBody(context: Context, bytesMax: number): Promise<Uint8Array> {
  return collectBytes(bodyOf(context), bytesMax, () => {
    return new SuperfleetError('SF_USAGE', 'the body is too large', {
      expected: `at most ${bytesMax} bytes`,
      got: `more than ${bytesMax} bytes`,
    });
  });
}

/**
 * The body as it comes. Whoever stops reading it, to refuse it, does so when the rest has come and was thrown away, as
 * far as that takes no more than `restMs`: a client whose writes break does not get to read why.
 */
export async function* bodyOf(context: Context): AsyncIterable<Uint8Array> {
  const body = context.req.raw.body as ReadableStream<Uint8Array> | null;
  if (body === null) return;
  const reader = body.getReader();
  let done = false;
  try {
    for (;;) {
      const next = await reader.read();
      done = next.done;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    const deadline = performance.now() + restMs;
    while (!done && performance.now() < deadline) done = (await reader.read().catch(() => ENDED)).done;
    reader.releaseLock();
  }
}

const ENDED = { done: true };

/** The promise's value, or `SF_TIMEOUT` when it takes longer than a person waits. */
export async function inTime<T>(promise: Promise<T>, ms: number = answerMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new SuperfleetError('SF_TIMEOUT', 'no answer came in time', { expected: `within ${ms} ms` }));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
