import type { EventBody, EventType } from './events.ts';

/** One line of the log (design §3). `time` is Unix ms, informational and non-decreasing. */
export interface Entry {
  index: number;
  epoch: number;
  time: number;
  type: string;
  body: unknown;
}

/** An entry of a known type, its body parsed by that type's schema. */
export type KnownEntry = {
  [T in EventType]: Omit<Entry, 'type' | 'body'> & { type: T; body: EventBody<T> };
}[EventType];
