import { writeSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import { escapeLine } from '../../protocol/escape.ts';
import { coloursOn } from '../cli/colours.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
/** Lines for a person's eyes, or one JSON object a line for a program. */
export type LogFormat = 'text' | 'json';

const WORDS: Record<number, string> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'error' };
const COLOURS: Record<string, number> = { debug: 2, warn: 33, error: 31 };

/** The program's log on stderr, written at once: what was said before a crash is there. Each line of text goes through `around`. */
export function openLogger(
  level: LogLevel,
  format: LogFormat,
  around: (write: () => void) => void = (write) => write(),
): Logger {
  const stderr = 2;
  if (format === 'json') return pino({ level, base: null }, pino.destination({ fd: stderr, sync: true }));
  const colours = coloursOn(process.stderr, process.env);
  const write = (line: string): void => {
    around(() => {
      try {
        writeSync(stderr, `${readableLine(line, colours)}\n`);
      } catch {
        // A terminal that went away, or is full and not read: no reason for the program to end.
      }
    });
  };
  return pino({ level, base: null }, { write });
}

/** A line of the log as a person reads it: local time, how grave it is, the words, then what else it names. Pure. */
export function readableLine(json: string, colours = false): string {
  const { level, time, msg, code, ...rest } = JSON.parse(json) as Record<string, unknown>;
  const word = WORDS[level as number] ?? String(level);
  const paint = colours && COLOURS[word] !== undefined ? `\x1b[${COLOURS[word]}m` : '';
  const named = Object.entries(rest).filter(([, value]) => value !== null && value !== undefined);
  const more = [
    ...(code === undefined ? [] : [String(code)]),
    ...named.map(([k, v]) => `${k}: ${textOf(v)}`),
  ];
  const text = `${msg ?? ''}${more.length === 0 ? '' : ` (${more.join(', ')})`}`;
  const head = `${clock(new Date(time as number))} ${word.padEnd(5)}`;
  return `${paint}${head}${paint === '' ? '' : '\x1b[0m'} ${escapeLine(text)}`;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

const clock = (at: Date): string =>
  [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
