import { existsSync } from 'node:fs';
import type { Sandbox } from '../sandbox/types.ts';
import type { AllowedHost } from './admission.ts';
import { EnvironmentStore } from './store.ts';

export interface EnvironmentsOptions {
  /** `environments/` of the data folder. */
  folder: string;
  sandbox: Sandbox;
  /** What the owner allows now. */
  hosts(): readonly AllowedHost[];
  /** Versions of this machine's tools by name. */
  versions(): Promise<Record<string, string>>;
  /** @default that of store.ts */
  bytesMax?: number;
}

/** The environments of a machine, and what its owner allows them. The folder is made when the first is needed. */
export class Environments {
  readonly #options: EnvironmentsOptions;
  #store: Promise<EnvironmentStore> | null = null;

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

  hosts(): readonly AllowedHost[] {
    return this.#options.hosts();
  }

  versions(): Promise<Record<string, string>> {
    return this.#options.versions();
  }
}
