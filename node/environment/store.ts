import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { formatSize } from '../../protocol/size.ts';
import { syncFolder, writeFileAtomic } from '../atomic-file.ts';
import { removeTree } from '../git/remove-tree.ts';
import { diskUse } from '../sandbox/limits/disk.ts';
import type { Sandbox } from '../sandbox/types.ts';
import { packEnvironment, type Unpacked, unpackEnvironment } from './archive.ts';
import type { MadeFolder } from './detect.ts';
import { type PrepareRequest, runPrepare } from './prepare.ts';
import { Prepared, type PreparedFile, preparedFile } from './prepared.ts';
import { SandboxRuntime } from './runtime.ts';
import { moveOut, plainPath, syncFileSystem } from './tree.ts';
import type { TreeBounds } from './tree-check.ts';

const GiB = 1024 ** 3;
/** Bytes kept over all environments, unless told otherwise. */
export const environmentBytesMax = 32 * GiB;
const DIGEST = /^[0-9a-f]{64}$/;
const RUNTIME = '.runtime';
const FILE = 'made.json';
/** In the folder that one is made in: what stays. */
const KEEP = 'keep';

/** Fills `keep` of this folder; answers with the parts there. */
type Make = (work: string, signal: AbortSignal) => Promise<MadeFolder[]>;

/** An environment that is to be had as an archive. */
export interface PackedEnvironment {
  digest: string;
  makes: readonly MadeFolder[];
  bounds: TreeBounds;
  /** `done`: the bytes are no longer needed. */
  fetch(signal: AbortSignal): Promise<{ bytes: AsyncIterable<Uint8Array>; done(): Promise<void> }>;
  unpacked(of: Unpacked): void;
}

/** What is kept here, and the most that may be. */
export interface HeldEnvironments {
  count: number;
  bytes: number;
  bytesMax: number;
}

/** What is under way for one digest, and how many wait for it. */
interface Making {
  waiting: number;
  stop: AbortController;
  made: Promise<PreparedFile>;
}

/**
 * `environments/<digest>/`: what `prepare` made, whole and synced, or not there. One process uses the folder at a time. An
 * environment that nobody uses goes when there is no room, the least recently used first.
 */
export class EnvironmentStore {
  readonly #folder: string;
  readonly #sandbox: Sandbox;
  readonly #bytesMax: number;
  readonly #runtime: SandboxRuntime;
  readonly #making = new Map<string, Making>();
  readonly #users = new Map<string, number>();
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(folder: string, sandbox: Sandbox, bytesMax: number, runtime: SandboxRuntime) {
    this.#folder = folder;
    this.#sandbox = sandbox;
    this.#bytesMax = bytesMax;
    this.#runtime = runtime;
  }

