#!/bin/sh
# Installs what lies beside this file; needs no network and nothing but a POSIX shell.
#   ./install.sh [--prefix DIR]               to DIR/lib/superfleet-…, with mesh-hub and mesh-node in DIR/bin
#   ./install.sh --uninstall [--prefix DIR]   takes that away again; data folders stay
# DIR is /usr/local for root and ~/.local for everybody else.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
uninstall=no
while [ $# -gt 0 ]; do
  case "$1" in
  --uninstall) uninstall=yes ;;
  --prefix)
    [ $# -gt 1 ] || { echo 'install: --prefix needs a folder' >&2; exit 2; }
    prefix=$2
    shift
    ;;
  *)
    echo "install: expected [--uninstall] [--prefix DIR], got $1" >&2
    exit 2
    ;;
  esac
  shift
done
case "$prefix" in /*) ;; *) prefix=$PWD/$prefix ;; esac
name=$(basename -- "$here")
case "$name" in
superfleet-[0-9]*) ;;
*)
  echo "install: expected to lie in a folder named as the archive, superfleet-VERSION-PLATFORM, got $name" >&2
  exit 2
  ;;
esac
lib=$prefix/lib/$name

# True where a program's link is one of ours, of this version or another.
ours() { [ -h "$1" ] && case "$(readlink -- "$1")" in "$prefix"/lib/superfleet-[0-9]*/bin/*) true ;; *) false ;; esac }

if [ "$uninstall" = yes ]; then
  for bin in mesh-hub mesh-node; do
    if ours "$prefix/bin/$bin"; then rm -- "$prefix/bin/$bin"; fi
  done
  rm -rf -- "$lib"
  echo "uninstalled from $prefix; data folders are where they were"
  exit 0
fi

for bin in mesh-hub mesh-node; do
  if { [ -e "$prefix/bin/$bin" ] || [ -h "$prefix/bin/$bin" ]; } && ! ours "$prefix/bin/$bin"; then
    echo "install: $prefix/bin/$bin is there and is not one of ours; move it away, or give another --prefix" >&2
    exit 6
  fi
done
if command -v sha256sum >/dev/null 2>&1; then
  sums='sha256sum --quiet -c'
else
  sums='shasum -a 256 -c'
fi
# Before anything is replaced: a stick that was pulled out too early gives half an archive.
(cd "$here" && $sums SHA256SUMS >/dev/null) || {
  echo 'install: the files are not what was packed; unpack the archive again' >&2
  exit 5
}
mkdir -p "$prefix/lib" "$prefix/bin"
new=$lib.new.$$
trap 'rm -rf -- "$new"' EXIT
cp -R "$here" "$new"
"$new/bin/mesh-node" --version >/dev/null || {
  echo "install: the Node in this archive does not run on this machine ($(uname -sm)); take the archive of its platform" >&2
  exit 6
}
if [ "$here" != "$lib" ]; then
  rm -rf -- "$lib"
  mv "$new" "$lib"
fi
for bin in mesh-hub mesh-node; do ln -sf -- "$lib/bin/$bin" "$prefix/bin/$bin"; done
echo "installed $("$prefix/bin/mesh-node" --version) to $lib"
case ":$PATH:" in
*":$prefix/bin:"*) ;;
*) echo "put it on the PATH:  export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
case "$(uname -s)" in
Linux)
  command -v bwrap >/dev/null 2>&1 ||
    echo 'bubblewrap is not on this machine: it can join, but runs no tasks until the package bubblewrap is installed' >&2
  ;;
esac
echo 'next:  mesh-node doctor   and   mesh-node join TOKEN'
