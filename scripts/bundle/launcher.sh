#!/bin/sh
# Runs @BIN@ with the Node that lies beside it, wherever a link to this file stands.
self=$0
while [ -h "$self" ]; do
  target=$(readlink -- "$self")
  case "$target" in
  /*) self=$target ;;
  *) self=$(dirname -- "$self")/$target ;;
  esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")/.." && pwd -P) || exit 6
exec "$root/node/bin/node" "$root/app/scripts/bin/@BIN@.js" "$@"
