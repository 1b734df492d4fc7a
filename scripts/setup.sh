#!/bin/sh
# What a machine needs before anything of this clone runs: bubblewrap and git by the package manager, and the modules.
# Run it on every machine; quickstart.sh and test.sh source it. POSIX sh.

# What shows that a Debian package is there, whoever installed it; nothing for those without a program.
program_of() {
  case "$1" in
  apparmor) echo apparmor_parser ;;
  bubblewrap) echo bwrap ;;
  iproute2) echo ip ;;
  nftables) echo nft ;;
  systemd) echo systemd-analyze ;;
  util-linux) echo setpriv ;;
  libfaketime) ;;
  *) echo "$1" ;;
  esac
}

# Some of these programs lie in sbin, which is not on everybody's PATH.
has_program() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# A library alone; where it lies differs between distributions.
has_faketime() {
  for library in /usr/lib/*/faketime/libfaketime.so.1 /usr/lib*/faketime/libfaketime.so.1; do
    if [ -e "$library" ]; then return 0; fi
  done
  return 1
}

# Installs packages that are missing, when it may; otherwise prints the exact command.
# need_packages NAME...: returns 1 where something is missing and could not be installed.
need_packages() {
  missing=''
  for package in "$@"; do
    program=$(program_of "$package")
    if [ -n "$program" ] && has_program "$program"; then continue; fi
    if [ -z "$program" ] && has_faketime; then continue; fi
    missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && has_program apt-get; then
    echo "setup: installing$missing" >&2
    # shellcheck disable=SC2086
    { apt-get install -y -qq $missing || { apt-get update -qq && apt-get install -y -qq $missing; }; } >/dev/null 2>&1 &&
      return 0
  fi
  sudo='sudo '
  [ "$(id -u)" != 0 ] || sudo=''
  echo "setup: missing:$missing" >&2
  if has_program apt-get; then
    echo "setup: run  ${sudo}apt-get install -y$missing" >&2
  elif has_program dnf; then
    echo "setup: run  ${sudo}dnf install -y$(echo "$missing" | sed 's/iproute2/iproute/')" >&2
  elif has_program pacman; then
    echo "setup: run  ${sudo}pacman -S --needed$missing" >&2
  elif has_program zypper; then
    echo "setup: run  ${sudo}zypper install -y$missing" >&2
  elif has_program apk; then
    echo "setup: run  ${sudo}apk add$missing" >&2
  else
    echo "setup: install them with this system's package manager" >&2
  fi
  return 1
}

# Installs the modules of package-lock.json, where they are not there yet.
install_modules() {
  if [ ! -x node_modules/node/bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    command -v npm >/dev/null 2>&1 || { echo 'setup: npm is missing: install Node.js 20 or later' >&2; return 1; }
    echo 'setup: installing modules' >&2
    # Not `npm ci`: it refuses where a registry lacks the optional binaries of other platforms. The versions are the
    # lock file's either way.
    npm install --no-save --no-audit --no-fund --no-update-notifier --loglevel=error >&2
  fi
}

# Run by itself, not sourced.
case "${0##*/}" in
setup.sh)
  set -eu
  cd "$(dirname "$0")/.."
  need_packages bubblewrap git || exit 6
  install_modules || exit 6
  echo "ready: put $PWD/scripts on your PATH (export PATH=\"$PWD/scripts:\$PATH\"), then mesh-hub and mesh-node are there" >&2
  ;;
esac
