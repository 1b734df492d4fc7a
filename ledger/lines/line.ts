import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { count } from '../../protocol/ids.ts';
import { entryLineBytesMax } from '../../protocol/limits.ts';
import { type Checkpoint, checkpointBytesMax, parseCheckpoint } from './checkpoint.ts';
import type { Entry } from './entry.ts';
import { readEntryLine, writeBody } from './entry-line.ts';
import { EVENT_BODIES, type EventBody, type EventType, isEventType, type LogEvent } from './events.ts';

/**
 * Lines of the log. A line is exactly what `JSON.stringify` gives for the parsed value, keys in the order below:
 * one value has one line, so a line's hash is its meaning's hash.
 */
const entryEnvelope = z.strictObject({
  index: count,
  epoch: count.min(1),
  time: count,
  type: z
    .string()
    .regex(/^[a-z][A-Za-z0-9]*(\.[A-Za-z0-9]+)+$/)
    .max(64),
  body: z.unknown(),
});
const checkpointEnvelope = z.strictObject({ checkpoint: z.string().max(checkpointBytesMax) });
/** Deeper bodies are refused: no event is, and a reader may recurse. */
const bodyDepthMax = 32;

/** What one line is. */
export type Line = { kind: 'entry'; entry: Entry } | { kind: 'checkpoint'; checkpoint: Checkpoint };

/** A line that is not of the form; the reader who knows the place makes `SF_LOG_DAMAGED` of it. */
export class LineFault extends Error {}

/** An entry that is ready to be appended. */
export interface MadeEntry {
  entry: Entry;
  /** Without newline. */
  line: string;
  /** Of the line, in bytes. */
  length: number;
}

/** An event that was checked and written: what it still lacks is its place. Its body is nobody else's. */
export interface WrittenEvent<T extends EventType = EventType> {
  type: T;
  /** As its schema gives it back. */
  body: EventBody<T>;
  /** The body in its line. */
  text: string;
  /** Of the text, in bytes. */
  bytes: number;
}

/** Throws `SF_USAGE` where the type is unknown or the body does not fit its schema. */
function writeEvent<T extends EventType>(event: { type: T; body: EventBody<T> }): WrittenEvent<T> {
  const { type } = event;
  const written = writeBody(event);
  // In plain ASCII a character is a byte.
  if (written !== null) return { type, ...written, bytes: written.text.length } as WrittenEvent<T>;
  const body = checkEvent(event as LogEvent) as EventBody<T>;
  const text = JSON.stringify(body);
  return { type, body, text, bytes: Buffer.byteLength(text) };
}

/**
 * The entry, its line without newline and that line's length in bytes, the body as its schema gives it back. Throws `SF_USAGE` where the type is
 * unknown, the body does not fit its schema or the line is too long: nothing invalid is ever written.
 */
export function makeEntry(
  { index, epoch, time }: { index: number; epoch: number; time: number },
  event: LogEvent | WrittenEvent,
): MadeEntry {
  const { type, body, text, bytes } = 'text' in event ? event : writeEvent(event);
  const line = `{"index":${index},"epoch":${epoch},"time":${time},"type":"${type}","body":${text}}`;
  const length = line.length - text.length + bytes;
  if (length + 1 > entryLineBytesMax) {
    throw new SuperfleetError('SF_USAGE', `the body of ${type} is too long for one line of the log`, {
      expected: `a line of at most ${entryLineBytesMax} bytes`,
      got: `${length + 1} bytes`,
      hint: 'put what is long into a blob and name the blob',
    });
  }
  return { entry: { index, epoch, time, type, body }, line, length };
}

/** The body as its schema gives it back; throws `SF_USAGE` where `append` would, but for the length. */
function checkEvent(event: LogEvent): unknown {
  if (!isEventType(event.type)) {
    throw new SuperfleetError('SF_USAGE', `no event has the type ${String((event as LogEvent).type)}`);
  }
  const parsed = EVENT_BODIES[event.type].safeParse(event.body);
  if (!parsed.success) {
    throw new SuperfleetError('SF_USAGE', `the body of ${event.type} is not of its form`, {
      expected: `the schema of ${event.type}`,
      got: z.prettifyError(parsed.error).slice(0, 512),
    });
  }
  const fault = numberFault(parsed.data);
  if (fault !== null) throw new SuperfleetError('SF_USAGE', `the body of ${event.type} ${fault}`);
  return parsed.data;
}

/**
 * The event checked and written. Throws `SF_USAGE` where an append of it would, wherever it came to stand: a core asks before it
 * decides on an event that holds foreign data, because an append that fails stops the founder.
 */
