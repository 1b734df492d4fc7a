#!/bin/sh
# Superfleet in one minute, on this machine alone: a hub and two members as separate processes, a real git repository
# with a red check, one task that mends it on a member, verified by another, delivered as a branch.
#   scripts/quickstart.sh [--keep]     --keep leaves the mesh running and says how to send it more work
set -eu
cd "$(dirname "$0")/.."
root=$PWD
keep=no
case "${1:-}" in
'') ;;
--keep) keep=yes ;;
*)
  echo "quickstart: expected --keep or nothing, got $1" >&2
  exit 2
  ;;
esac

. scripts/setup.sh
say() { printf '\n\033[1m▸ %s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n▸ %s\n' "$*"; }

say 'Setting up'
need_packages bubblewrap git || exit 6
install_modules
began=$(date +%s)

hub() { MESH_HOME="$home/hub" "$root/scripts/mesh-hub" "$@"; }
member() { name=$1; shift; MESH_HOME="$home/$name" "$root/scripts/mesh-node" "$@"; }

home=$(mktemp -d "${TMPDIR:-/tmp}/superfleet-quickstart.XXXXXX")
chmod 755 "$home"
stop_all() {
  for name in spare-1 spare-2; do member "$name" stop >/dev/null 2>&1 || true; done
  hub stop >/dev/null 2>&1 || true
}
ended() {
  code=$?
  trap - EXIT
  if [ "$keep" = no ] || [ $code -ne 0 ]; then stop_all; fi
  [ $code -eq 0 ] || echo "quickstart: failed (exit $code); what was written lies in $home" >&2
  exit $code
}
trap ended EXIT
trap 'exit 130' INT TERM

say 'A mesh: one hub, two members'
hub init --name quickstart --recovery-key "$home/recovery.key"
hub start --detach --port 0
token=$(hub invite --uses 2 | head -n 1)
for name in spare-1 spare-2; do member "$name" join "$token" --name "$name" --port 0 --detach; done
hub node list

say 'A repository whose check is red'
repository="$home/greeter"
mkdir "$repository"
cat >"$repository/greet.sh" <<'FILE'
echo "Helo, ${1:-world}!"
FILE
cat >"$repository/test.sh" <<'FILE'
got=$(sh greet.sh mesh)
[ "$got" = 'Hello, mesh!' ] || { echo "expected 'Hello, mesh!', got '$got'"; exit 1; }
echo 'ok: greets the mesh'
FILE
git -C "$repository" init -q -b main
git -C "$repository" add .
git -C "$repository" -c user.name=You -c user.email=you@example.invalid commit -q -m 'A greeter with a typing error'
cd "$repository"
echo '$ sh test.sh'
if sh test.sh; then
  echo 'quickstart: the check was expected to be red' >&2
  exit 70
fi

say 'The task: mend it on another machine, check it there, have it checked again by a third'
hub task run --on spare-1 --check 'sh test.sh' --wait -- sed -i 's/Helo/Hello/' greet.sh >"$home/task"
task=$(head -n 1 "$home/task")
hub task describe "$task"

say "What came back: branch mesh/$task"
git --no-pager diff "main...mesh/$task"
git checkout -q "mesh/$task"
echo '$ sh test.sh'
sh test.sh
git checkout -q main

say 'Who did it, and who says so'
hub receipt show "$task" >"$home/receipt.json"
mesh=$(hub status --json | sed -n 's/.*"mesh":"\([0-9a-f]*\)".*/\1/p')
hub receipt verify "$home/receipt.json" --mesh "$mesh"

seconds=$(($(date +%s) - began))
say "Done in $seconds s"
echo "repository  $repository  (branch mesh/$task)"
echo "receipt     $home/receipt.json"
echo "log         $home/hub/log   (read it: scripts/mesh-hub ledger tail --dir $home/hub)"
if [ "$keep" = yes ]; then
  cat <<EOF

The mesh stays up. Send it more work:
  cd $repository
  $root/scripts/mesh-hub task run --dir $home/hub --check 'sh test.sh' --wait -- sh -c 'echo more >> notes.txt'
Stop it:
  $root/scripts/mesh-node stop --dir $home/spare-1; $root/scripts/mesh-node stop --dir $home/spare-2
  $root/scripts/mesh-hub stop --dir $home/hub
EOF
else
  stop_all
  echo "stopped     nothing is left running; delete $home when you have seen enough"
fi