  /** Opens the folder, made if absent (0700); removes what a crash left and what is not of the form. */
  static async open(
    folder: string,
    sandbox: Sandbox,
    bytesMax = environmentBytesMax,
  ): Promise<EnvironmentStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const runtime = await SandboxRuntime.open(join(folder, RUNTIME));
    const store = new EnvironmentStore(folder, sandbox, bytesMax, runtime);
    for (const name of await readdir(folder)) {
      if (name !== RUNTIME && (await store.#read(name)) === null) await removeTree(join(folder, name));
    }
    await store.#collect();
    return store;
  }

  get runtime(): SandboxRuntime {
    return this.#runtime;
  }

  /** An environment that is here, marked as used now; null: it is to be prepared. */
  async use(digest: string): Promise<Prepared | null> {
    if (!DIGEST.test(digest)) return null;
    // Counted first: a removal under way is waited for, a later one sees that it is in use.
    const release = this.#count(digest);
    await this.#turn;
    const file = await this.#read(digest);
    if (file === null) {
      release();
      return null;
    }
    const now = new Date();
    await utimes(join(this.#folder, digest), now, now).catch(() => {});
    return new Prepared(join(this.#folder, digest), file, release);
  }

  /** What `take` makes of an environment that is here, as an archive; null: it is not here. */
  async pack<T>(
    digest: string,
    take: (archive: AsyncIterable<Uint8Array>) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T | null> {
    const prepared = await this.use(digest);
    if (prepared === null) return null;
    try {
      return await take(packEnvironment(join(this.#folder, digest), prepared.file, signal));
    } finally {
      prepared.release();
    }
  }

  /**
   * The environment, prepared now if it is not here. Two at once for one digest make one; what is made is stopped when nobody
   * waits for it any more. Throws a `PrepareFailure`, `SF_FULL`, `SF_DISK_FULL`, `SF_NO_SANDBOX` or the signal's reason.
   */
  async prepare(request: PrepareRequest, signal: AbortSignal): Promise<Prepared> {
    return this.#made(request.digest, 'prepared', (work, stop) => this.#runIn(work, request, stop), signal);
  }

  /**
   * As `prepare`, from an archive that `fetch` brings, looked at entry by entry as it is unpacked. What `fetch` or the archive fails with
   * is what everybody is told who waits.
   */
  async unpack(wanted: PackedEnvironment, signal: AbortSignal): Promise<Prepared> {
    return this.#made(
      wanted.digest,
      'shipped',
      async (work, stop) => {
        const keep = await keepIn(work);
        const archive = await wanted.fetch(stop);
        try {
          const unpacked = await unpackEnvironment(archive.bytes, keep, wanted, stop);
          wanted.unpacked(unpacked);
          return unpacked.parts;
        } finally {
          await archive.done();
        }
      },
      signal,
    );
  }

  async #made(digest: string, how: string, make: Make, signal: AbortSignal): Promise<Prepared> {
    if (!DIGEST.test(digest))
      throw new SuperfleetError('SF_USAGE', `not a digest: ${JSON.stringify(digest)}`);
    signal.throwIfAborted();
    const release = this.#count(digest);
    try {
      const found = await this.use(digest);
      if (found !== null) return found;
      // One that is shipped may be nowhere, which is no word to those who prepare it.
      const key = `${how} ${digest}`;
      await this.#wait(key, this.#making.get(key) ?? this.#begin(key, digest, make), signal);
      const made = await this.use(digest);
      if (made !== null) return made;
      throw new SuperfleetError('SF_INTERNAL', `environment ${digest} was made and is gone`);
    } finally {
      release();
    }
  }

  #begin(key: string, digest: string, make: Make): Making {
    const stop = new AbortController();
    const made = this.#make(digest, make, stop.signal);
    const making = { waiting: 0, stop, made };
    this.#making.set(key, making);
    const done = (): void => this.#forget(key, making);
    made.then(done, done);
    return making;
  }

  #forget(key: string, making: Making): void {
    if (this.#making.get(key) === making) this.#making.delete(key);
  }

  /** Waits with the others; the last to give up stops it, and stays until nothing of it is left. */
  async #wait(key: string, making: Making, signal: AbortSignal): Promise<void> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    aborted.catch(() => {});
    const giveUp = (): void => {
      making.waiting -= 1;
      if (making.waiting > 0) {
        reject(signal.reason);
        return;
      }
      // Whoever comes now begins anew.
      this.#forget(key, making);
      making.stop.abort(signal.reason);
    };
    making.waiting += 1;
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    try {
      await Promise.race([making.made, aborted]);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  async #runIn(work: string, request: PrepareRequest, signal: AbortSignal): Promise<MadeFolder[]> {
    const keep = await keepIn(work);
    const places = await runPrepare(this.#sandbox, this.#runtime, work, request, signal);
    const parts: MadeFolder[] = [];
    for (const made of request.recipe.makes) {
      const found = await plainPath(places[made.in], made.path);
      if (found === null) {
        await request.log.say(`prepare: no folder or file at ${made.path}; nothing of it is kept`);
        continue;
      }
      await moveOut(found.path, join(keep, String(parts.length)), found.folder);
      parts.push({ in: made.in, path: made.path });
    }
    return parts;
  }

  /** What `make` leaves in `keep`, whole under its name; of anything else nothing is left. */
  async #make(digest: string, make: Make, signal: AbortSignal): Promise<PreparedFile> {
    const work = join(this.#folder, `.new-${randomUUID()}`);
    const keep = join(work, KEEP);
    try {
      await mkdir(work, { recursive: true, mode: 0o700 });
      const parts = await make(work, signal);
      const { bytes } = await diskUse(keep, Number.MAX_SAFE_INTEGER, signal);
      if (bytes > this.#bytesMax) {
        throw new SuperfleetError('SF_FULL', 'what was prepared is too large to keep', {
          expected: `at most ${formatSize(this.#bytesMax)}`,
          got: `${bytes} bytes`,
          hint: 'name less under `cache` in .superfleet.yaml, or give environments more room',
        });
      }
      const file: PreparedFile = { format: 1, digest, parts, bytes };
      await writeFileAtomic(join(keep, FILE), JSON.stringify(file));
      await syncFileSystem(keep, signal);
      signal.throwIfAborted();
      await rename(keep, join(this.#folder, digest)).catch((error: NodeJS.ErrnoException) => {
        // One that was given up at its very end was faster.
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
      await syncFolder(this.#folder);
      await this.#collect();
      return file;
    } finally {
      await removeTree(work);
    }
  }

  /** The environments that are whole, by disk use. */
  async held(): Promise<HeldEnvironments> {
    const files = await Promise.all((await readdir(this.#folder)).map((name) => this.#read(name)));
    const bytes = files.map((file) => file?.bytes ?? 0).reduce((sum, each) => sum + each, 0);
    return { count: files.filter((file) => file !== null).length, bytes, bytesMax: this.#bytesMax };
  }

  #count(digest: string): () => void {
    this.#users.set(digest, (this.#users.get(digest) ?? 0) + 1);
    return () => {
      const left = (this.#users.get(digest) ?? 1) - 1;
      if (left > 0) this.#users.set(digest, left);
      else this.#users.delete(digest);
    };
  }

  async #read(name: string): Promise<PreparedFile | null> {
    if (!DIGEST.test(name)) return null;
    try {
      const text = await readFile(join(this.#folder, name, FILE), 'utf8');
      const parsed = preparedFile.safeParse(JSON.parse(text));
      return parsed.success && parsed.data.digest === name ? parsed.data : null;
    } catch {
      return null;
    }
  }

  /** The least recently used go until the bytes fit, but none in use; one after the other. */
  async #collect(): Promise<void> {
    const mine = this.#turn.then(() => this.#collectNow());
    this.#turn = mine.catch(() => {});
    await mine;
  }

  async #collectNow(): Promise<void> {
    const held: { name: string; bytes: number; usedMs: number }[] = [];
    for (const name of await readdir(this.#folder)) {
      const file = await this.#read(name);
      if (file === null) continue;
      held.push({ name, bytes: file.bytes, usedMs: (await stat(join(this.#folder, name))).mtimeMs });
    }
    held.sort((a, b) => a.usedMs - b.usedMs);
    let bytes = held.reduce((sum, each) => sum + each.bytes, 0);
    for (const each of held) {
      if (bytes <= this.#bytesMax) return;
      if (this.#users.has(each.name)) continue;
      const grave = join(this.#folder, `.trash-${randomUUID()}`);
      await rename(join(this.#folder, each.name), grave);
      bytes -= each.bytes;
      await removeTree(grave);
    }
  }
}

async function keepIn(work: string): Promise<string> {
  const keep = join(work, KEEP);
  await mkdir(keep, { mode: 0o700 });
  return keep;
}
