/** One path that differs between two trees, as `git diff-tree -r --raw -z --no-renames` says it. */
export interface Change {
  status: 'A' | 'D' | 'M' | 'T';
  modeBefore: string;
  modeAfter: string;
  /** Object name of the new content; all zeros where there is none. */
  objectAfter: string;
  /** Git's bytes for the path, which need not be text. */
  path: Buffer;
}

/** Mode of a commit of another repository inside a tree. */
export const GITLINK = '160000';
/** What a list of changes may weigh; past it the result is refused as no reviewable change. */
export const changesBytesMax = 16 * 1024 * 1024;

/** Parses the list; throws on any other form, which would be a defect of ours. */
export function parseChanges(bytes: Buffer): Change[] {
  const changes: Change[] = [];
  let at = 0;
  const field = (): Buffer => {
    const end = bytes.indexOf(0, at);
    if (end === -1) throw new Error(`list of changes is cut off at byte ${at}`);
    const value = bytes.subarray(at, end);
    at = end + 1;
    return value;
  };
  while (at < bytes.length) {
    const head = field().toString('latin1');
    const [, modeBefore, modeAfter, objectAfter, status] =
      /^:(\d{6}) (\d{6}) [0-9a-f]+ ([0-9a-f]+) ([ADMT])$/.exec(head) ?? [];
    if (modeBefore === undefined || modeAfter === undefined || objectAfter === undefined) {
      throw new Error(`not a line of a raw diff: ${head}`);
    }
    changes.push({ status: status as Change['status'], modeBefore, modeAfter, objectAfter, path: field() });
  }
  return changes;
}

/** The first path that holds another repository's commit where the base had none; null: there is none. */
export const newGitlink = (changes: readonly Change[]): Change | null =>
  changes.find((change) => change.modeAfter === GITLINK && change.modeBefore !== GITLINK) ?? null;
