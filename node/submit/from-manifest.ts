import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { CodeSpecInput, CommandSpecInput } from '../../protocol/task.ts';
import type { Manifest } from '../environment/manifest.ts';
import { manifestBytesMax, manifestName } from '../environment/manifest-name.ts';
import { gitWith, objectsPath } from './git.ts';
import type { Repository } from './repository.ts';
import { TemporaryFolder } from './temporary.ts';

export type SpecToSend = Omit<CommandSpecInput, 'repository'> | Omit<CodeSpecInput, 'repository'>;

/** The manifest of a commit; null where it has none as a file. Throws what `parseManifest` throws. */
export async function manifestAt(
  repository: Repository,
  commit: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<Manifest | null> {
  const words = ['ls-tree', '-l', '-z', '--full-tree', commit, '--', manifestName];
  const [, object, size] = /^100\d{3} blob (\S+) +(\d+)\t/.exec(await repository.git(words)) ?? [];
  if (object === undefined) return null;
  // Only where there is one is its reader loaded.
  const { parseManifest } = await import('../environment/manifest.ts');
  // What is too large is refused by its size, unread.
  if (Number(size) > manifestBytesMax) return parseManifest(new Uint8Array(Number(size)));
  using folder = new TemporaryFolder();
  const file = await open(join(folder.path, 'manifest'), 'wx+', 0o600);
  try {
    // A snapshot's objects lie beside the repository.
    const more = { GIT_ALTERNATE_OBJECT_DIRECTORIES: objectsPath(repository.objects) };
    await gitWith(
      { stdin: '', stdout: file.fd, more },
      repository.folder,
      ['cat-file', 'blob', object],
      env,
      signal,
    );
    const bytes = Buffer.alloc(Number(size));
    await file.read(bytes, 0, bytes.length, 0);
    return parseManifest(bytes);
  } finally {
    await file.close();
  }
}

/**
 * The task with what its repository says where the submitter said nothing, field by field; an empty list of checks is something
 * said. `taken` are the names of the manifest's fields that count, as a person wrote them.
 */
export function withManifest<S extends SpecToSend>(
  spec: S,
  manifest: Manifest | null,
): { spec: S; taken: string[] } {
  if (manifest === null) return { spec, taken: [] };
  const { limits, needs } = manifest;
  const taken: string[] = [];
  const filled: Partial<SpecToSend> = {};
  const take = <K extends 'checks' | 'checkFiles' | 'timeoutMs' | 'checkTimeoutMs'>(
    key: K,
    name: string,
    value: SpecToSend[K] | null,
  ): void => {
    if (spec[key] !== undefined || value === null || value === undefined) return;
    filled[key] = value;
    taken.push(name);
  };
  take('checks', 'checks', manifest.checks);
  take('checkFiles', 'checkFiles', manifest.checkFiles);
  const bounds: NonNullable<SpecToSend['limits']> = { ...spec.limits };
  for (const [key, name] of LIMITS) {
    const value = limits[key];
    if (value === null || bounds[key] !== undefined) continue;
    bounds[key] = value;
    taken.push(`limits.${name}`);
  }
  take('timeoutMs', 'limits.timeout', limits.timeoutMs);
  take('checkTimeoutMs', 'limits.checkTimeout', limits.checkTimeoutMs);
  const tools = { ...needs.tools, ...spec.tools };
  const more = Object.keys(tools).length > Object.keys(spec.tools ?? {}).length;
  if (more) taken.push('needs.tools');
  return {
    spec: {
      ...spec,
      ...filled,
      ...(Object.keys(bounds).length === 0 ? {} : { limits: bounds }),
      ...(more ? { tools } : {}),
    },
    taken,
  };
}

const LIMITS = [
  ['memoryBytes', 'memory'],
  ['workspaceBytes', 'workspace'],
  ['processes', 'processes'],
] as const;
