import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Estate } from '../../node/replica/source.ts';
import { SecretStore, secretsFile } from './secrets.ts';

/** The secrets that a former founder still has for the one of now; null: none. They go when the other has them. */
export async function estateOf(dir: string): Promise<Estate | null> {
  const path = secretsFile(dir);
  if (!existsSync(path)) return null;
  const { values } = await SecretStore.open(path);
  return { values, kept: () => rm(path, { force: true }) };
}
