/** A question about an attempt's checkout. Where `revision` is null, HEAD is meant, or for `blame` the files as they are. */
export interface LookQuestion {
  verb: 'status' | 'diff' | 'log' | 'show' | 'blame';
  /** Of the form `REVISION`. */
  revision: string | null;
  /** Relative to the workspace, taken literally. */
  path: string | null;
  /** Of `log`, commits at most. */
  count: number;
  /** Of `blame`, such as `10,20`. */
  range: string | null;
}

/** Names of commits as git knows them, and none that it could take for an option or for a path in a commit. */
export const REVISION = /^[\p{L}\p{N}_@][\p{L}\p{N}_@./~^{}+-]{0,199}$/u;

export function lookEnv({ verb, revision, path, count, range }: LookQuestion): Record<string, string> {
  if (revision !== null && !REVISION.test(revision)) throw new Error(`not a revision: ${revision}`);
  if (range !== null && !/^\d+,\d+$/.test(range)) throw new Error(`not a range: ${range}`);
  return { VERB: verb, REVISION: revision ?? '', FILE: path ?? '', COUNT: String(count), RANGE: range ?? '' };
}

/**
 * The program that looks, beside those of `scripts.ts`. It works on a copy of the index with the copied file's time, by which
 * git knows that a file of the same second may differ. New files are marked in that copy, so that a diff shows them.
 */
export const LOOK = `
cp -p /git/index /tmp/index || exit 1
GIT_INDEX_FILE=/tmp/index
GIT_LITERAL_PATHSPECS=1
export GIT_INDEX_FILE GIT_LITERAL_PATHSPECS
set -- \${FILE:+"$FILE"}
case $VERB in
status) exec git --no-optional-locks status --short --untracked-files=all -- "$@" ;;
diff)
  mkdir /tmp/objects
  git ls-files -z -o --exclude-standard |
    GIT_OBJECT_DIRECTORY=/tmp/objects GIT_ALTERNATE_OBJECT_DIRECTORIES=/git/objects:/cache \\
      xargs -0 -r git add -N --ignore-errors -- 2>/dev/null
  exec git diff --no-color --no-ext-diff --no-textconv -M "\${REVISION:-HEAD}" -- "$@" ;;
log) exec git log --no-color --date=short --format='%h %ad %an: %s' -n "$COUNT" "\${REVISION:-HEAD}" -- "$@" ;;
show)
  [ $# -eq 0 ] || exec git show --no-color --no-ext-diff --no-textconv "\${REVISION:-HEAD}:$FILE"
  exec git show --no-color --no-ext-diff --no-textconv --stat --patch "\${REVISION:-HEAD}" -- ;;
blame) exec git blame --date=short \${RANGE:+-L "$RANGE"} \${REVISION:+"$REVISION"} -- "$@" ;;
esac
exit 2
`;
