import type { Logger } from 'pino';
import type { DiskBlobStore } from '../../node/blobs/disk.ts';
import { environmentName } from '../../node/environment/digest.ts';
import type { Environments } from '../../node/environment/environments.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { EnvironmentLease } from '../core/results/blob-access.ts';

/** An archive that nobody may fetch any more stays so long for the next task. */
const KEPT_MS = 10 * 60_000;
const SWEEP_MS = 60_000;
/** Tasks whose leases are remembered for one archive: more come again when they need it. */
const GRANTS_MAX = 1024;

/** An archive in the store: who was given it, for which tasks. */
interface Given {
  blob: string;
  bytes: number;
  grants: Map<string, string>;
  usedMs: number;
}

export interface GivenEnvironmentsOptions {
  environments: Environments;
  /** The open lease that this member holds of this task; null: none. */
  leased(peer: string, task: string): EnvironmentLease | null;
  logger: Logger;
}

/**
 * What this machine prepared, for members that may not: packed once when the first asks, handed out by the protocol of blobs to whoever
 * holds a lease that needs it, gone when nobody does.
 */
export class GivenEnvironments {
  readonly #options: GivenEnvironmentsOptions;
  readonly #given = new Map<string, Given>();
  readonly #packing = new Map<string, Promise<Given | null>>();
  readonly #ending = new AbortController();
  readonly #sweeping: NodeJS.Timeout;
  /** Once one was given. */
  #archives: DiskBlobStore | null = null;
  /** One is packed at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: GivenEnvironmentsOptions) {
    this.#options = options;
    this.#sweeping = setInterval(() => void this.sweep(KEPT_MS), SWEEP_MS);
    this.#sweeping.unref();
  }

  /**
   * The archive of the environment with this digest of a plan, of the submitter and repository of a task that the member has a lease of. Null
   * where there is no such lease, where this machine has none prepared, and where it executed what the member is to verify.
   */
  async give(
    peer: string,
    { task, digest }: { task: string; digest: string },
  ): Promise<{ blob: string; bytes: number } | null> {
    const lease = this.#options.leased(peer, task);
    if (lease === null || lease.executedHere) return null;
    const name = environmentName(lease.submitter, lease.repository, digest);
    const given = this.#given.get(name) ?? (await this.#packed(name));
    if (given === null || this.#ending.signal.aborted) return null;
    if (given.grants.size >= GRANTS_MAX) given.grants.clear();
    given.grants.set(`${peer} ${task}`, task);
    given.usedMs = performance.now();
    return { blob: given.blob, bytes: given.bytes };
  }

  /** Whether the member was given this archive for a lease that it still holds. */
  mayFetch(peer: string, blob: string): boolean {
    for (const given of this.#given.values()) {
      if (given.blob !== blob) continue;
      for (const [key, task] of given.grants) {
        if (key !== `${peer} ${task}` || this.#options.leased(peer, task) === null) continue;
        given.usedMs = performance.now();
        return true;
      }
    }
    return false;
  }

  /** The store that an archive is in; null for any other blob. */
  holding(blob: string): DiskBlobStore | null {
    for (const given of this.#given.values()) if (given.blob === blob) return this.#archives;
    return null;
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping);
    this.#ending.abort(new Error('the founder is stopping'));
    await Promise.allSettled(this.#packing.values());
    await this.sweep(Number.NEGATIVE_INFINITY);
  }

  async #packed(name: string): Promise<Given | null> {
    const known = this.#packing.get(name);
    if (known !== undefined) return known;
    const packing = this.#turn.then(() => this.#pack(name));
    this.#turn = packing;
    this.#packing.set(name, packing);
    try {
      return await packing;
    } finally {
      this.#packing.delete(name);
    }
  }

  /** Never rejects: what cannot be packed is not given. */
  async #pack(name: string): Promise<Given | null> {
    const { environments, logger } = this.#options;
    const { signal } = this.#ending;
    try {
      signal.throwIfAborted();
      const archives = await environments.archives();
      this.#archives = archives;
      const store = await environments.store();
      const put = () => store.pack(name, (archive) => archives.put(archive), signal);
      const packed = await put().catch(async (error: unknown) => {
        if (asSuperfleetError(error).code !== 'SF_FULL') throw error;
        await this.sweep(0);
        return put();
      });
      if (packed === null) return null;
      const { blob, bytes } = packed;
      const given = { blob, bytes, grants: new Map(), usedMs: performance.now() };
      this.#given.set(name, given);
      return given;
    } catch (error) {
      if (!signal.aborted) logger.warn({ cause: String(error) }, 'an environment cannot be given to members');
      return null;
    }
  }

  /** Removes what was not used for so many ms and no open lease needs; with less than nothing, all. */
  async sweep(keptMs: number): Promise<void> {
    for (const [name, { blob, grants, usedMs }] of this.#given) {
      const needed = [...grants].some(
        ([key, task]) => this.#options.leased(key.slice(0, key.indexOf(' ')), task) !== null,
      );
      if (keptMs > Number.NEGATIVE_INFINITY && (needed || performance.now() - usedMs < keptMs)) continue;
      this.#given.delete(name);
      const others = [...this.#given.values()].some((each) => each.blob === blob);
      if (!others) await this.#archives?.delete(blob).catch(() => {});
    }
  }
}
