import { type Cursor, NOT_READ, type Reader, readCount, readerOf, skip, textOf } from '../canonical/read.ts';
import { type Written, writerOf } from '../canonical/write.ts';
import type { KnownEntry } from './entry.ts';
import { EVENT_BODIES, type EventType } from './events.ts';

const INDEX = Buffer.from('{"index":');
const EPOCH = Buffer.from(',"epoch":');
const TIME = Buffer.from(',"time":');
const TYPE = Buffer.from(',"type":"');
const BODY = Buffer.from('","body":');
const QUOTE = 0x22;
const CLOSE_BRACE = 0x7d;

/** By type; a type whose schema has no writer is not here. */
const WRITERS = new Map<string, NonNullable<ReturnType<typeof writerOf>>>();
/** The same for readers. */
const READERS = new Map<string, { type: EventType; read: Reader }>();
for (const type of Object.keys(EVENT_BODIES) as EventType[]) {
  const read = readerOf(EVENT_BODIES[type]);
  if (read !== null) READERS.set(type, { type, read });
  const write = writerOf(EVENT_BODIES[type]);
  if (write !== null) WRITERS.set(type, write);
}

/**
 * The entry of a line as a founder commonly writes it, read in one pass; exactly what `parseLine` makes of it. Null says
 * nothing about the line: it is then parsed and checked in full. The caller has seen to the line's length.
 */
export function readEntryLine(line: Buffer): KnownEntry | null {
  const cursor: Cursor = { bytes: line, at: 0 };
  if (!skip(cursor, INDEX)) return null;
  const index = readCount(cursor);
  if (!skip(cursor, EPOCH)) return null;
  const epoch = readCount(cursor);
  if (!skip(cursor, TIME)) return null;
  const time = readCount(cursor);
  if (index < 0 || epoch < 1 || time < 0 || !skip(cursor, TYPE)) return null;
  let end = cursor.at;
  while (end < line.length && line[end] !== QUOTE) end += 1;
  const known = READERS.get(textOf(line, cursor.at, end));
  cursor.at = end;
  if (known === undefined || !skip(cursor, BODY)) return null;
  const { type } = known;
  const body = known.read(cursor);
  if (body === NOT_READ || cursor.at !== line.length - 1 || line[cursor.at] !== CLOSE_BRACE) return null;
  return { index, epoch, time, type, body } as KnownEntry;
}

/**
 * The body of an event as a founder commonly has them, checked and written in one pass, and the body as its schema gives it
 * back; exactly what checking and `JSON.stringify` make of it, in plain ASCII. Null says nothing about the event: it is
 * then checked and written in full. The caller sees to the length.
 */
export function writeBody({
  type,
  body,
}: {
  type: string;
  body: unknown;
}): { body: unknown; text: string } | null {
  const written: Written = { value: undefined };
  const text = WRITERS.get(type)?.(body, written) ?? null;
  return text === null ? null : { body: written.value, text };
}

/** Types of which lines are read in one pass. */
export const readTypes = (): EventType[] => [...READERS.values()].map(({ type }) => type);
