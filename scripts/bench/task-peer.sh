#!/bin/sh
# What a task of ours does, as a person would script it on one machine, one step after the other:
#   task-peer.sh prepare|run|clean WORK REPOSITORY NAME KNOWN BASE CHECK COMMAND…
# WORK keeps a clone for the executor and one for the verifier, as members keep what they have seen of a repository, and
# `filter`, the system call filter of our sandbox. KNOWN is the commit both clones hold, BASE the one the task starts from.
set -eu
verb=$1 work=$2 repository=$3 name=$4 known=$5 base=$6 check=$7
shift 7

git() { command git -c gc.auto=0 -c maintenance.auto=false -c core.hooksPath=/dev/null -c advice.detachedHead=false "$@"; }

# The profile of our sandbox: same namespaces, mounts, filter and limits of a process; nothing is watched or counted.
sandboxed() {
  workspace=$1
  shift
  bwrap --unshare-all --unshare-user --disable-userns --new-session --die-with-parent --cap-drop ALL \
    --hostname sandbox --seccomp 5 --ro-bind /usr /usr --dir /etc \
    --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
    --ro-bind-try /etc/alternatives /etc/alternatives --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache \
    --ro-bind-try /etc/ssl/certs /etc/ssl/certs --ro-bind-try /etc/services /etc/services \
    --dev /dev --remount-ro /dev --proc /proc --size 67108864 --tmpfs /tmp --size 16777216 --tmpfs /home \
    --bind "$workspace" /workspace --remount-ro / --chdir /workspace --clearenv --setenv PATH /usr/bin:/bin \
    --setenv HOME /home -- prlimit --nproc=512 --nofile=1024 --core=0 -- "$@" 5<"$work/filter"
}

case $verb in
prepare)
  # As our members do: on ext4, check-outs beside many that were just deleted are slow; each has a name of its own.
  mkdir "$work/trees"
  chattr +T "$work/trees" 2>/dev/null || true
  for clone in executor verifier; do git clone -q --bare "$repository" "$work/$clone.git"; done
  ;;
run)
  # Submit: what the clones lack.
  git -C "$repository" bundle create -q "$work/base.bundle" main "^$known"
  # Execute: a fresh work tree, the command, the check, one commit, its bundle.
  git -C "$work/executor.git" fetch -q "$work/base.bundle" +main:main
  git -C "$work/executor.git" worktree add -q -b "mesh/$name" "$work/trees/execute-$name" "$base"
  sandboxed "$work/trees/execute-$name" "$@"
  sandboxed "$work/trees/execute-$name" sh -c "$check"
  git -C "$work/trees/execute-$name" add -A
  git -C "$work/trees/execute-$name" commit -q -m "$name"
  git -C "$work/executor.git" bundle create -q "$work/result.bundle" "mesh/$name" "^$base"
  # Verify: a fresh work tree from base and result, the check again.
  git -C "$work/verifier.git" fetch -q "$work/base.bundle" +main:main
  git -C "$work/verifier.git" fetch -q "$work/result.bundle" "mesh/$name:mesh/$name"
  git -C "$work/verifier.git" worktree add -q "$work/trees/verify-$name" "mesh/$name"
  sandboxed "$work/trees/verify-$name" sh -c "$check"
  # Deliver: the branch in the repository.
  git -C "$repository" fetch -q "$work/result.bundle" "mesh/$name:mesh/$name"
  ;;
clean)
  git -C "$work/executor.git" worktree remove --force "$work/trees/execute-$name"
  git -C "$work/verifier.git" worktree remove --force "$work/trees/verify-$name"
  rm -f "$work/base.bundle" "$work/result.bundle"
  ;;
esac
