import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DiskBlobStore } from '../blobs/disk.ts';
import type { BlobStore } from '../blobs/types.ts';
import type { Sandbox } from '../sandbox/types.ts';
import type { AllowedHost } from './admission.ts';
import type { Unpacked } from './archive.ts';
import type { MadeFolder } from './detect.ts';
import type { Prepared } from './prepared.ts';
import { EnvironmentStore, environmentBytesMax, type HeldEnvironments } from './store.ts';
import { shippedBounds } from './tree-check.ts';

/** Bytes of archives on their way, in or out: two of the largest. */
const archivesBytesMax = 8 * 1024 ** 3;

/**
 * Brings what the founder's machine prepared into this store, as an archive; answers with its blob, null where the founder has none for
 * that task. `digest` is that of a plan: whose task it is, and of which repository, the founder knows better.
 */
export type FromFounder = (
  wanted: { task: string; digest: string },
  store: BlobStore,
  signal: AbortSignal,
) => Promise<string | null>;

/** An environment that a task wants, and may not be prepared here. */
export interface WantedEnvironment {
  task: string;
  /** Of the plan. */
  digest: string;
  /** `environmentName` of it. */
  name: string;
  makes: readonly MadeFolder[];
  /** Of all its files. */
  bytesMax: number;
}

export interface EnvironmentsOptions {
  /** `environments/` of the data folder. */
  folder: string;
  sandbox: Sandbox;
  /** What the owner allows now. */
  hosts(): readonly AllowedHost[];
  /** Versions of this machine's tools by name. */
  versions(): Promise<Record<string, string>>;
  /** @default nobody is asked: this is the founder's machine */
  fromFounder?: FromFounder;
  /** @default that of store.ts */
  bytesMax?: number;
}

/** Nobody has it: said to all who wait for it. */
class NotShipped extends Error {}

/** The environments of a machine, and what its owner allows them. The folder is made when the first is needed. */
export class Environments {
  readonly #options: EnvironmentsOptions;
  #store: Promise<EnvironmentStore> | null = null;
  #archives: Promise<DiskBlobStore> | null = null;

  private constructor(options: EnvironmentsOptions) {
    this.#options = options;
  }

  /** Where there is a folder, removes what a crash left in it and what is past the quota. */
  static async open(options: EnvironmentsOptions): Promise<Environments> {
    const environments = new Environments(options);
    if (existsSync(options.folder)) await environments.store();
    return environments;
  }

  store(): Promise<EnvironmentStore> {
    const { folder, sandbox, bytesMax } = this.#options;
    this.#store ??= EnvironmentStore.open(folder, sandbox, bytesMax);
    // Tried again by the next task.
    this.#store.catch(() => {
      this.#store = null;
    });
    return this.#store;
  }

  /** Archives on their way, apart from the blobs of the mesh; the next start finds none of them. */
  archives(): Promise<DiskBlobStore> {
    const { folder } = this.#options;
    this.#archives ??= this.store().then(() =>
      DiskBlobStore.open(join(folder, '.archives'), { bytesMax: archivesBytesMax }),
    );
    this.#archives.catch(() => {
      this.#archives = null;
    });
    return this.#archives;
  }

  /**
   * What the founder's machine prepared under that very name, here from now on; null: it has none. `files` is null where another task
   * had it brought. Rejects where it could not be had.
   */
  async shipped(
    wanted: WantedEnvironment,
    signal: AbortSignal,
  ): Promise<{ environment: Prepared; files: number | null; bytes: number } | null> {
    const { fromFounder } = this.#options;
    if (fromFounder === undefined) return null;
    const { name, makes } = wanted;
    const bytesMax = Math.min(wanted.bytesMax, shippedBounds.bytesMax);
    const store = await this.store();
    let unpacked: Unpacked | null = null;
    try {
      const environment = await store.unpack(
        {
          digest: name,
          makes,
          bounds: { ...shippedBounds, bytesMax },
          fetch: async (stop) => {
            const archives = await this.archives();
            const blob = await fromFounder(wanted, archives, stop);
            if (blob === null) throw new NotShipped();
            return { bytes: archives.read(blob), done: () => archives.delete(blob) };
          },
          unpacked: (of) => {
            unpacked = of;
          },
        },
        signal,
      );
      const { files = null, bytes = environment.file.bytes } = (unpacked as Unpacked | null) ?? {};
      return { environment, files, bytes };
    } catch (error) {
      if (error instanceof NotShipped) return null;
      throw error;
    }
  }

  /** What is kept, where no task needed any yet nothing; null: the folder cannot be read. */
  async held(): Promise<HeldEnvironments | null> {
    const { folder, bytesMax = environmentBytesMax } = this.#options;
    if (this.#store === null && !existsSync(folder)) return { count: 0, bytes: 0, bytesMax };
    try {
      return await (await this.store()).held();
    } catch {
      return null;
    }
  }

  hosts(): readonly AllowedHost[] {
    return this.#options.hosts();
  }

  versions(): Promise<Record<string, string>> {
    return this.#options.versions();
  }
}
