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

# A word as a person can type it.
quoted() {
  case "$1" in
  *[!A-Za-z0-9_./:=@%+,-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
  *) printf %s "$1" ;;
  esac
}
typed() {
  line='$'
  for word in "$@"; do line="$line $(quoted "$word")"; done
  echo "$line"
}
hub() { MESH_HOME="$home/hub" "$root/scripts/mesh-hub" "$@"; }
member() { name=$1; shift; MESH_HOME="$home/$name" "$root/scripts/mesh-node" "$@"; }

# Started as root the nodes become an unprivileged user, who must be able to enter the folder they live in.
place=${TMPDIR:-/tmp}
if [ "$(id -u)" = 0 ] && ! setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$place" 2>/dev/null; then
  place=/tmp
fi
home=$(mktemp -d "$place/superfleet-quickstart.XXXXXX")
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
typed mesh-hub init --name quickstart
hub init --name quickstart --recovery-key "$home/recovery.key"
typed mesh-hub start --detach
hub start --detach --port 0
# Whoever looks on types on this machine: its members work all the same.
typed mesh-hub invite --uses 2 --policy always
token=$(hub invite --uses 2 --policy always)
for name in spare-1 spare-2; do
  echo "$ mesh-node join TOKEN --name $name --detach"
  member "$name" join "$token" --name "$name" --port 0 --detach
done
typed mesh-hub node list
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
git -C "$repository" init -q
git -C "$repository" symbolic-ref HEAD refs/heads/main
git -C "$repository" config user.name You
git -C "$repository" config user.email you@example.invalid
git -C "$repository" add .
git -C "$repository" commit -q -m 'A greeter with a typing error'
cd "$repository"
echo '$ sh test.sh'
if sh test.sh; then
  echo 'quickstart: the check was expected to be red' >&2
  exit 70
fi

say 'The task: mend it on another machine, check it there, have it checked again by a third'
typed mesh-hub task run --on spare-1 --check 'sh test.sh' --wait -- sed -i 's/Helo/Hello/' greet.sh
task=$(hub task run --on spare-1 --check 'sh test.sh' --wait -- sed -i 's/Helo/Hello/' greet.sh)
typed mesh-hub task describe "$task"
hub task describe "$task"

say "What came back: branch mesh/$task"
typed git diff "main...mesh/$task"
git --no-pager diff "main...mesh/$task"
git checkout -q "mesh/$task"
echo '$ sh test.sh'
sh test.sh
git checkout -q main

say 'Who did it, and who says so'
echo "$ mesh-hub receipt show $task > receipt.json"
hub receipt show "$task" >"$home/receipt.json"
mesh=$(hub status --json | sed -n 's/.*"mesh":"\([0-9a-f]*\)".*/\1/p')
typed mesh-hub receipt verify receipt.json --mesh "$mesh"
hub receipt verify "$home/receipt.json" --mesh "$mesh"

say 'A goal, for a model'
tries=0
# Ollama and other servers on this machine are found by themselves; one elsewhere is lent, where its own variable names it.
if [ -n "${OLLAMA_HOST:-}" ]; then
  case "$OLLAMA_HOST" in http://* | https://*) url=$OLLAMA_HOST ;; *) url=http://$OLLAMA_HOST ;; esac
  case "${url#*//}" in *:*) ;; *) url=$url:11434 ;; esac
  if member spare-1 models add "$url" >/dev/null 2>&1; then tries=5; fi
fi
goal='The greeting in greet.sh is misspelt; mend it'
models_offered() { hub node describe spare-1 --json | sed -n 's/.*"models":\[\([^]]*\)\].*/\1/p'; }
models=$(models_offered)
# What was just lent is on its way to the hub.
while [ -z "$models" ] && [ "$tries" -gt 0 ]; do
  sleep 1
  tries=$((tries - 1))
  models=$(models_offered)
done
if [ -n "$models" ]; then
  typed mesh-hub task code "$goal" --check 'sh test.sh' --timeout 3m --wait
  # A model may be slow, or not up to it; the mesh is shown all the same.
  if made=$(MESH_HOME="$home/hub" timeout 300 "$root/scripts/mesh-hub" \
    task code "$goal" --check 'sh test.sh' --timeout 3m --wait); then
    typed git diff "main...mesh/$made"
    git --no-pager diff "main...mesh/$made"
  else
    echo "the model ($models) did not reach the goal${made:+; why: mesh-hub task logs $made}"
  fi
else
  echo 'No model server answers on this machine. With Ollama running and a model pulled, this would be typed next:'
  typed mesh-hub task code "$goal" --check 'sh test.sh' --wait
fi

seconds=$(($(date +%s) - began))
say "Done in $seconds s"
echo "repository  $repository  (branch mesh/$task)"
echo "receipt     $home/receipt.json"
echo "log         $home/hub/log  (a JSON line for each thing that happened)"
if [ "$keep" = yes ]; then
  cat <<EOF

The mesh stays up. To go on with it in this shell:
  export PATH=$(quoted "$root/scripts"):"\$PATH" MESH_HOME=$(quoted "$home/hub")
  cd $(quoted "$repository")
  mesh-hub task apply $task        # the mended greeting, into main
  mesh-hub task run --check 'sh test.sh' --wait -- sh -c 'echo more >> notes.txt'
  mesh-hub ledger tail                   # everything that happened, one line each
To stop it:
  mesh-node stop --dir $(quoted "$home/spare-1"); mesh-node stop --dir $(quoted "$home/spare-2"); mesh-hub stop
  rm -rf $(quoted "$home")
EOF
else
  stop_all
  echo "stopped     nothing is left running; delete it when you have seen enough:  rm -rf $(quoted "$home")"
  echo "            to keep such a mesh running:  scripts/quickstart.sh --keep"
fi
