import { isAbsolute, join, resolve } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';

/** What the choice of a data folder rests on. */
export interface FolderFacts {
  /** `--dir` as typed; null: not given. */
  flag: string | null;
  env: Record<string, string | undefined>;
  cwd: string;
  home: string;
  /** null where there are no numeric users. */
  uid: number | null;
}

/** `--dir`, else `MESH_HOME`, else `/var/lib/superfleet` for root and the XDG data folder for others; absolute. */
export function dataFolder({ flag, env, cwd, home, uid }: FolderFacts): string {
  const given = flag ?? (env.MESH_HOME === '' ? null : env.MESH_HOME) ?? null;
  if (given !== null) {
    if (given.includes('\0') || given === '') {
      throw new SuperfleetError('SF_USAGE', 'the data folder is not a path', {
        expected: 'a path',
        got: given,
      });
    }
    return resolve(cwd, given);
  }
  if (uid === 0) return '/var/lib/superfleet';
  const xdg = env.XDG_DATA_HOME;
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(home, '.local', 'share'), 'superfleet');
}
