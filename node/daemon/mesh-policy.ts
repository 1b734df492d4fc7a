import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { meshId } from '../../protocol/ids.ts';
import { policyText } from '../../protocol/policy-schema.ts';
import { writeFileAtomic } from '../atomic-file.ts';

const file = z.strictObject({ format: z.literal(1), mesh: meshId, policy: policyText.nullable() });

/**
 * The mesh's default policy as its founder said it last, kept for a start at which the founder is not there: models are lent to
 * members without it. Tasks are given out by the founder alone, who says it anew before.
 */
export class MeshPolicy {
  readonly #path: string;
  readonly #mesh: string;
  readonly policy: string | null;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, mesh: string, policy: string | null) {
    this.#path = path;
    this.#mesh = mesh;
    this.policy = policy;
  }

  /** None where there is no file, it is of another mesh, or it cannot be read: the founder says it anew. */
  static async load(path: string, mesh: string): Promise<MeshPolicy> {
    try {
      const kept = file.parse(JSON.parse(await readFile(path, 'utf8')));
      return new MeshPolicy(path, mesh, kept.mesh === mesh ? kept.policy : null);
    } catch {
      return new MeshPolicy(path, mesh, null);
    }
  }

  /** Resolves when it is on the disk. */
  keep(policy: string | null): Promise<void> {
    const text = JSON.stringify({ format: 1, mesh: this.#mesh, policy });
    this.#saving = this.#saving.catch(() => {}).then(() => writeFileAtomic(this.#path, text));
    return this.#saving;
  }
}
