/**
 * The fixed programs that run inside git's own sandbox, by dash or any POSIX sh. No byte of them comes from outside:
 * what varies arrives in the environment, as files under `/io`, or on stdin.
 *
 * Inside: `/git` the attempt's git directory · `/cache` packs of the repository, read-only · `/new/N` where bundle N
 * is unpacked · `/in/N.bundle`, `/in/result.bundle` · `/workspace` · `/io` what is handed back and forth.
 */

/** Exit codes of the programs; each says which step said no. */
export const STEP = {
  inputBundle: 10,
  inputBase: 11,
  inputSize: 12,
  inputCheckout: 13,
  resultBundle: 20,
  resultCommit: 21,
  resultSize: 22,
  resultCheckout: 23,
  add: 30,
  tree: 31,
  commit: 32,
  pack: 33,
  restore: 40,
} as const;

/**
 * Skips a bundle's header (checked before by the caller) line by line, which leaves stdin where the pack begins, and
 * indexes the rest. `--strict` is fsck of every object plus: nothing they point at is missing. What is ignored is
 * common in old honest repositories and harms nobody.
 */
const UNPACK = `
unpack() {
  { while IFS= read -r line && [ -n "$line" ]; do :; done
    git index-pack --stdin --fix-thin --max-input-size="$INPUT_BYTES_MAX" \\
      --strict=zeroPaddedFilemode=ignore,badTimezone=ignore,missingSpaceBeforeDate=ignore >/dev/null
  } <"$1"
}`;

/**
 * Sizes of the files of a tree, bounded while they are listed: a few nested trees can name more files than any disk
 * holds. Names are quoted by git, so each entry is one line and its fourth word is the size.
 */
const MEASURE = `
measure() {
  git ls-tree -r -l "$1" | awk -v files="$FILES_MAX" -v bytes="$TREE_BYTES_MAX" '
    { n++; s += $4; if (n > files || s > bytes) { over = 1; exit } }
    END { printf "%.0f %.0f\\n", n, s >"/io/size"; exit over ? 1 : 0 }'
}`;

/**
 * Unpack the bundles that are missing, look at the size, check out base (or, for a verifier, the result). Programs that
 * only look run beside each other; what the first of them says in the order of the steps is what counts.
 */
export const PREPARE = `
${UNPACK}
${MEASURE}
umask 022
GIT_ALTERNATE_OBJECT_DIRECTORIES=/cache
export GIT_ALTERNATE_OBJECT_DIRECTORIES
i=0
while [ "$i" -lt "$BUNDLES" ]; do
  ( GIT_OBJECT_DIRECTORY=/new/$i; export GIT_OBJECT_DIRECTORY; unpack "/in/$i.bundle" ) || exit ${STEP.inputBundle}
  GIT_ALTERNATE_OBJECT_DIRECTORIES=$GIT_ALTERNATE_OBJECT_DIRECTORIES:/new/$i
  i=$((i + 1))
done
looked=
if [ "$BUNDLES" -gt 0 ] || [ "$MEASURED" != 1 ]; then
  [ "$(git cat-file -t "$BASE")" = commit ] &
  looked=$!
fi
if [ -n "$COMMIT" ]; then
  [ -z "$looked" ] || wait "$looked" || exit ${STEP.inputBase}
  unpack /in/result.bundle || exit ${STEP.resultBundle}
  git cat-file commit "$COMMIT" >/io/commit &
  looked=$!
  git diff-tree -r --raw -z --no-renames "$BASE" "$COMMIT" >/io/changes &
  compared=$!
  measure "$COMMIT" && fits=1 || fits=
  wait "$looked" || exit ${STEP.resultCommit}
  wait "$compared" || exit ${STEP.resultCommit}
  [ -n "$fits" ] || exit ${STEP.resultSize}
  git read-tree --reset -u "$COMMIT" || exit ${STEP.resultCheckout}
  printf '%s\\n' "$COMMIT" >"/git/refs/heads/mesh/$TASK"
else
  fits=1
  [ "$MEASURED" = 1 ] || measure "$BASE" || fits=
  [ -z "$looked" ] || wait "$looked" || exit ${STEP.inputBase}
  [ -n "$fits" ] || exit ${STEP.inputSize}
  git read-tree --reset -u "$BASE" || exit ${STEP.inputCheckout}
fi
`;

/** What the index knows of files on disk; it then names those of a commit, and trusts none. */
const FORGET = `
forget() { rm -f /git/index && git read-tree "$1"; }`;

/**
 * The workspace as a tree, what it changes, and where it changes anything: one commit and the thin bundle of it.
 *
 * Git does not trust a file of the same second as its index, and `git add` would write each of them anew, since it can't
 * mark the read-only packs as used. So they are compared first, and noted where they differ; nothing but this program
 * changes the workspace any more, and an index of later than its files says so. That, and whole seconds, let what was changed
 * since an earlier take pass unseen: then the index is made anew, and each file is read.
 */
export const TAKE = `
${FORGET}
[ "$AGAIN" = 0 ] || forget "$BASE" || exit ${STEP.add}
read -r GIT_AUTHOR_DATE </io/time || exit ${STEP.add}
GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
export GIT_AUTHOR_DATE GIT_COMMITTER_DATE
git update-index -q --refresh --force-write-index >/dev/null
[ $? -le 1 ] || exit ${STEP.add}
touch -t 203801010000 /git/index || exit ${STEP.add}
git add -A . || exit ${STEP.add}
git diff-index --cached --raw -z --no-renames "$BASE" >/io/changes &
compared=$!
tree=$(git write-tree) || tree=
wait "$compared" || exit ${STEP.tree}
[ -s /io/changes ] || exit 0
[ -n "$tree" ] || exit ${STEP.tree}
commit=$(git commit-tree "$tree" -p "$BASE" -m "$MESSAGE") || exit ${STEP.commit}
printf '%s\\n' "$commit" >/io/commit
printf '%s\\n' "$commit" >"/git/refs/heads/mesh/$TASK"
{ printf '%s\\n-%s base\\n%s refs/heads/mesh/%s\\n\\n' "$BUNDLE_HEAD" "$BASE" "$commit" "$TASK"
  printf '%s\\n^%s\\n' "$commit" "$BASE" | git pack-objects --revs --thin --stdout --delta-base-offset -q
} >/io/bundle || exit ${STEP.pack}
`;

/** The paths of `/io/restore` as they are in the base; those of `/io/remove` gone. Lists end each path by a zero. */
export const RESTORE = `
umask 022
GIT_INDEX_FILE=/git/index.checks
export GIT_INDEX_FILE
xargs -0 -r rm -rf -- </io/remove || exit ${STEP.restore}
git read-tree "$BASE" && git checkout-index -f -q -z --stdin </io/restore || exit ${STEP.restore}
`;

/** Everything that is not ignored as it is in a commit. What is ignored, such as what a build made, stays. */
export const RESET = `
${FORGET}
umask 022
git read-tree --reset -u "$COMMIT" || exit ${STEP.restore}
if [ "$AGAIN" != 0 ]; then
  forget "$COMMIT" || exit ${STEP.restore}
  git update-index -q --refresh >/dev/null
  [ $? -le 1 ] || exit ${STEP.restore}
  git read-tree --reset -u "$COMMIT" || exit ${STEP.restore}
fi
git clean -q -ffd || exit ${STEP.restore}
`;

/** The contents of the objects named on stdin, one after the other. */
export const CONTENTS = 'exec git cat-file --batch --buffer';
