import { closeSync, constants, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DisplaySignal } from './display.ts';
import { LogindSignal, type SessionIdle } from './logind.ts';
import { hasSeat } from './seat.ts';

/** What tells that somebody is at a machine, without a right that an ordinary user lacks. */
export interface PresencePlaces {
  /** Terminals, `pts/` and `input/` below. */
  dev: string;
  /** Counters of interrupts: those of a keyboard or mouse of the PS/2 kind stand alone in them. */
  interrupts: string;
  /** The input devices there are, and by what they are connected. */
  inputDevices: string;
  seat(): boolean;
  /** Asked where there is a seat. */
  logind: Pick<LogindSignal, 'look' | 'close'>;
  display: Pick<DisplaySignal, 'look' | 'refusal' | 'close'>;
}

const PLACES: Omit<PresencePlaces, 'logind' | 'display'> = {
  dev: '/dev',
  interrupts: '/proc/interrupts',
  inputDevices: '/proc/bus/input/devices',
  seat: () => hasSeat(),
};

export interface Presence {
  /** Since the last sign, in ms; null: no sign can be had here, or not every keyboard and mouse could be seen. */
  idleMs: number | null;
  signal: string | null;
  seat: boolean;
  /** Every sign that can be had here, with what it says; and what cannot be seen at a seat. */
  signals: SignalReading[];
}

/** What one sign says, in words for its owner. */
export interface SignalReading {
  name: string;
  says: string;
}

type Signal = 'terminals' | 'input devices' | 'keyboard interrupts' | 'display' | 'logind';

const BUS_I8042 = '0011';
const BUS_HOST = '0019';
/** Terminals and devices looked at; more than this many have no reader that a person is. */
const DEVICES_MAX = 1024;

/**
 * Looks for signs of a person: terminals that were read from (console, ssh, terminal windows; their times are the
 * kernel's, kept to 8 s), input devices this process may read, interrupts of a PS/2 keyboard or mouse, the X server of its
 * own display, and at a seat the desktop's own word to logind. What is typed is never kept. Call `look` about once a second; only what changes between two looks is seen of devices.
 */
export class PresenceSensor {
  readonly #places: PresencePlaces;
  readonly #inputs = new Map<string, number>();
  #terminals = new Map<string, number>();
  #interrupts: number | null = null;
  readonly #last = new Map<Signal, number>();

  constructor(places: Partial<PresencePlaces> = {}) {
    this.#places = { ...PLACES, logind: new LogindSignal(), display: new DisplaySignal(), ...places };
  }

