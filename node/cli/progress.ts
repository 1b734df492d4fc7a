import type { Writable } from 'node:stream';

/** What is over sooner needs no line. */
export const showAfterMs = 1_000;
/** A line is drawn at most this often. */
const drawEveryMs = 100;
/** A line that tells the time is drawn anew this often. */
const tickMs = 1_000;
/** A bar is this long, where the terminal has so many columns. */
const barColumns = 20;
const barNeeds = 60;

type Stream = Writable & { isTTY?: boolean; columns?: number };
type Environment = Record<string, string | undefined>;

/** Whether a line can be drawn over and over: a terminal that knows how, and nobody who keeps what was written. */
export const redraws = (stream: Stream, env: Environment): boolean =>
  stream.isTTY === true && env.TERM !== 'dumb' && ['', '0', 'false', undefined].includes(env.CI);

/** Columns a text takes; those of East Asia and pictures are two wide. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) columns += wide.test(character) ? 2 : 1;
  return columns;
}
const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f300}-\u{3ffff}]/u;

/** As much of the text as fits so many columns; what was cut is an ellipsis. */
export function cutTo(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let cut = '';
  for (const character of text) {
    if (columnsOf(cut + character) > columns - 1) break;
    cut += character;
  }
  return columns < 1 ? '' : `${cut}…`;
}

/** The one line at the bottom of a terminal that is drawn anew, and gone in the end. There is one for each stream. */
export class StatusLine {
  readonly #stream: Stream;
  readonly #resized = (): void => this.#draw();
  #words: (() => string) | null = null;
  #columns = 0;
  #drawnAt = 0;
  #timer: NodeJS.Timeout | undefined;

  private constructor(stream: Stream) {
    this.#stream = stream;
  }

  static of(stream: Stream): StatusLine {
    const line = lines.get(stream) ?? new StatusLine(stream);
    lines.set(stream, line);
    return line;
  }

  /** Shows what `words` says, now and each second, until `end`. */
  show(words: () => string): void {
    if (this.#words === null) {
      this.#stream.on('resize', this.#resized);
      this.#timer = setInterval(() => this.#draw(), tickMs).unref();
    }
    this.#words = words;
    this.#draw();
  }

  /** `words` may say something else than before; drawn if it is time to. */
  changed(): void {
    if (performance.now() - this.#drawnAt >= drawEveryMs) this.#draw();
  }

  /** Takes the line away, so that something else can be written; it comes back by itself. */
  wipe(): void {
    if (this.#columns === 0) return;
    // A terminal made narrower has broken the line into several; the cursor stands on the last.
    const rows = Math.ceil(this.#columns / Math.max(1, this.#stream.columns ?? 80));
    this.#stream.write(`${rows > 1 ? `\x1b[${rows - 1}A` : ''}\r\x1b[J`);
    this.#columns = 0;
  }

  end(): void {
    this.wipe();
    clearInterval(this.#timer);
    this.#stream.off('resize', this.#resized);
    this.#words = null;
  }

  #draw(): void {
    if (this.#words === null) return;
    const text = cutTo(this.#words(), (this.#stream.columns ?? 80) - 1);
    this.wipe();
    this.#stream.write(text);
    this.#columns = columnsOf(text);
    this.#drawnAt = performance.now();
  }
}
const lines = new WeakMap<Stream, StatusLine>();

/** How far something is. */
export interface Step {
  /** What is done: `sending the repository`. */
  what: string;
  done: number;
  /** null: nobody knows. */
  total: number | null;
  unit: 'bytes' | 'objects' | 'entries';
}

/** Told of each step; as often as one likes. */
export type OnStep = (step: Step) => void;

/** What takes more than a second, as a line that is drawn anew; `null` where there is none to draw. */
export class Meter {
  readonly #line: StatusLine;
  #step: Step;
  #shown = false;
  readonly #timer: NodeJS.Timeout;

  constructor(stream: Stream, what: string) {
    this.#line = StatusLine.of(stream);
    this.#step = { what, done: 0, total: null, unit: 'bytes' };
    const words = (): string => stepText(this.#step, stream.columns ?? 80);
    this.#timer = setTimeout(() => {
      this.#shown = true;
      this.#line.show(words);
    }, showAfterMs).unref();
  }

  readonly update: OnStep = (step) => {
    this.#step = step;
    if (this.#shown) this.#line.changed();
  };

  end(): void {
    clearTimeout(this.#timer);
    if (this.#shown) this.#line.end();
    this.#shown = false;
  }
}

/** A step in one line. */
export function stepText({ what, done, total, unit }: Step, columns: number): string {
  if (total === null || total <= 0) return done > 0 ? `${what}: ${amount(done, unit)}` : `${what} …`;
  const part = Math.min(1, done / total);
  const full = Math.floor(part * barColumns);
  const bar = columns < barNeeds ? '' : `[${'#'.repeat(full)}${'.'.repeat(barColumns - full)}] `;
  return `${bar}${String(Math.floor(part * 100)).padStart(3)} %  ${what}: ${amount(done, unit)} of ${amount(total, unit)}`;
}

function amount(value: number, unit: Step['unit']): string {
  if (unit !== 'bytes') return `${value} ${unit}`;
  return value < 1024 ** 2 ? `${Math.ceil(value / 1024)} KiB` : `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

/** A time that has passed, as `m:ss` or `h:mm:ss`. */
export function elapsed(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  const clock = `${minutes % 60}:${two(seconds % 60)}`;
  return minutes < 60 ? clock : `${Math.floor(minutes / 60)}:${clock.padStart(5, '0')}`;
}
