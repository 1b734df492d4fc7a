import { lstatSync, mkdirSync, mkdtempSync, rmSync, type Stats, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { objectsPath } from './git.ts';
import type { Repository } from './repository.ts';

/** A folder of this user alone, gone when disposed of. */
export class TemporaryFolder {
  readonly path: string = mkdtempSync(join(tmpdir(), 'superfleet-'));

  /** A folder in it, made if it is not there. */
  under(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/**
 * A bare repository written by hand, so that no template or configuration of the user takes part, that sees the objects
 * of another one (null: of none) and has one ref, `refs/heads/base`, where a commit is given.
 */
export function bareBeside(
  folder: string,
  beside: Pick<Repository, 'objects' | 'objectFormat'>,
  base: string | null,
): void {
  mkdirSync(join(folder, 'objects', 'info'), { recursive: true });
  mkdirSync(join(folder, 'refs', 'heads'), { recursive: true });
  const format = beside.objectFormat === 'sha256';
  writeFileSync(
    join(folder, 'config'),
    `[core]\n\trepositoryformatversion = ${format ? 1 : 0}\n\tbare = true\n${format ? '[extensions]\n\tobjectformat = sha256\n' : ''}`,
  );
  writeFileSync(join(folder, 'HEAD'), 'ref: refs/heads/base\n');
  if (beside.objects !== '')
    writeFileSync(join(folder, 'objects', 'info', 'alternates'), `${objectsPath(beside.objects)}\n`);
  if (base !== null) writeFileSync(join(folder, 'refs', 'heads', 'base'), `${base}\n`);
}

/** What lies at a path, links not followed; null: nothing, or a folder on the way there is none. */
export function lying(path: string): Stats | null {
  try {
    return lstatSync(path);
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR'].includes((thrown as NodeJS.ErrnoException).code ?? '')) return null;
    throw thrown;
  }
}