  /** `now`: Unix ms by the same clock as the times of files. */
  look(now: number): Presence {
    const seat = this.#places.seat();
    const display = this.#places.display.look();
    if (display !== null) this.#sign(now - display.idleMs, 'display');
    const signals = [
      this.#terminalsRead(now),
      this.#inputsRead(now),
      this.#interrupted(now),
      display === null ? null : ('display' as const),
    ];
    const unseen = seat && display?.all !== true ? this.#unseen() : [];
    const sessions = seat ? (this.#places.logind.look() ?? []) : [];
    if (sessions.length > 0)
      signals.push(this.#sessionsSaid(now, sessions, unseen === null || unseen.length > 0));
    const used = signals.filter((signal) => signal !== null);
    const blind = seat && sessions.length === 0 && (unseen === null || unseen.length > 0);
    const { refusal } = this.#places.display;
    const readings = [
      ...this.#readings(now, used, sessions),
      ...(refusal === null ? [] : [{ name: 'display', says: `cannot be asked: ${refusal}` }]),
      ...unseenReading(unseen),
    ];
    const newest = [...this.#last].reduce<[Signal, number] | null>(
      (best, one) => (best === null || one[1] > best[1] ? one : best),
      null,
    );
    if (used.length === 0 || blind || newest === null) {
      return { idleMs: null, signal: null, seat, signals: readings };
    }
    // A clock that was set back leaves signs in the future: they are no older than now.
    const idleMs = Math.max(0, now - newest[1]);
    return { idleMs, signal: idleMs < 10_000 ? newest[0] : used.join(', '), seat, signals: readings };
  }

  close(): void {
    for (const fd of this.#inputs.values()) closeSync(fd);
    this.#inputs.clear();
    this.#places.logind.close();
    this.#places.display.close();
  }

  #sign(at: number, signal: Signal): void {
    this.#last.set(signal, Math.max(at, this.#last.get(signal) ?? at));
  }

  #readings(now: number, used: readonly Signal[], sessions: readonly SessionIdle[]): SignalReading[] {
    return used.map((name) => {
      const at = this.#last.get(name);
      const idle = at === undefined ? 'no sign so far' : `last sign ${agoWords(now - at)}`;
      if (name !== 'logind') return { name, says: idle };
      const said = sessions.map(({ session, idle }) => `session ${session} is ${idle ? '' : 'not '}idle`);
      return { name, says: `${said.join(', ')}; ${idle}` };
    });
  }

  /**
   * What the desktops say. One that never calls itself idle tells only when it began; but where a keyboard or mouse is not
   * seen by other means, what its desktop does not call idle is in use.
   */
  #sessionsSaid(now: number, sessions: readonly SessionIdle[], decides: boolean): Signal {
    for (const { idle, since } of sessions) {
      if (since !== null) this.#sign(Math.min(now, since), 'logind');
      if ((decides && !idle) || !this.#last.has('logind')) this.#sign(now, 'logind');
    }
    return 'logind';
  }

  #terminalsRead(now: number): Signal | null {
    const before = this.#terminals;
    this.#terminals = new Map();
    const consoles = list(this.#places.dev).filter((name) => /^tty(S|AMA|USB)?\d+$/.test(name));
    const windows = list(join(this.#places.dev, 'pts')).filter((name) => /^\d+$/.test(name));
    for (const name of [...consoles, ...windows.map((one) => `pts/${one}`)].slice(0, DEVICES_MAX)) {
      const stat = statSync(join(this.#places.dev, name), { throwIfNoEntry: false });
      if (stat === undefined) continue;
      this.#terminals.set(name, stat.atimeMs);
      const known = before.get(name);
      if (known !== stat.atimeMs)
        this.#sign(known === undefined ? Math.min(now, stat.atimeMs) : now, 'terminals');
    }
    return this.#terminals.size > 0 ? 'terminals' : null;
  }

  /** Those it may read, emptied: that there was anything is the sign. */
  #inputsRead(now: number): Signal | null {
    const folder = join(this.#places.dev, 'input');
    const events = list(folder).filter((name) => /^event\d+$/.test(name));
    for (const [name, fd] of this.#inputs) {
      if (events.includes(name)) continue;
      closeSync(fd);
      this.#inputs.delete(name);
    }
    for (const name of events.slice(0, DEVICES_MAX)) {
      if (this.#inputs.has(name)) continue;
      try {
        this.#inputs.set(name, openSync(join(folder, name), constants.O_RDONLY | constants.O_NONBLOCK));
        // What happened before nobody can tell.
        this.#sign(now, 'input devices');
      } catch {
        // Not for this user.
      }
    }
    for (const fd of this.#inputs.values()) if (drain(fd)) this.#sign(now, 'input devices');
    return this.#inputs.size > 0 ? 'input devices' : null;
  }

  #interrupted(now: number): Signal | null {
    const counted = keyboardInterrupts(read(this.#places.interrupts));
    if (counted === null) return null;
    if (counted !== this.#interrupts) this.#sign(now, 'keyboard interrupts');
    this.#interrupts = counted;
    return 'keyboard interrupts';
  }

  /** At a seat: keyboards and mice whose use this process cannot see; null: it cannot tell which there are. */
  #unseen(): string[] | null {
    const text = read(this.#places.inputDevices);
    if (text === '') return null;
    return unseenInputs(text, [...this.#inputs.keys()], this.#interrupts !== null);
  }
}

const unseenReading = (unseen: string[] | null): SignalReading[] => {
  if (unseen === null) return [{ name: 'not seen', says: 'which keyboards and mice there are' }];
  return unseen.length === 0 ? [] : [{ name: 'not seen', says: unseen.join(', ') }];
};

const agoWords = (ms: number): string =>
  ms < 1_000
    ? 'now'
    : `${ms < 60_000 ? `${Math.floor(ms / 1_000)} s` : `${Math.floor(ms / 60_000)} min`} ago`;

/** Pure: what `/proc/interrupts` counted for the PS/2 controller, which a keyboard or mouse has to itself; null: none. */
export function keyboardInterrupts(text: string): number | null {
  const lines = text.split('\n').filter((line) => /\bi8042\b/.test(line));
  if (lines.length === 0) return null;
  const counts = lines.flatMap((line) => /^\s*\d+:((?:\s+\d+)+)/.exec(line)?.[1]?.trim().split(/\s+/) ?? []);
  return counts.reduce((sum, count) => sum + Number(count), 0);
}

/** Pure: names of keyboards and mice of `/proc/bus/input/devices` whose use would not be seen. */
export function unseenInputs(text: string, readable: string[], interrupts: boolean): string[] {
  return text.split(/\n\s*\n/).flatMap((device) => {
    const handlers = /^H: Handlers=(.*)$/m.exec(device)?.[1]?.split(/\s+/) ?? [];
    const bus = /^I: Bus=([0-9a-f]{4})/m.exec(device)?.[1] ?? '';
    const used = handlers.some((handler) => /^(kbd|mouse\d+)$/.test(handler));
    // The power button and its like are no sign of a person at work.
    if (!used || bus === BUS_HOST || (bus === BUS_I8042 && interrupts)) return [];
    if (handlers.some((handler) => readable.includes(handler))) return [];
    return [/^N: Name="(.*)"$/m.exec(device)?.[1] ?? 'an input device'];
  });
}

function drain(fd: number): boolean {
  const buffer = Buffer.alloc(4096);
  let any = false;
  try {
    while (readSync(fd, buffer, 0, buffer.length, null) > 0) any = true;
  } catch {
    // EAGAIN: nothing more now. A device that was pulled out goes with its name.
  }
  buffer.fill(0);
  return any;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
