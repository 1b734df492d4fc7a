import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomic } from '../atomic-file.ts';

const file = z.strictObject({
  format: z.literal(1),
  /** Unix ms; null: until the owner resumes. Absent file: not paused. */
  pausedUntil: z.int().nullable(),
});

/**
 * Whether the owner has paused this machine: kept on disk, so that a restart does not take it back, and ended by the
 * clock where the owner said for how long.
 */
export class OwnerPause {
  readonly #path: string;
  #until: number | null;
  #paused: boolean;

  private constructor(path: string, paused: boolean, until: number | null) {
    this.#path = path;
    this.#paused = paused;
    this.#until = until;
  }

  /** A file that cannot be read counts as paused: the owner comes first. */
  static async load(path: string): Promise<OwnerPause> {
    try {
      const { pausedUntil } = file.parse(JSON.parse(await readFile(path, 'utf8')));
      return new OwnerPause(path, pausedUntil === null || pausedUntil > Date.now(), pausedUntil);
    } catch (cause) {
      return new OwnerPause(path, (cause as NodeJS.ErrnoException).code !== 'ENOENT', null);
    }
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Milliseconds until the pause ends by itself; null: not paused, or without an end. */
  get endsInMs(): number | null {
    return this.#paused && this.#until !== null ? Math.max(0, this.#until - Date.now()) : null;
  }

  async pause(ms: number | null): Promise<void> {
    this.#paused = true;
    this.#until = ms === null ? null : Date.now() + ms;
    await this.#save();
  }

  async resume(): Promise<void> {
    this.#paused = false;
    this.#until = 0;
    await this.#save();
  }

  #save(): Promise<void> {
    return writeFileAtomic(this.#path, JSON.stringify({ format: 1, pausedUntil: this.#until }));
  }
}