export function writtenEvent<T extends EventType>(event: { type: T; body: EventBody<T> }): WrittenEvent<T> {
  const largest = Number.MAX_SAFE_INTEGER;
  const written = writeEvent(event);
  makeEntry({ index: largest, epoch: largest, time: largest }, written);
  return written;
}

/** The checkpoint's line without newline. */
export function formatCheckpoint(checkpoint: Checkpoint): string {
  return JSON.stringify({ checkpoint: checkpoint.text });
}

const CHECKPOINT_BEGINS = '{"checkpoint":"';
/** False for the line of an entry. */
export const mayBeCheckpoint = (line: Uint8Array): boolean => line[2] === CHECKPOINT_BEGINS.charCodeAt(2);

/**
 * One line, given without its newline. Bodies of known types are parsed by their schemas, those of unknown types
 * kept as they are. Throws `LineFault` where a single byte is not as this program would have written it.
 */
export function parseLine(line: Uint8Array): Line {
  if (line.length + 1 > entryLineBytesMax)
    throw new LineFault(`a line of more than ${entryLineBytesMax} bytes`);
  const bytes = Buffer.isBuffer(line) ? line : Buffer.from(line.buffer, line.byteOffset, line.length);
  const entry = readEntryLine(bytes);
  if (entry !== null) return { kind: 'entry', entry };
  return parseAnyLine(bytes);
}

/** The same without the short way: what it would say of every line. */
export function parseAnyLine(line: Buffer): Line {
  const text = line.toString('utf8');
  const value = parsedJson(text);
  if (value === undefined) throw new LineFault('a line that is no JSON');
  if (!Buffer.from(value.text).equals(line)) {
    throw new LineFault('a line that is not written in the one form of its value');
  }
  return text.startsWith('{"checkpoint"') ? parseCheckpointLine(value.of) : parseEntryLine(value.of, text);
}

/** The value of a JSON text, and the text that is written for it. Nesting that the engine cannot follow is none. */
function parsedJson(text: string): { of: unknown; text: string } | undefined {
  try {
    const of: unknown = JSON.parse(text);
    return { of, text: JSON.stringify(of) };
  } catch {
    return undefined;
  }
}

function parseCheckpointLine(value: unknown): Line {
  const parsed = checkpointEnvelope.safeParse(value);
  if (!parsed.success) throw new LineFault('a checkpoint line with other fields');
  try {
    return { kind: 'checkpoint', checkpoint: parseCheckpoint(parsed.data.checkpoint) };
  } catch (error) {
    throw new LineFault((error as Error).message);
  }
}

function parseEntryLine(value: unknown, text: string): Line {
  const parsed = entryEnvelope.safeParse(value);
  if (!parsed.success) throw new LineFault(`an entry that is not of the form: ${firstIssue(parsed.error)}`);
  const { index, epoch, time, type } = parsed.data;
  // Equality with JSON.stringify above leaves only the order of the five keys open.
  if (
    !text.startsWith(
      `{"index":${index},"epoch":${epoch},"time":${time},"type":${JSON.stringify(type)},"body":`,
    )
  ) {
    throw new LineFault('an entry whose keys are in another order');
  }
  const fault = numberFault(parsed.data.body);
  if (fault !== null) throw new LineFault(`an entry whose body ${fault}`);
  if (!isEventType(type))
    return { kind: 'entry', entry: { index, epoch, time, type, body: parsed.data.body } };
  const body = EVENT_BODIES[type].safeParse(parsed.data.body);
  if (!body.success) {
    throw new LineFault(`an entry of type ${type} whose body is not of its form: ${firstIssue(body.error)}`);
  }
  return { kind: 'entry', entry: { index, epoch, time, type, body: body.data } };
}

const firstIssue = (error: z.ZodError): string => {
  const issue = error.issues[0];
  return issue === undefined ? 'unknown' : `${issue.path.join('.')} ${issue.message}`.trim().slice(0, 200);
};

/** Numbers that another reader would round, and nesting that another reader would not follow. */
function numberFault(value: unknown, depth = 0): string | null {
  if (typeof value === 'number') {
    const exact = Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
    return exact ? null : 'holds an integer of 2^53 or more';
  }
  if (typeof value !== 'object' || value === null) return null;
  if (depth >= bodyDepthMax) return `is nested deeper than ${bodyDepthMax}`;
  for (const part of Object.values(value)) {
    const fault = numberFault(part, depth + 1);
    if (fault !== null) return fault;
  }
  return null;
}
