import { chmod, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readTextOrNull, writeFileAtomic } from '../../node/atomic-file.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { secretName } from '../../protocol/ids.ts';
import { secretBytesMax } from '../../protocol/limits.ts';

/** Secrets of one mesh. */
export const secretsMax = 256;

const file = z.strictObject({
  format: z.literal(1),
  secrets: z.record(secretName, z.string().max(secretBytesMax)),
});

/** Where the secrets of a data folder lie: beside it, so that a copy of the folder or a backup holds none. */
export const secretsFolder = (dir: string): string => `${dir}.secrets`;
export const secretsFile = (dir: string): string => join(secretsFolder(dir), 'secrets.json');

/**
 * The founder's secrets: names and values in one 0600 file outside the data folder. Values never reach the log, a
 * blob, an argument list or an answer of `/v1`.
 */
export class SecretStore {
  readonly #path: string;
  readonly #values: Map<string, string>;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, values: Map<string, string>) {
    this.#path = path;
    this.#values = values;
  }

  /** Opens the file, making its 0700 folder; `SF_FOLDER` where it is not of the form. */
  static async open(path: string): Promise<SecretStore> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await chmod(dirname(path), 0o700);
    const text = await readTextOrNull(path);
    if (text === null) return new SecretStore(path, new Map());
    try {
      return new SecretStore(path, new Map(Object.entries(file.parse(JSON.parse(text)).secrets)));
    } catch {
      // The cause is left out: a parser's message may quote the value.
      throw new SuperfleetError('SF_FOLDER', `the file of secrets cannot be read: ${path}`, {
        expected: 'the file as mesh-hub wrote it',
        got: 'something else',
        hint: 'move it away and set the secrets again',
      });
    }
  }

  /** The values as they are now: what is set later is not in it, so that nobody uses what is not logged yet. */
  get values(): ReadonlyMap<string, string> {
    return new Map(this.#values);
  }

  /** Lets go of what the log does not know: a crash between file and log, or a removal that was only logged. */
  async retain(names: ReadonlySet<string>): Promise<void> {
    const unknown = [...this.#values.keys()].filter((name) => !names.has(name));
    if (unknown.length === 0) return;
    for (const name of unknown) this.#values.delete(name);
    await this.#save();
  }

  /** Keeps a value, synced before it resolves. One line break at the end is taken off, as `echo` and editors add it. */
  async set(name: string, value: Uint8Array): Promise<void> {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
      .decode(value)
      .replace(/\r?\n$/, '');
    if (text.length === 0 || Buffer.byteLength(text) > secretBytesMax || text.includes('\0')) {
      throw new SuperfleetError('SF_USAGE', 'this value cannot be a secret', {
        expected: `1 to ${secretBytesMax} bytes of UTF-8 text without NUL`,
        got: `${value.byteLength} bytes`,
      });
    }
    if (!this.#values.has(name) && this.#values.size >= secretsMax) {
      throw new SuperfleetError('SF_FULL', 'the mesh holds no more secrets', {
        expected: `at most ${secretsMax}`,
      });
    }
    this.#values.set(name, text);
    await this.#save();
  }

  async remove(name: string): Promise<void> {
    if (this.#values.delete(name)) await this.#save();
  }

  #save(): Promise<void> {
    this.#saving = this.#saving
      .catch(() => {})
      .then(() => {
        const text = JSON.stringify({ format: 1, secrets: Object.fromEntries(this.#values) });
        return writeFileAtomic(this.#path, text);
      });
    return this.#saving;
  }
}
