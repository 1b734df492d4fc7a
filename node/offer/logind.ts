import { execFile } from 'node:child_process';
import { z } from 'zod';

/** What logind says of the graphical session that is at the screen now. */
export interface SessionIdle {
  session: string;
  idle: boolean;
  /** Since when it is so, Unix ms; null: it does not say. */
  since: number | null;
}

/** Between two questions: a desktop says at once that its user is back, and is heard within this. */
const EVERY_MS = 2_000;
/** busctl that takes longer is ended; logind answers in milliseconds. */
const ANSWER_MS = 2_000;
/** What was said longer ago than this counts no more. */
const STALE_MS = 10_000;
const BYTES_MAX = 256 * 1024;
/** Sessions asked about at most: a seat shows one at a time. */
const SESSIONS_MAX = 16;

const SERVICE = 'org.freedesktop.login1';
const GRAPHICAL = new Set(['x11', 'wayland', 'mir']);

/**
 * Asks logind about the sessions of this machine's seats, by `busctl`, which comes with it: their desktops know of every
 * keyboard and mouse, also of those that an ordinary account may not read. Nothing is asked before the first `look`.
 */
export class LogindSignal {
  readonly #bus: readonly string[];
  readonly #closing = new AbortController();
  #asking = false;
  #askedAt = Number.NEGATIVE_INFINITY;
  #said: { at: number; sessions: SessionIdle[] } | null = null;

  /** `bus`: which bus, as busctl is told. */
  constructor(bus: readonly string[] = ['--system']) {
    this.#bus = bus;
  }

  /** As last heard; empty: no such session; null: logind cannot be asked here, or not yet. `now`: monotonic ms. */
  look(now: number = performance.now()): SessionIdle[] | null {
    if (!this.#asking && now - this.#askedAt >= EVERY_MS) void this.ask();
    return this.#said !== null && now - this.#said.at < STALE_MS ? this.#said.sessions : null;
  }

  /** Asks now; resolves when it was answered, or was not. */
  async ask(): Promise<void> {
    if (this.#asking || this.#closing.signal.aborted) return;
    this.#asking = true;
    this.#askedAt = performance.now();
    try {
      const sessions = await this.#sessions();
      this.#said = { at: performance.now(), sessions };
    } catch {
      // No logind, no busctl, or none that answers: what it said last counts until it is old.
    } finally {
      this.#asking = false;
    }
  }

  close(): void {
    this.#closing.abort();
  }

  async #sessions(): Promise<SessionIdle[]> {
    const listed = await this.#busctl(
      ...['call', SERVICE, '/org/freedesktop/login1', `${SERVICE}.Manager`, 'ListSessions'],
    );
    const seated = sessionsListed(listed)
      .filter(({ seat }) => seat !== '')
      .slice(0, SESSIONS_MAX);
    const said = await Promise.all(
      seated.map(async ({ id, path }) => {
        const names = ['Type', 'Active', 'IdleHint', 'IdleSinceHint'];
        const text = await this.#busctl('get-property', SERVICE, path, `${SERVICE}.Session`, ...names);
        return sessionSaid(id, text);
      }),
    );
    return said.filter((one) => one !== null);
  }

  #busctl(...args: string[]): Promise<string> {
    const options = {
      timeout: ANSWER_MS,
      maxBuffer: BYTES_MAX,
      signal: this.#closing.signal,
      env: { PATH: '/usr/bin:/bin' },
    };
    return new Promise((resolve, reject) => {
      execFile('busctl', [...this.#bus, '--json=short', ...args], options, (error, stdout) =>
        error === null ? resolve(stdout) : reject(error),
      );
    });
  }
}

const listAnswer = z.object({
  data: z.tuple([z.array(z.tuple([z.string(), z.number(), z.string(), z.string(), z.string()]))]),
});

/** Pure: what busctl prints of `ListSessions`. Throws where it is not of the form. */
export function sessionsListed(text: string): { id: string; seat: string; path: string }[] {
  const [sessions] = listAnswer.parse(JSON.parse(text)).data;
  return sessions.map(([id, , , seat, path]) => ({ id, seat, path }));
}

const property = z.object({ data: z.union([z.string(), z.number(), z.boolean()]) });

/** Pure: what busctl prints of a session's Type, Active, IdleHint and IdleSinceHint; null: nobody is at a screen in it. */
export function sessionSaid(session: string, text: string): SessionIdle | null {
  const [type, active, idle, since] = text
    .trim()
    .split('\n')
    .map((line) => property.parse(JSON.parse(line)).data);
  if (typeof type !== 'string' || !GRAPHICAL.has(type) || active !== true || typeof idle !== 'boolean')
    return null;
  return { session, idle, since: typeof since === 'number' && since > 0 ? since / 1_000 : null };
}
