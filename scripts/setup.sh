# Sourced by quickstart.sh and test.sh: what this machine needs before anything runs. POSIX sh.

# Installs Debian packages that are missing, when it may; otherwise prints the exact command.
# need_packages NAME...: returns 1 where something is missing and could not be installed.
need_packages() {
  missing=''
  for package in "$@"; do
    if command -v dpkg-query >/dev/null 2>&1; then
      dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
    elif [ "$package" = bubblewrap ]; then
      command -v bwrap >/dev/null 2>&1 || missing="$missing $package"
    fi
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing$missing" >&2
    # shellcheck disable=SC2086
    { apt-get install -y -qq $missing || { apt-get update -qq && apt-get install -y -qq $missing; }; } >/dev/null 2>&1 &&
      return 0
  fi
  echo "setup: missing:$missing" >&2
  if command -v apt-get >/dev/null 2>&1; then
    echo "setup: run  sudo apt-get install -y$missing" >&2
  elif command -v dnf >/dev/null 2>&1; then
    echo "setup: run  sudo dnf install -y$missing" >&2
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
    npm install --no-save --no-audit --no-fund --loglevel=error >&2
  fi
}
