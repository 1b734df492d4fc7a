#!/bin/sh
# Sets up what the tests need and runs all of them. As root it may install Debian packages; otherwise it says which
# are missing, and the tests that need them are skipped aloud.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages bubblewrap git openssl iproute2 tcpdump nftables libfaketime tmux util-linux systemd python3 apparmor
install_modules
npm run -s check
exec npm test --silent
